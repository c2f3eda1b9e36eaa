"""What the tests of this package share: places, listeners, sudden death, and equality that forgives nothing."""

import math
import os
import sys
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest

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
