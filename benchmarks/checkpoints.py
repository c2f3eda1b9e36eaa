"""Checkpoints, ours beside the peers, in turn, in one process; the tables go into docs/benchmarks.md.

    python -m nox -s bench                                all of it
    python benchmarks/checkpoints.py --only saving --states S --rounds 3

A sample during which something else used the processor is thrown away and taken again.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import asynchronous
import common
import incremental
import index
import loading
import memory
import saving
import torch

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARK = "<!-- results -->"
PEERS = ("torch", "safetensors", "lightning", "accelerate")
PARTS = {
    "saving": lambda folder, options: saving.tables(folder, options.rounds, options.states),
    "loading": lambda folder, options: loading.tables(folder, options.rounds, options.states),
    "asynchronous": lambda folder, options: asynchronous.tables(
        folder, options.rounds, options.states.replace("M", "")
    ),
    "incremental": lambda folder, options: incremental.tables(folder, options.rounds),
    "memory": lambda folder, options: memory.tables(folder, options.states[0]),
    "index": lambda _folder, _options: [index.tables()],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--states", default="LSM", help="S, L and M, as the page describes them; default: all")
    parser.add_argument("--only", choices=list(PARTS), nargs="+", default=list(PARTS), help="do these parts only")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the temporary directory")
    parser.add_argument("--print", action="store_true", help="print the tables and leave the page alone")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", module="(torch|lightning|accelerate)")
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="mlc-bench-", dir=options.folder))
    try:
        parts = [table for name in options.only for table in PARTS[name](folder, options)]
    finally:
        shutil.rmtree(folder)
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
    quiet = f" {len(common.DISTURBANCES)} samples were disturbed." if common.DISTURBANCES else ""
    results = f"Measured on {machine}; {options.rounds} rounds.{quiet}\n\n" + "\n\n".join(parts)
    print(results)
    if not options.print:
        page = PAGE.read_text(encoding="utf-8").partition(MARK)[0] + f"{MARK}\n\n{results}\n"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
