"""What the tests of this package share: places, listeners, sudden death, and equality that forgives nothing."""

import fcntl
import importlib.util
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest
from hypothesis import settings

from mlc_core import CheckpointManager
from mlc_core.retention import KeepAll
from mlc_core.storage.removal import wait_until_deleted
from mlc_hooks import Plugins, hookimpl
from mlc_hooks.choice import Choice


@pytest.fixture
def memory_url():
    """A place in memory that nobody else uses."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path, memory_url):
    """Where checkpoints can lie: a directory, or the memory of this process."""
    return tmp_path / "checkpoints" if request.param == "local" else memory_url


# ---------------------------------------------------------------------- what lies beside the checkpoints


def find_leftovers(root):
    """Return what was staged, or thrown away, below the directory of a model and is still there."""
    wait_until_deleted()
    return sorted([*(root / ".mlc" / "staging").glob("*"), *(root / ".mlc" / "trash").glob("*")])


@pytest.fixture(scope="session")
def leftovers():
    """What a save should not leave behind."""
    return find_leftovers


@pytest.fixture(scope="session")
def grow_old():
    """Lets an hour pass for all that was left behind below the directory of a model, so that it may be swept."""

    def age(root):
        for path in find_leftovers(root):
            os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)

    return age


# ---------------------------------------------------------------------- equality


def is_same(one, other):
    """Say whether two values are equal in type, sign of zero, NaN and order too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, complex):
        return is_same(one.real, other.real) and is_same(one.imag, other.imag)
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=False)
        return len(one) == len(other) and all(is_same(a, b) and is_same(x, y) for (a, x), (b, y) in pairs)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(is_same(a, b) for b in other) for a in one)
    return one == other


@pytest.fixture(scope="session")
def same():
    """Equality of plain data that forgives nothing."""
    return is_same


# ---------------------------------------------------------------------- campaigns of faults


class Lost(AssertionError):
    """A checkpoint that was committed is not there, or its save can never be made again."""


class Torn(AssertionError):
    """A checkpoint is listed and cannot be loaded."""


class Silent(AssertionError):
    """A checkpoint is loaded without a word and is not what was saved."""


VERDICTS = {Lost: "lost", Torn: "torn", Silent: "silent"}


