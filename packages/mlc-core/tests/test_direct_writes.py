"""Large files past the page cache: what is on the disk is what was given, whatever the system refuses on the way."""

import errno
import fcntl
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlc_core import DiskFullError, StorageError
from mlc_core.memory import ALIGNMENT, Slab, Spans
from mlc_core.storage import direct, files
from mlc_core.storage.direct import CHUNK
from mlc_core.storage.removal import delete, wait_until_deleted

SCRIPTS = Path(__file__).parent / "scripts"
MIB = 1 << 20
SIZES = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7]
NOISE = random.Random(0).randbytes(max(SIZES) + 1)
LARGE = 3 * CHUNK + 7
LONG = 60  # seconds; nobody waits for them unless something hangs


class Elsewhere:
    """Content that must be copied before it can be read, as a tensor on a device."""

    def __init__(self, content):
        self.content = bytes(content)
        self.size = len(self.content)

    def address(self):
        """Return nothing: it cannot be read where it is."""

    def view(self):
        """Return a copy, which nobody else holds."""
        return bytearray(self.content)


def reused(pieces):
    """Yield each piece in the same buffer, as a serializer may: it holds until the next one is asked for."""
    buffer = bytearray()
    for piece in pieces:
        buffer[:] = piece
        yield buffer


FORMS = {
    "list of bytes": lambda pieces: [bytes(piece) for piece in pieces],
    "generator": lambda pieces: (bytearray(piece) for piece in pieces),
    "reused buffer": reused,
    "views": lambda pieces: [memoryview(bytes(piece)) for piece in pieces],
    "spans": lambda pieces: Spans([bytearray(piece) for piece in pieces]),
    "spans from elsewhere": lambda pieces: Spans([Elsewhere(piece) for piece in pieces]),
    "mixed spans": lambda pieces: Spans(
        [(Elsewhere, bytes)[number % 2](piece) for number, piece in enumerate(pieces)],
    ),
}


def split(content, cuts):
    """Return *content* in pieces, cut at *cuts*."""
    places = sorted(min(cut, len(content)) for cut in cuts)
    return [content[begin:end] for begin, end in zip([0, *places], [*places, len(content)], strict=True)]


def check(path, content, digest):
    """Hold the file and its digest against what was given."""
    assert content == path.read_bytes()
    assert xxhash.xxh3_128_hexdigest(content) == digest


near_borders = st.sampled_from(SIZES).flatmap(lambda size: st.integers(max(0, size - 2), size + 2))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Names of files that are not there yet."""
    folder = tmp_path_factory.mktemp("files")
    numbers = iter(range(10**9))

    def name():
        for old in folder.iterdir():
            old.unlink()
        return folder / str(next(numbers))

    return name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_file_is_what_was_given(fresh, form, size):
    """Around every border, in every form, cut where it hurts."""
    path, content = fresh(), NOISE[:size]
    digest = files.write_durably(path, size, FORMS[form](split(content, [0, 1, ALIGNMENT, MIB - 1, CHUNK, CHUNK + 9])))

    check(path, content, digest)


@given(near_borders, st.lists(near_borders, max_size=5), st.sampled_from(sorted(FORMS)), st.integers(0, 9))
def test_file_is_what_was_given_in_any_pieces(fresh, size, cuts, form, begin):
    """Any size, any cuts, empty pieces among them."""
    path, content = fresh(), NOISE[begin : begin + size]
    digest = files.write_durably(path, len(content), FORMS[form](split(content, cuts)))

    check(path, content, digest)


@given(near_borders, st.lists(st.integers(0, 3 * CHUNK // ALIGNMENT), max_size=3), st.booleans())
@example(size=3 * CHUNK, cuts=[1024], aligned=True)
def test_aligned_memory_is_written_from_where_it_is(fresh, size, cuts, aligned):
    """An image needs no second copy, and where it is not aligned it gets one."""
    slab = Slab(4 * CHUNK)
    begin = 0 if aligned else 64
    slab.view[begin : begin + len(NOISE)] = NOISE
    size = min(size, len(NOISE))
    view = slab.view[begin : begin + size]
    path = fresh()
    digest = files.write_durably(path, size, Spans(split(view, [cut * ALIGNMENT for cut in cuts]), still=True))

    check(path, NOISE[:size], digest)


# ---------------------------------------------------------------------- what file systems refuse


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("made", [False, True], ids=["not made", "made first"])
def test_refusal_at_open(fresh, monkeypatch, code, made):
    """A file system without direct I/O may say so before or after it has made the file."""
    real = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & direct.DIRECT and not flags & os.O_DIRECTORY:
            if made:
                os.close(real(path, flags & ~direct.DIRECT, *arguments, **options))
            raise OSError(code, os.strerror(code))
        return real(path, flags, *arguments, **options)

    path = fresh()
    monkeypatch.setattr(os, "open", refuse)

    check(path, NOISE[:LARGE], files.write_durably(path, LARGE, [NOISE[:LARGE]]))


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_other_errors_at_open_are_errors(fresh, monkeypatch, code):
    """They are not tried again in another way."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DiskFullError if code == errno.ENOSPC else StorageError):
        files.write_durably(fresh(), LARGE, [NOISE[:LARGE]])


