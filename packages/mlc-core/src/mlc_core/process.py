"""A second process that writes the files of staged checkpoints, so that not even the interpreter's lock is shared.

It is started anew, never forked: a fork of a process with threads and pinned memory hangs or copies. It knows neither
torch nor the model: it gets memory to read, the storage's URL and the token of a staging, and answers with digests.
"""

from __future__ import annotations

import itertools
import mmap
import os
import socket
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import orjson

from mlc_core.errors import ConfigurationError, DiskFullError, StorageError
from mlc_core.memory import Slab, Spans

if TYPE_CHECKING:
    from mlc_core.protocols import JoinableStaging, Staging, Storage
    from mlc_core.writer import Content

__all__ = ["WriterProcess"]

LONGEST = 1 << 16  # bytes of a message


class SharedSlab(Slab):
    """Memory that another process can map."""

    def __init__(self, size: int, number: int) -> None:
        self.number = number
        self.descriptor = os.memfd_create("mlc-staged", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, size)
        super().__init__(size, mmap.mmap(self.descriptor, size))


class WriterProcess:
    """Writes to *storage* from a process of its own, which is started with the first file and again if it dies.

    Raises:
        ConfigurationError: If several processes cannot write one checkpoint there, or the system has no such memory.
    """

    def __init__(self, storage: Storage) -> None:
        if not storage.capabilities.joins or not hasattr(os, "memfd_create"):
            msg = f"{storage.url} cannot be written to by a second process here; use background='thread'"
            raise ConfigurationError(msg)
        self._storage = storage
        self._slabs: weakref.WeakValueDictionary[int, SharedSlab] = weakref.WeakValueDictionary()
        self._numbers = itertools.count()
        self._known: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._end: weakref.finalize[[socket.socket, subprocess.Popen[bytes], int], WriterProcess] | None = None
        self._turn = threading.Lock()
        self._listing = threading.Lock()

    def make(self, size: int) -> SharedSlab:
        """Return memory of *size* bytes for a staged state, which the other process can read."""
        slab = SharedSlab(size, next(self._numbers))
        with self._listing:
            self._slabs[slab.number] = slab
        return slab

    def write(self, staging: Staging, content: Content) -> str:
        """Write *content*, which was staged in memory of `make`, and return its digest.

        Raises:
            DiskFullError, StorageError: If there is no room, the storage fails or the process dies.
        """
        pieces = cast("Spans", content.pieces)
        address, _ = next(pieces.spans())
        with self._listing:
            slabs = list(self._slabs.values())
        slab = next(one for one in slabs if one.address <= address < one.address + one.size)
        request = {
            "url": self._storage.url,
            "token": cast("JoinableStaging", staging).token,
            "name": content.name,
            "size": content.size,
            "slab": slab.number,
            "offset": address - slab.address,
        }
        with self._turn:
            try:
                answer = self._ask(slab, request)
            except (OSError, ValueError) as error:
                raise self._died(content.name) from error
        if "digest" in answer:
            return str(answer["digest"])
        raise (DiskFullError if answer["kind"] == "DiskFullError" else StorageError)(answer["error"])

    def _ask(self, slab: SharedSlab, request: dict[str, Any]) -> dict[str, Any]:
        channel = self._connect()
        if slab.number not in self._known:
            with self._listing:
                gone = sorted(self._known - set(self._slabs))
            self._known -= set(gone)
            announced = orjson.dumps({"slab": slab.number, "size": slab.size, "gone": gone})
            socket.send_fds(channel, [announced], [slab.descriptor])
            channel.recv(LONGEST)
            self._known.add(slab.number)
        channel.send(orjson.dumps(request))
        answer: dict[str, Any] = orjson.loads(channel.recv(LONGEST))  # nothing at all is what the dead answer
        return answer

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            command = [sys.executable, "-m", "mlc_core.process_main", str(theirs.fileno())]
            # A session of its own: Ctrl-C and a scheduler's signals are for the training, which then says when to end.
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
            theirs.close()
            self._end = weakref.finalize(self, _end, self._socket, self._process, os.getpid())
        return self._socket

    def _died(self, name: str) -> StorageError:
        process = self._process
        self.close()
        status = process.returncode if process is not None else None
        return StorageError(f"the process that wrote {name} died (exit status {status}); the next save starts another")

    def close(self) -> None:
        """End the process; it can be asked again."""
        if self._end is not None:
            self._end()
        self._socket, self._process, self._end = None, None, None
        self._known = set()


def _end(channel: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a forked child ends nothing that is its parent's
        channel.close()
        process.returncode = 0
        return
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)  # so it ends, also while a forked child has our end open
    channel.close()
    process.wait()
