"""`python -m mlc_core.process_main DESCRIPTOR`: the other end of `WriterProcess`."""

from __future__ import annotations

import mmap
import os
import socket
import sys
from typing import Any, cast

import orjson

from mlc_core.catalogs import open_storage
from mlc_core.memory import Spans

__all__ = ["serve"]

LONGEST = 1 << 16  # bytes of a message


def serve(channel: socket.socket) -> None:
    """Write what is asked for until nobody asks any more."""
    memory: dict[int, memoryview] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, LONGEST, 1)
        if not message:
            return
        request = orjson.loads(message)
        if descriptors:
            for number in request["gone"]:
                memory.pop(number, None)
            memory[request["slab"]] = memoryview(mmap.mmap(descriptors[0], request["size"], prot=mmap.PROT_READ))
            os.close(descriptors[0])
            channel.send(b"{}")
            continue
        content = memory[request["slab"]][request["offset"] : request["offset"] + request["size"]]
        try:
            staging = cast("Any", open_storage(request["url"])).join(request["token"])
            try:
                answer = {"digest": staging.write(request["name"], request["size"], Spans([content], still=True))}
            finally:
                staging.discard()
        except Exception as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        channel.send(orjson.dumps(answer))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