def test_file_that_is_there_is_not_written_to(fresh):
    """Nothing is ever overwritten."""
    path = fresh()
    path.write_bytes(b"theirs")
    with pytest.raises(StorageError):
        files.write_durably(path, LARGE, [NOISE[:LARGE]])

    assert b"theirs" == path.read_bytes()


class Refusing:
    """A file system that takes descriptors for direct I/O, but not every write to them."""

    def __init__(self, refused):
        self.real, self.refused, self.calls, self.turn = os.pwrite, refused, 0, threading.Lock()

    def __call__(self, descriptor, data, offset):
        """Refuse, or write."""
        with self.turn:
            self.calls += 1
            call = self.calls
        if call in self.refused and fcntl.fcntl(descriptor, fcntl.F_GETFL) & direct.DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return self.real(descriptor, data, offset)


@pytest.mark.parametrize("refused", [{1}, {2}, {3}, {1, 2, 3, 4}], ids=str)
def test_refusal_at_write(fresh, monkeypatch, refused):
    """The rest goes through the page cache."""
    path = fresh()
    monkeypatch.setattr(os, "pwrite", Refusing(refused))

    check(path, NOISE[:LARGE], files.write_durably(path, LARGE, [NOISE[:LARGE]]))


def test_refusal_of_both_workers_at_once(fresh, monkeypatch):
    """The second one hears of it when the first one has left direct I/O already, and tries again all the same."""
    real, met, refused = os.pwrite, threading.Barrier(2), threading.local()
    first = threading.Lock()

    def refuse(descriptor, data, offset):
        if hasattr(refused, "once"):
            return real(descriptor, data, offset)
        refused.once = True
        met.wait(LONG)
        if not first.acquire(blocking=False):
            while fcntl.fcntl(descriptor, fcntl.F_GETFL) & direct.DIRECT:
                time.sleep(0.001)
        raise OSError(errno.EINVAL, "Invalid argument")

    path = fresh()
    monkeypatch.setattr(os, "pwrite", refuse)

    check(path, NOISE[:LARGE], files.write_durably(path, LARGE, [NOISE[:LARGE]]))


def test_refusal_for_ever_is_an_error(fresh, monkeypatch):
    """It ends."""

    def refuse(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StorageError, match="Invalid argument"):
        files.write_durably(fresh(), LARGE, [NOISE[:LARGE]])


@given(st.lists(st.sampled_from([1, 7, 511, 512, 4095, 4096, 4097, MIB, CHUNK - 1]), min_size=1, max_size=6))
@settings(max_examples=20)
def test_short_writes_are_continued(fresh, lengths):
    """The system may take less than it is given, aligned or not."""
    real, left, turn = os.pwrite, list(lengths), threading.Lock()

    def short(descriptor, data, offset):
        with turn:
            length = left.pop() if left else len(data)
        if length % ALIGNMENT:  # no kernel writes a part of a block directly
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            with turn:
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~direct.DIRECT)
        return real(descriptor, data[:length], offset)

    path = fresh()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", short)
        digest = files.write_durably(path, LARGE, [NOISE[:LARGE]])

    check(path, NOISE[:LARGE], digest)


@pytest.fixture
def tmpfs(tmp_path):
    """A file system in memory."""
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", tmp_path]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system of our own needs root and mount")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_other_file_systems(tmpfs):
    """A tmpfs takes it, with or without direct I/O, and a full one says so."""
    check(tmpfs / "a", NOISE[:LARGE], files.write_durably(tmpfs / "a", LARGE, [NOISE[:LARGE]]))

    with pytest.raises(DiskFullError, match="save again"):
        files.write_durably(tmpfs / "b", LARGE, [NOISE[:LARGE]])


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("announced", [MIB, LARGE - 1, LARGE + 1, LARGE + CHUNK, 2 * CHUNK])
@pytest.mark.parametrize("form", FORMS)
def test_wrong_size_is_an_error(fresh, form, announced):
    """More as well as less."""
    given_, word = (LARGE, "more") if announced < LARGE else (LARGE, "less")
    with pytest.raises(StorageError, match=f"announced with {announced:,} bytes and given {word}"):
        files.write_durably(fresh(), announced, FORMS[form](split(NOISE[:given_], [CHUNK - 3])))


