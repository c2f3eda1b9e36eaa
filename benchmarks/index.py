"""Many checkpoints in one directory: what it costs to open it, to decide what to keep, and to save one more.

python benchmarks/index.py --count 100000 --folder /on/the/disk
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from common import measure

from mlc_core import CheckpointManager
from mlc_core.index import Index
from mlc_core.keeper import Keeper
from mlc_core.manifest import encode_manifest
from mlc_core.records import FileRecord, Saved
from mlc_core.retention import KeepAll, KeepBest, KeepBestAndLatest, KeepLatest
from mlc_core.shelf import Shelf
from mlc_core.storage import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNTS = (10, 1_000, 100_000)
POLICIES = (
    KeepBestAndLatest(count=5, metric="loss", mode="min"),
    KeepBest(metric="loss", mode="min", count=10),
    KeepLatest(count=100),
)
FILES = (("model.safetensors", "model"), ("optimizer.safetensors", "optimizer"), ("state.json", None))


def record(sequence: int, name: str) -> Saved:
    """Return the record of a usual checkpoint."""
    files = [
        FileRecord(name=file, size=100_000_000, xxh3_128=uuid.uuid4().hex, serializer="safetensors", item=item)
        for file, item in FILES
    ]
    return Saved(
        model="model",
        name=name,
        id=uuid.uuid4().hex,
        sequence=sequence,
        run="20260101-000000",
        epoch=sequence,
        step=1000 * sequence,
        metrics={"loss": 1 / sequence + random.random() / 100, "accuracy": random.random()},
        reasons=("the end of an epoch",),
        created_at="2026-01-01T00:00:00.000+00:00",
        elapsed=60.0 * sequence,
        items=("model", "optimizer"),
        files=tuple(files),
        versions={"python": "3.11.7", "mlc-core": "0.1.0", "torch": "2.9.0", "numpy": "2.3.0"},
    )


def fill(folder: Path, count: int) -> LocalStorage:
    """Return a storage in *folder* with *count* checkpoints that have a manifest and nothing else."""
    for sequence in range(1, count + 1):
        place = folder / "model" / f"epoch_{sequence}"
        place.mkdir(parents=True)
        (place / "manifest.json").write_bytes(encode_manifest(record(sequence, place.name)))
    return LocalStorage(folder / "model")


def commit(storage: LocalStorage, index: Index) -> None:
    """Do what a save does, but for writing tensors and for deciding what to keep."""
    with storage.lock():
        index.catch_up()
        saved = record(index.next_sequence, f"epoch_{index.next_sequence}")
        storage.stage(0).commit(saved.name, encode_manifest(saved))
        index.add(saved.name)
        index.point("latest", saved.name)
        index.settle()


def row(what: str, count: int, seconds: Sequence[float]) -> str:
    """Return a line of the table."""
    low, middle, high = (1000 * one for one in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"| {what} | {count:,} | {middle:.1f} | {low:.1f} … {high:.1f} |"


def timed(way: Callable[[], object]) -> float:
    """Return seconds; for what takes so long that somebody always disturbs it."""
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def opening(folder: Path, count: int, rounds: int) -> list[str]:
    """Measure how long it takes to know what is in *folder*."""
    storage = LocalStorage(folder / "model")

    def without_cache() -> None:
        storage.location(".mlc").joinpath("index.cache").unlink(missing_ok=True)
        Index(storage)

    def manager() -> None:
        CheckpointManager(folder, "model", monitor_metric="loss", mode="min")

    ways = {
        "open a manager": manager,
        "look at every entry": lambda: Index(storage),
    }
    found = measure(ways, rounds)
    found["read every manifest, without a cache"] = [timed(without_cache) for _ in range(rounds)]
    return [row(name, count, seconds) for name, seconds in found.items()]


def deciding(storage: LocalStorage, count: int, rounds: int) -> list[str]:
    """Measure how long it takes to decide what to keep, for one who knows what is there."""
    shelf = Shelf(storage, None)
    with storage.lock():
        shelf.index.catch_up()
    ways = {f"decide: {type(policy).__name__}": Keeper(shelf, policy).plan for policy in POLICIES}
    return [row(name, count, seconds) for name, seconds in measure(ways, rounds).items()]


def saving(folder: Path, count: int, rounds: int) -> list[str]:
    """Measure what one more costs."""
    storage = LocalStorage(folder / "model")
    index = Index(storage)
    found = measure({"commit": lambda: commit(storage, index)}, 3 * rounds)
    manager = CheckpointManager(folder, "model", retention=KeepAll())
    ways = {"save_checkpoint, all are kept": lambda: manager.save_checkpoint(items={}, reason="benchmark")}
    return [row(name, count, seconds) for name, seconds in {**found, **measure(ways, rounds)}.items()]


def tables(counts: Sequence[int] = COUNTS, rounds: int = 7, folder: Path | None = None) -> str:
    """Return the table."""
    lines = [
        "## Many checkpoints in one directory",
        "",
        "| | checkpoints | median, ms | min … max |",
        "|---|---|---|---|",
    ]
    for count in counts:
        place = Path(tempfile.mkdtemp(prefix="mlc-bench-", dir=folder))
        try:
            storage = fill(place, count)
            Index(storage)  # which leaves a cache, if there are enough for one
            if count == max(counts):
                lines += [*opening(place, count, rounds), *deciding(storage, count, rounds)]
            lines += saving(place, count, rounds)
        finally:
            shutil.rmtree(place)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=max(COUNTS), help="checkpoints in the largest directory")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the temporary directory")
    options = parser.parse_args()
    counts = (*(one for one in COUNTS if one < options.count), options.count)
    print(tables(counts, options.rounds, options.folder))


if __name__ == "__main__":
    main()
