"""Direct I/O where it is refused, cut short and failing: the file is right, or there is none."""

import errno
import fcntl
import os
import random
import threading

import pytest
import xxhash

from mlc_core import CheckpointManager, DiskFullError, StorageError, open_storage
from mlc_core.memory import Slab, Spans
from mlc_core.storage.direct import CHUNK, DIRECT

SIZES = [1 << 20, CHUNK, CHUNK + 1, 2 * CHUNK - 4095, 3 * CHUNK + 512, 2_500_001]
pytestmark = pytest.mark.skipif(not DIRECT, reason="this system has no direct I/O")


def content(size):
    """Return bytes that are different everywhere."""
    return random.Random(size).randbytes(size)


def cut(data):
    """Return *data* in pieces of all kinds: empty, tiny, odd, larger than a chunk."""
    chance, pieces = random.Random(len(data)), []
    while data:
        size = chance.choice([0, 1, 511, 4096, 100_003, CHUNK + 7])
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def in_a_slab(data):
    """Return *data* in memory that begins on a page, as a staged state lies."""
    slab = Slab(len(data))
    slab.view[: len(data)] = data
    return Spans([slab.view[: len(data)]])


def write(place, pieces, size):
    """Write a file to a staging in *place*, commit it, and return what lies there and the digest that was told."""
    staging = open_storage(place).stage(size)
    try:
        digest = staging.write("one.bin", size, pieces)
        staging.commit("entry", b"{}")
    finally:
        staging.discard()
    return (place / "entry" / "one.bin").read_bytes(), digest


def refuse_at_open(monkeypatch, *, made):
    """Let the file system refuse direct I/O when a file is opened, after it was *made* or before."""
    real = os.open

    def call(path, flags, *more, **options):
        if flags & DIRECT:
            if made:
                os.close(real(path, flags & ~DIRECT, *more, **options))
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", call)


def refuse_at_write(monkeypatch, code=errno.EINVAL):
    """Let the file system refuse direct I/O when something is written."""
    real = os.pwrite

    def call(descriptor, data, offset):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & DIRECT:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", call)


def take_less(monkeypatch, *sizes):
    """Let the file system take so many bytes at a time, again and again."""
    real, chance, turn = os.pwrite, random.Random(5), threading.Lock()

    def call(descriptor, data, offset):
        with turn:
            size = chance.choice(sizes)
        return real(descriptor, data[:size], offset) if size else 0

    monkeypatch.setattr(os, "pwrite", call)


HARM = {
    "nothing": lambda _: None,
    "refused at open": lambda patch: refuse_at_open(patch, made=False),
    "refused at open, after the file was made": lambda patch: refuse_at_open(patch, made=True),
    "refused at the first write": refuse_at_write,
    "not supported at the first write": lambda patch: refuse_at_write(patch, errno.EOPNOTSUPP),
    "short writes of whole pages": lambda patch: take_less(patch, 0, 4096, 1 << 20, CHUNK),
}
SHORTER = {"short writes of any size": lambda patch: take_less(patch, 0, 513, 65_537, 1_000_001, CHUNK)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lay", [cut, in_a_slab], ids=["pieces", "slab"])
@pytest.mark.parametrize("harm", [*HARM, *SHORTER])
def test_file_is_right_whatever_the_file_system_takes(tmp_path, monkeypatch, faults, harm, lay, size):
    """To the byte, with its digest, and not a byte longer."""
    data = content(size)
    {**HARM, **SHORTER}[harm](monkeypatch)

    with faults.case("direct I/O refused or cut short"):
        found, digest = write(tmp_path, lay(data), size)
        if found != data or digest != xxhash.xxh3_128_hexdigest(data):
            raise faults.Silent(harm, size)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINVAL])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_any_worker_that_fails_fails_the_file(tmp_path, monkeypatch, faults, leftovers, code, at):
    """Also when direct I/O is not what is wrong with it; nothing is committed and nothing is left."""
    real, turn, made = os.pwrite, threading.Lock(), []

    def call(descriptor, data, offset):
        with turn:
            made.append(offset)
            failing = len(made) >= at
        if failing:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", call)
    with (
        faults.case("direct I/O that fails"),
        pytest.raises(StorageError if code in {errno.EIO, errno.EINVAL} else DiskFullError),
    ):
        write(tmp_path, cut(content(3 * CHUNK)), 3 * CHUNK)
    assert {} == open_storage(tmp_path).entries()
    assert [] == leftovers(tmp_path)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("off", [-4096, -1, 1, 4096])
def test_wrong_size_is_never_committed(tmp_path, leftovers, size, off):
    """Pieces that are more or fewer than was announced are an error, in one chunk and in many."""
    with pytest.raises(StorageError, match=f"was announced with {size:,} bytes and given {'more' if off > 0 else 'l'}"):
        write(tmp_path, [content(size + off)], size)
    assert {} == open_storage(tmp_path).entries()
    assert [] == leftovers(tmp_path)


def test_pieces_that_fail_leave_nothing(tmp_path, leftovers):
    """An error of whoever gives the content, in whichever thread it comes out, is the caller's."""

    def pieces():
        yield content(CHUNK)
        msg = "the device is gone"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="the device is gone"):
        write(tmp_path, pieces(), 3 * CHUNK)
    assert [] == leftovers(tmp_path)


# ---------------------------------------------------------------------- hard links


@pytest.fixture
def arrays():
    """Something that is hard-linked when it has not changed."""
    np = pytest.importorskip("numpy")
    return {"weights": np.arange(100_000, dtype=np.uint32)}


@pytest.mark.parametrize("code", [errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EIO])
def test_link_that_cannot_be_made_is_written_instead(tmp_path, monkeypatch, faults, arrays, code):
    """A file has as many names as it can have, or the file system knows no links."""
    manager = CheckpointManager(tmp_path, "unet")
    manager.save_checkpoint(items=arrays, epoch=1)

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    with faults.case("a hard link that cannot be made"):
        path = manager.save_checkpoint(items=arrays, epoch=2)
        found = manager.load_checkpoint("latest").state["weights"]
    assert arrays["weights"].tobytes() == found.tobytes()
    assert 1 == (path / "weights.safetensors").stat().st_nlink


@pytest.mark.parametrize("harm", ["removed", "changed", "cut short", "unreadable manifest"])
def test_what_was_harmed_is_not_shared(tmp_path, faults, arrays, harm):
    """A new checkpoint is sound whatever happened to the one whose files it would have shared."""
    manager = CheckpointManager(tmp_path, "unet")
    path = manager.save_checkpoint(items=arrays, epoch=1)
    file = path / "weights.safetensors"
    for one, written in ((file, 1), (path / "manifest.json", 2)):
        os.utime(one, (written, written))  # long ago: within one tick of the clock nobody could tell
    if harm == "removed":
        file.unlink()
    elif harm == "changed":
        file.write_bytes(bytes(file.stat().st_size))
    elif harm == "cut short":
        os.truncate(file, 5000)
    else:
        (path / "manifest.json").write_bytes(b"{}")

    with faults.case("a file to be shared was harmed"):
        manager.save_checkpoint(items=arrays, epoch=2)
        if (
            arrays["weights"].tobytes()
            != CheckpointManager(tmp_path, "unet").load_checkpoint("epoch_2").state["weights"].tobytes()
        ):
            raise faults.Silent(harm)