@pytest.mark.parametrize("announced", [0, 9, 11])
def test_wrong_size_of_a_short_file_is_an_error(fresh, announced):
    """The same, below what is worth two workers."""
    with pytest.raises(StorageError, match=f"announced with {announced} bytes and given 10"):
        files.write_durably(fresh(), announced, [b"0123456789"])


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
def test_error_in_one_worker_surfaces_and_the_other_ends(fresh, monkeypatch, fail_at):
    """What it met is what is told; no thread and no buffer is lost."""
    real, calls, turn = os.pwrite, [], threading.Lock()

    def fail(descriptor, data, offset):
        with turn:
            calls.append(offset)
            number = len(calls)
        if number == fail_at:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, data, offset)

    threads = threading.active_count()
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        files.write_durably(fresh(), LARGE, [NOISE[:LARGE]])

    assert threads == threading.active_count()
    assert 1 <= direct._kept.qsize() <= 2


class SlowToEnd:
    """Loans of buffers where the first worker that fails ends last."""

    def __init__(self):
        self.first, self.other = threading.Lock(), threading.Event()

    @contextmanager
    def lend(self):
        """Lend one."""
        try:
            yield Slab(CHUNK)
        finally:
            if self.first.acquire(blocking=False):
                self.other.wait(LONG)
                time.sleep(0.05)
            else:
                self.other.set()


def test_first_error_is_the_one_that_is_told(fresh, monkeypatch):
    """Not that nothing came after it, which is all that the other worker sees."""

    def pieces():
        yield NOISE[:CHUNK]
        msg = "the device is lost"
        raise RuntimeError(msg)

    monkeypatch.setattr(direct, "_borrowed", SlowToEnd().lend)
    with pytest.raises(RuntimeError, match="the device is lost"):
        files.write_durably(fresh(), LARGE, pieces())


def test_interrupted_save_writes_to_no_other_file(fresh, monkeypatch):
    """Ctrl-C while the helper writes: its descriptor may soon be another file's, so that it must have ended."""
    real, wait, main = os.pwrite, threading.Thread.join, threading.get_ident()
    interrupted = threading.Event()

    def late(descriptor, data, offset):
        if threading.get_ident() != main:
            assert interrupted.wait(LONG)
            time.sleep(0.05)
        return real(descriptor, data, offset)

    def interrupt(self, *arguments):
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        wait(self, *arguments)

    path, threads = fresh(), threading.active_count()
    monkeypatch.setattr(os, "pwrite", late)
    monkeypatch.setattr(threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_durably(path, LARGE, [NOISE[:LARGE]])

    assert threads == threading.active_count()


def test_one_worker_is_enough(fresh, monkeypatch):
    """While the interpreter ends no more threads begin, and a save at that moment is worth the most."""

    def refuse(_):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    path = fresh()
    monkeypatch.setattr(threading.Thread, "start", refuse)

    check(path, NOISE[:LARGE], files.write_durably(path, LARGE, [NOISE[:LARGE]]))


# ---------------------------------------------------------------------- several at once


def test_files_written_at_the_same_time_do_not_mix(tmp_path):
    """Each has its own bytes, and no more than two buffers are kept."""
    contents = [NOISE[number : number + LARGE - 9] for number in range(6)]
    begin, digests = threading.Barrier(6), {}

    def write(number):
        begin.wait(LONG)
        content = contents[number]
        digests[number] = files.write_durably(tmp_path / str(number), len(content), Spans([content]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, content in enumerate(contents):
        check(tmp_path / str(number), content, digests[number])
    assert 1 <= direct._kept.qsize() <= 2


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("form", [lambda view: [view], lambda view: Spans([view])], ids=["list", "spans"])
def test_content_that_changes_meanwhile_has_the_digest_of_what_was_written(fresh, monkeypatch, form, size):
    """What is saved while it changes is anybody's guess, but it is not taken for a broken disk later."""
    slab = Slab(LARGE)  # on a page, as a mapped array is

    def change_first(real):
        def write(descriptor, data, *place):
            slab.view[:] = os.urandom(1) * slab.size
            return real(descriptor, data, *place)

        return write

    for call in ("write", "pwrite"):
        monkeypatch.setattr(os, call, change_first(getattr(os, call)))
    path = fresh()
    digest = files.write_durably(path, size, form(slab.view[:size]))

    check(path, path.read_bytes(), digest)


# ---------------------------------------------------------------------- removal


def test_what_is_deleted_is_gone_after_a_while(tmp_path):
    """Beside the work, and what is not there is no error."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    delete(tmp_path / "a")
    delete(tmp_path / "absent")
    wait_until_deleted()

    assert [] == list(tmp_path.iterdir())


def test_removal_goes_on_in_a_forked_process(tmp_path):
    """A child has no thread of its parent's."""
    command = [sys.executable, SCRIPTS / "async_fork.py", "removal", tmp_path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONG)

    assert "left" == done.stdout.strip()