class Faults:
    """Counts the faults that were tried, and what became of the checkpoints, campaign by campaign."""

    Lost, Torn, Silent = Lost, Torn, Silent

    def __init__(self):
        self.counts = {}

    @contextmanager
    def case(self, campaign, cases=1):
        """Count what happens in the block as so many *cases* of *campaign*."""
        row = self.counts.setdefault(campaign, {"cases": 0, "lost": 0, "torn": 0, "silent": 0, "failed": 0})
        row["cases"] += cases
        try:
            yield
        except Exception as error:
            row[VERDICTS.get(type(error), "failed")] += 1
            raise
        except BaseException:  # no more time
            row["cases"] -= cases
            raise

    def sample(self, cases, most):
        """Return *cases*, or evenly chosen ones where the profile is the quick one."""
        assert cases, "nothing to try"
        return list(cases) if self.thorough or len(cases) <= most else list(cases)[:: -(-len(cases) // most)]

    @property
    def thorough(self):
        """Whether time is no matter."""
        return settings.default.max_examples > 100


@pytest.fixture(scope="session")
def faults():
    """What counts the faults; written to the file that MLC_FAULTS names."""
    found = Faults()
    yield found
    path = os.environ.get("MLC_FAULTS")
    if path:
        before = json.loads(Path(path).read_text()) if Path(path).exists() else []
        rows = [{"campaign": name, **row} for name, row in found.counts.items()]
        Path(path).write_text(json.dumps(before + rows, indent=2))


@pytest.fixture(scope="session")
def content():
    """The module that says what the processes in `scripts/` save."""
    spec = importlib.util.spec_from_file_location("content", Path(__file__).parent / "scripts" / "content.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def epochs_in(content):
    """Loads all that is in a directory, holds it against what was saved, and returns the epochs in order of commit."""

    def look(place, **given):
        manager = CheckpointManager(place, "unet", retention=KeepAll(), monitor_metric="score", mode="max")
        damaged = manager.get_checkpoint_summary()["damaged"]
        if damaged:
            raise Torn(damaged)
        found = manager.list_checkpoints()
        for one in found:
            try:
                state = manager.load_checkpoint(one.name).state
            except (OSError, ValueError) as error:
                raise Torn(one.name) from error
            if not content.is_content(dict(state), one.epoch, **given):
                raise Silent(one.name)
        if found and manager.load_checkpoint("latest").saved.id != found[-1].id:
            raise Lost(found[-1].name)
        return [one.epoch for one in found]

    return look


# ---------------------------------------------------------------------- disks of one's own

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
WITHOUT_LOG = 2
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20, "tmpfs": 20 << 20}


def run(*command):
    """Run *command* and say whether it worked."""
    return not subprocess.run(command, check=False, capture_output=True).returncode


class Disk:
    """A file system of its own, whose power can be cut."""

    def __init__(self, base, kind):
        self.image, self.mount, self.kind = base / "disk.img", base / "disk", kind

    def begin(self):
        """Make it and mount it; skip where this machine does not let us."""
        if os.geteuid() != 0 or (self.kind != "tmpfs" and shutil.which(f"mkfs.{self.kind}") is None):
            pytest.skip(f"a disk of one's own needs root, mount and mkfs.{self.kind}: not tried in this run")
        self.mount.mkdir()
        if not (self.make() and self.switch_on()):
            pytest.skip("mounts are not to be had here: not tried in this run")

    def make(self):
        """Make the file system, where there is anything to make."""
        if self.kind == "tmpfs":
            return True
        with self.image.open("wb") as file:
            file.truncate(SIZES[self.kind])
        return run(f"mkfs.{self.kind}", "-q", *(["-F"] if self.kind == "ext4" else []), self.image)

    def switch_on(self):
        """Mount it."""
        if self.kind == "tmpfs":
            return run("mount", "-t", "tmpfs", "-o", f"size={SIZES['tmpfs']}", "tmpfs", self.mount)
        return run("mount", "-o", "loop", self.image, self.mount)

    def cut(self):
        """Cut the power: what was not written is gone, and nothing more is written."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        os.close(descriptor)

    def cut_and_switch_on(self):
        """Cut the power, and switch it on again once nobody uses the dead disk any more."""
        wait_until_deleted()
        self.cut()
        self.replace()

    def replace(self):
        """Mount what survived."""
        for _ in range(200):
            if run("umount", self.mount):
                break
            time.sleep(0.02)
        assert self.switch_on()


@pytest.fixture
def disks(tmp_path_factory):
    """Makes disks of a kind: `ext4`, `xfs`, or `tmpfs`, which has no power to be cut."""
    made = []

    def make(kind):
        made.append(Disk(tmp_path_factory.mktemp("disk"), kind))
        made[-1].begin()
        return made[-1]

    yield make
    for disk in made:
        wait_until_deleted()
        run("umount", disk.mount) or run("umount", "-l", disk.mount)
        disk.image.unlink(missing_ok=True)


# ---------------------------------------------------------------------- events


@attrs.define
class Listener:
    """A plugin that writes down what it is told."""

    heard: list = attrs.field(factory=list)
    look: object = None
    """Called with each fact, to look at the storage at that very moment."""

    @hookimpl
    def mlc_checkpoint_saved(self, checkpoint, storage):
        """Hear of a save."""
        self._note("saved", checkpoint, storage, None)

    @hookimpl
    def mlc_checkpoint_removed(self, checkpoint, storage, reason):
        """Hear of a removal."""
        self._note("removed", checkpoint, storage, reason)

    @hookimpl
    def mlc_checkpoint_restored(self, checkpoint, storage):
        """Hear of a load."""
        self._note("restored", checkpoint, storage, None)

    def _note(self, what, checkpoint, storage, reason):
        self.heard.append((what, checkpoint, reason))
        if self.look is not None:
            self.look(what, checkpoint, storage)


@pytest.fixture
def listener(monkeypatch):
    """Somebody who hears every event of this test, and no other plugin."""
    plugins = Plugins(strict=False, choice=Choice(only=frozenset()))
    plugins.add_home("mlc_core")
    found = Listener()
    plugins.register(found, "listener")
    monkeypatch.setattr("mlc_core.events.shared", lambda: plugins)
    return found


# ---------------------------------------------------------------------- sudden death


class Killed(BaseException):
    """The process is no more: nothing that it calls has any effect."""


OPEN = Path("/proc/self/fd")
CALLS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.scandir", "fcntl.flock")


class Death:
    """Lets the code under it die at its n-th call of the operating system, without anything being cleaned up after it.

    The interpreter's audit events tell of most calls before they happen; `os.write`, `os.pwrite` and `os.fsync` tell
    none and are wrapped. Only the calls of one thread count: what others write, real processes are killed for.
    """

    def __init__(self):
        self.below = ""
        self.left = None
        self.calls = 0
        self.thread = None
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if self.thread == threading.get_ident() and event in CALLS:
            path = str(arguments[0])
            if not path.startswith("/") or path.startswith(self.below):  # imports and metadata are no part of a save
                self._count()

    def _count(self):
        self.calls += 1
        if self.left is not None and self.calls > self.left:
            raise Killed

    @contextmanager
    def after(self, below, calls=None):
        """Let the block die after so many *calls* that touch what is *below*, or count them only."""
        wrapped = {name: getattr(os, name) for name in ("write", "pwrite", "fsync")}
        wait_until_deleted()  # another thread has directories open meanwhile, which are not ours to close
        before = {one for one in list(OPEN.iterdir()) if one.exists()}  # the one that listed them does not, any more

        def counted(real):
            def call(*arguments):
                if self.thread == threading.get_ident():
                    self._count()
                return real(*arguments)

            return call

        self.below, self.left, self.calls = str(below), calls, 0
        for name, real in wrapped.items():
            setattr(os, name, counted(real))
        self.thread = threading.get_ident()
        try:
            with suppress(Killed):
                yield self
        finally:
            self.thread = None
            for name, real in wrapped.items():
                setattr(os, name, real)
            wait_until_deleted()
            for left_open in set(OPEN.iterdir()) - before:  # the kernel closes what the dead had open
                if left_open.is_dir():
                    os.close(int(left_open.name))


@pytest.fixture(scope="session")
def death():
    """Sudden death of the code under test, inside this process."""
    if not OPEN.is_dir():
        pytest.skip("needs /proc to close what a dead process had open")
    return Death()
