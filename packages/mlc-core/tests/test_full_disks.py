"""No room, bad disks, short writes: a typed error, and what was saved before is untouched."""

import errno
import functools
import os
import resource
from contextlib import contextmanager

import pytest

from mlc_core import CheckpointManager, DiskFullError, StorageError
from mlc_core.retention import KeepAll


def manage(place):
    """Open a manager that keeps everything."""
    return CheckpointManager(place, "unet", retention=KeepAll())


def save(manager, epoch, size=100):
    """Save *size* bytes and more."""
    return manager.save_checkpoint(items={"data": b"x" * size, "epoch": epoch}, epoch=epoch)


@pytest.fixture
def check_untouched(leftovers):
    """Look at what a save has left that could not be."""
    return functools.partial(look_untouched, leftovers)


def look_untouched(leftovers, place):
    """The first checkpoint is all there is, it is sound, and nothing is left of the other."""
    manager = manage(place)
    assert ["epoch_1"] == [one.name for one in manager.list_checkpoints()]
    assert 1 == manager.load_checkpoint("latest").state["epoch"]
    assert [] == leftovers(place / "unet")


@contextmanager
def file_size_limit(size):
    """Let no file of this process grow beyond *size* bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [30_000, 3_000_000], ids=["while writing", "while reserving"])
def test_file_that_may_not_grow(tmp_path, check_untouched, size):
    """A limit of the system is a DiskFullError that says what can be done."""
    manager = manage(tmp_path)
    save(manager, 1)
    with file_size_limit(20_000), pytest.raises(DiskFullError, match=r"no room left for .*; free some space or lower"):
        save(manager, 2, size)

    check_untouched(tmp_path)
    save(manager, 2, size)
    assert 2 == manage(tmp_path).load_checkpoint().state["epoch"]


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize(
    ("size", "left"),
    [(1_000, 4096), (1_500_000, 1_000_000), (7_000_000, 6_000_000), (60_000_000, 0)],
    ids=["in a small file", "while reserving", "while reserving more", "at the start"],
)
def test_really_full_disk(disks, check_untouched, faults, size, left, kind):
    """A file system without room: before it begins where that is known, and else in the middle."""
    disk = disks(kind).mount
    manager = manage(disk)
    save(manager, 1)
    filler = disk / "filler"
    hold = os.open(filler, os.O_CREAT | os.O_WRONLY)
    with faults.case("a disk that is full"), pytest.MonkeyPatch.context() as patched:
        if left:  # room is lost after it was asked for
            patched.setattr("mlc_core.storage.files.check_room", lambda *_: None)
            fill(disk, hold, left)
        with pytest.raises(DiskFullError, match="save again"):
            save(manager, 2, size)
    os.close(hold)
    filler.unlink()
    check_untouched(disk)
    save(manager, 2)
    assert 2 == manage(disk).load_checkpoint().state["epoch"]


def fill(disk, hold, left):
    """Take the room of *disk*, what is reserved for root too, for the open file *hold*, but for about *left* bytes."""
    status = os.statvfs(disk)
    size = status.f_bfree * status.f_frsize - left
    while size > 4096:
        try:
            os.posix_fallocate(hold, os.fstat(hold).st_size, size)
        except OSError:  # the file system needs some for itself
            size //= 2
        else:
            status = os.statvfs(disk)
            size = min(size, status.f_bfree * status.f_frsize - left)


def test_no_room_is_said_before_anything_is_written(tmp_path, monkeypatch, check_untouched):
    """With both numbers."""
    free = os.statvfs(tmp_path)
    manager = manage(tmp_path)
    save(manager, 1)
    small = os.statvfs_result((free.f_bsize, 1024, free.f_blocks, 4, 4, *tuple(free)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: small)

    with pytest.raises(
        DiskFullError, match=r"has room for 4,096 bytes and the checkpoint needs 1,0\d\d,\d\d\d; free some"
    ):
        save(manager, 2)
    check_untouched(tmp_path)


class FailingCall:
    """A call of the operating system that fails once, when it is made for the *fail_at*-th time."""

    def __init__(self, name, code):
        self.name, self.real, self.code = name, getattr(os, name), code
        self.made, self.fail_at = 0, None

    def __call__(self, *arguments, **options):
        """Fail, or do it."""
        self.made += 1
        if self.made == self.fail_at:
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*arguments, **options)


@pytest.mark.filterwarnings("ignore::mlc_core.CheckpointWarning")  # a link that could not be made
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", ["write", "fsync", "rename", "open", "mkdir", "posix_fallocate", "symlink"])
def test_any_failing_call_of_a_save(tmp_path, faults, name, code):
    """Whichever fails, the error is typed, what was there is untouched, nothing is left, and the next save works."""
    call = FailingCall(name, code)

    def attempt(place):
        manager = manage(place)
        save(manager, 1)
        call.made = 0
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, name, call)
            save(manager, 2, 1_500_000)

    attempt(tmp_path / "whole")
    for fail_at in range(1, call.made + 1):
        place = tmp_path / str(fail_at)
        call.fail_at = fail_at
        error = None
        try:
            attempt(place)
        except StorageError as caught:
            error = caught
        with faults.case("an error of the kernel"):
            found = [one.epoch for one in manage(place).list_checkpoints()]
            assert found == [1, 2] or (found == [1] and isinstance(error, DiskFullError) == (code != errno.EIO))
            for one in manage(place).list_checkpoints():
                assert one.epoch == manage(place).load_checkpoint(one.name).state["epoch"]
            assert [] == list((place / "unet" / ".mlc" / "staging").glob("*"))
            save(manage(place), 3)
            assert 3 == manage(place).load_checkpoint("latest").state["epoch"]


def test_failing_sync_of_the_directory_after_the_rename(tmp_path, monkeypatch, leftovers):
    """The error is told, and what is there is whole: it may survive a power cut or not, but never in part."""
    manager = manage(tmp_path)
    save(manager, 1)
    real = os.fsync

    def fail(descriptor):
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == str(tmp_path / "unet"):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match="epoch_2: Input/output error"):
            save(manager, 2)
    assert 2 == manage(tmp_path).load_checkpoint("latest").state["epoch"]
    assert [] == leftovers(tmp_path / "unet")


def test_short_writes_are_continued(tmp_path, monkeypatch):
    """The system may take less than it is given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
    save(manage(tmp_path), 1)

    assert b"x" * 100 == manage(tmp_path).load_checkpoint().state["data"]


def test_file_system_that_cannot_reserve(tmp_path, monkeypatch):
    """It is written without, and other errors of the same call are errors."""

    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    save(manage(tmp_path), 1, 2_000_000)

    assert 1 == manage(tmp_path).load_checkpoint().state["epoch"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_place_that_may_not_be_written(tmp_path):
    """A typed error that names it."""
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        save(manage(tmp_path), 1)


def test_place_that_is_a_file(tmp_path):
    """A typed error that names it."""
    (tmp_path / "unet").touch()

    with pytest.raises(StorageError, match="unet"):
        save(manage(tmp_path), 1)
