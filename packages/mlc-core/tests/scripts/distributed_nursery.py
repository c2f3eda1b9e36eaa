"""Start ranks: for each line of JSON with a scenario and its arguments, fork so many, and answer what each came to.

Importing torch once and forking is how a hundred small clusters take seconds.
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch._dynamo  # what the ranks would import, each of them for itself
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
import distributed_scenarios as scenarios

from mlc_core import serializers

PATIENCE = 60  # seconds for all ranks of one scenario
TIMEOUT = timedelta(seconds=20)  # of the process group


def be(rank, count, store, name, arguments):
    """Be one rank, and return what the scenario returned or raised."""
    try:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count, timeout=TIMEOUT)
        dist.barrier()  # a rank that is done and gone would break the meeting of those that still connect
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = getattr(scenarios, name)(**arguments)
    except BaseException as error:
        return {"error": type(error).__name__, "message": str(error), "trace": traceback.format_exc()}
    told = [str(one.message) for one in caught if one.category.__name__ == "CheckpointWarning"]
    return {"result": result, "warnings": told}


def run(name, count, arguments):
    """Return what each rank came to; None for one that was killed."""
    with tempfile.TemporaryDirectory() as folder:
        children = {}
        for rank in range(count):
            child = os.fork()
            if child == 0:
                answer = be(rank, count, f"{folder}/store", name, arguments)
                Path(folder, str(rank)).write_text(json.dumps(answer))
                with suppress(BaseException):
                    os.close(1)
                os._exit(0)
            children[child] = rank
        end = time.monotonic() + PATIENCE
        while children and time.monotonic() < end:
            child, _ = os.waitpid(-1, os.WNOHANG)
            if child:
                del children[child]
            else:
                time.sleep(0.01)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        paths = [Path(folder, str(rank)) for rank in range(count)]
        return [json.loads(one.read_text()) if one.exists() else None for one in paths]


torch.set_num_threads(1)
serializers().names()
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(run(asked["scenario"], asked["ranks"], asked["arguments"])), flush=True)
