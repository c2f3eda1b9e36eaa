"""What a checkpoint survives: the tests of faults, thoroughly; the table goes into docs/faults.md.

    python benchmarks/faults.py --minutes 10

As root, with strace, mkfs.ext4 and mkfs.xfs; what is missing is not in the table. When the time is over, what was
tried until then is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "checkpoints" / "faults.md"
MARK = "<!-- results -->"
TESTS = (
    "kills",
    "corruption",
    "fault_direct",
    "fault_files",
    "fault_writers",
    "sudden_death",
    "full_disks",
    "power_cut",
)
COUNTS = ("cases", "lost", "torn", "silent")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--print", action="store_true", help="print the table and leave the page alone")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell lets it be ignored
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlc-faults-") as folder:
        results = Path(folder) / "faults.json"
        end = began + 60 * options.minutes
        failing = [name for name in TESTS if not try_out(name, results, Path(folder), end)]
        rows = json.loads(results.read_text())
    text = table(rows, failing, minutes=(time.monotonic() - began) / 60)
    if options.print:
        print(text)
    else:
        head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
        PAGE.write_text(f"{head}{MARK}\n\n{text}\n", encoding="utf-8")
    return 1 if failing else 0


def try_out(name: str, results: Path, folder: Path, end: float) -> bool:
    """Run the tests called *name* until they or the time end, and say whether none failed."""
    left = end - time.monotonic()
    if left < 5:
        return True
    tests = ROOT / "packages" / "mlc-core" / "tests" / f"test_{name}.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--hypothesis-profile=thorough",
        "-p",
        "no:cacheprovider",
        str(tests),
    ]
    environment = {**os.environ, "MLC_FAULTS": str(results), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        return process.wait(left) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it counts what it has, and unmounts what it mounted
        return process.wait() in {0, pytest.ExitCode.INTERRUPTED}


def table(rows: list[dict[str, object]], failing: list[str], *, minutes: float) -> str:
    """Return the sums of *rows* as a table, and which tests were *failing*."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        found = sums.setdefault(str(row["campaign"]), [0] * len(COUNTS))
        found[:] = [one + int(str(row[name])) for one, name in zip(found, COUNTS, strict=True)]
    lines = [
        f"{date.today().isoformat()}, mlc-core {version('mlc-core')}, Python {platform.python_version()}, "  # noqa: DTZ011 - the day of whoever runs it
        f"Linux {platform.release().split('-')[0]}; {minutes:.0f} minutes. "
        + (f"Something failed in test_{', test_'.join(failing)}." if failing else "Nothing failed."),
        "",
        "| what was done | cases | lost | torn | silently wrong |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for campaign, counts in sorted(sums.items()):
        lines.append(f"| {campaign} | " + " | ".join(f"{one:,}" for one in counts) + " |")
    total = [sum(column) for column in zip(*sums.values(), strict=True)]
    lines.append("| **all** | " + " | ".join(f"**{one:,}**" for one in total) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
