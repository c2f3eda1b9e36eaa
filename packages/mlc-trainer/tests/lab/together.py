"""Several processes that find each other as torchrun lets them, and what may befall one."""

import os
import signal
import socket
import time
import traceback
import warnings

import attrs

from mlc_trainer import PreemptedError

LONG = 120.0  # seconds that nothing here takes


def find_port():
    """Return a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def fork_ranks(count, work):
    """Run *work*, told its rank, in *count* forked processes that find each other as torchrun lets them."""
    port, children = find_port(), []
    for rank in range(count):
        child = os.fork()
        if not child:
            code = 1
            try:
                facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
                os.environ.update({**{name: str(one) for name, one in facts.items()}, "MASTER_ADDR": "127.0.0.1"})
                warnings.simplefilter("ignore")
                work(rank)
                code = 0
            except PreemptedError as error:
                code = error.exit_status
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return children


def wait_for(children):
    """Return how each of *children* ended; one that is left alone for long has failed."""
    deadline, ends = time.monotonic() + LONG, {}
    while len(ends) < len(children):
        for child in children:
            if child not in ends:
                found, status = os.waitpid(child, os.WNOHANG)
                if found:
                    ends[child] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            for child in children:
                if child not in ends:
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return [ends[child] for child in children]


def gang(count, work):
    """Do both."""
    return wait_for(fork_ranks(count, work))


@attrs.define
class Fate:
    """Sends *number* to this process at the end of step *step*."""

    step: int
    number: int = signal.SIGKILL

    def hit(self, position):
        """Do it when it is time."""
        if position.step == self.step:
            os.kill(os.getpid(), self.number)
