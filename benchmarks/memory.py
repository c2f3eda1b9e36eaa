"""Peak memory of a save on top of the state: each way in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from common import STATES

if TYPE_CHECKING:
    from pathlib import Path

WAYS = ("mlc-core", "torch.save + fsync", "safetensors + fsync", "DCP + fsync", "Lightning + fsync")
CODE = """
import sys, resource, pathlib
from common import STATES
from saving import savers
training = STATES[sys.argv[2]]()
folder = pathlib.Path(sys.argv[3])
way = savers(folder, training)[sys.argv[1]]
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
def now():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
open("/proc/self/clear_refs", "w").write("5")
before = now()
way()
print("PEAK", (peak() - before) / 1024)
"""


def tables(folder: Path, name: str) -> list[str]:
    """Return the table for the state *name*."""
    lines = [f"## Peak memory of a save, on top of the state, {name}", "", "| | MiB |", "|---|---|"]
    for way in WAYS:
        here = folder / "memory"
        here.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", CODE, way, name, str(here)],
            capture_output=True,
            text=True,
            check=True,
            cwd=sys.path[0],
        )
        peak = float(next(line for line in done.stdout.splitlines() if line.startswith("PEAK")).split()[1])
        lines.append(f"| {way} | {peak:,.0f} |")
    assert name in STATES
    return ["\n".join(lines)]
