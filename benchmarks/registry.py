"""The registry beside MLflow's, in turn; the tables go into docs/registry/benchmarks.md.

    python -m nox -s bench_registry
    python benchmarks/registry.py --versions 1000 100000 --print        look, and leave the page alone

Both keep their facts in SQLite on the same disk, and sync every commit. MLflow has no ranges, so that the only way to
resolve one is to fetch all versions and to compare them with python-semver. Every round asks each of the two in turn;
what others did on the processor meanwhile is said above the tables.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PAGE = Path(__file__).parents[1] / "docs" / "registry" / "benchmarks.md"
MARK = "<!-- results -->"
THEIR_VERSIONS = 2000
MODEL_SIZE = 1000  # versions of each model in ours
PROCESSES = 4
BATCH = 5000
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_LOGGING_LEVEL": "ERROR"}

Row = dict[str, Any]


# ---------------------------------------------------------------------- filling


def fill_ours(root: Path, count: int) -> None:
    """Make a registry of *count* versions: rows as publishing writes them, each line sealed with the last."""
    import sqlalchemy

    from mlc_registry import ModelRegistry, Version
    from mlc_registry.history.chain import START, seal
    from mlc_registry.stores import tables
    from mlc_registry.words import split_words

    source = root.with_name("model.bin")
    source.write_bytes(b"weights")
    with ModelRegistry(root.with_name("template")) as template:
        template.register_model("net-0000", "1.0.0", source)
    made = sqlalchemy.create_engine(f"sqlite:///{root.with_name('template')}/registry.db")
    with made.connect() as connection:
        rows = {
            table.name: dict(connection.execute(table.select()).mappings().one())
            for table in (tables.model, tables.version, tables.file, tables.change)
        }
    ModelRegistry(root).close()
    engine = sqlalchemy.create_engine(f"sqlite:///{root}/registry.db")
    digest, batches = START, {name: [] for name in (*rows, "word")}
    with engine.begin() as connection:
        for number in range(1, count + 1):
            at, place = divmod(number - 1, MODEL_SIZE)
            name, text = f"net-{at:04}", f"{place // 100}.{place // 10 % 10}.{place % 10}"
            parsed, model_id = Version.parse(text), at + 1
            if not place:
                batches["model"].append({**rows["model"], "id": model_id, "name": name})
            batches["version"].append(
                rows["version"]
                | {"id": number, "model_id": model_id, "version": text, "sort_key": parsed.key}
                | {"directory": f"{name}/{text}", "prerelease": parsed.is_prerelease}
            )
            batches["file"].append({**rows["file"], "version_id": number})
            batches["word"] += [{"version_id": number, "word": one} for one in sorted(split_words(name))]
            line = rows["change"] | {"id": number, "model_id": model_id, "after_id": number}
            kept = {key: line[key] for key in ("kind", "stage", "content", "actor", "reason", "at", "details")}
            digest = seal(digest, {"id": number, "model": name, "before": None, "after": text, **kept})
            batches["change"].append({**line, "digest": digest})
            if number % BATCH == 0 or number == count:
                for table in (tables.model, tables.version, tables.file, tables.change, tables.word):
                    if batches[table.name]:
                        connection.execute(table.insert(), batches[table.name])
                        batches[table.name] = []
    engine.dispose()
    with ModelRegistry(root) as registry:
        for at in range(-(-count // MODEL_SIZE)):
            registry._backend.store.move_stage(
                f"net-{at:04}",
                "production",
                Version.parse("1.0.0"),
                kind="promoted",
                actor="ann",
                reason="",
                expected=None,
            )
        if count <= 10 * MODEL_SIZE:
            assert count == registry.audit.verify().versions


def open_theirs(root: Path) -> Any:
    """Return MLflow's client on a SQLite file."""
    from mlflow.tracking import MlflowClient

    root.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{root}/mlflow.db"
    return MlflowClient(tracking_uri=url, registry_uri=url)


def fill_theirs(root: Path, count: int) -> Any:
    """Register *count* versions as MLflow's users do, the number that people know in a tag."""
    client = open_theirs(root)
    client.create_registered_model("net")
    store = client._get_registry_client().store
    from mlflow.entities.model_registry import ModelVersionTag

    for place in range(count):
        text = f"{place // 100}.{place // 10 % 10}.{place % 10}"
        store.create_model_version("net", f"{root}/{place}", tags=[ModelVersionTag("version", text)])
    client.set_registered_model_alias("net", "production", "100")
    return client


# ---------------------------------------------------------------------- looking up


def resolve_theirs(client: Any) -> str:
    """Fetch all versions and return the highest that fits ^1.2."""
    import semver

    best = None
    token = None
    while True:
        page = client.search_model_versions("name='net'", max_results=200, page_token=token)
        for one in page:
            parsed = semver.Version.parse(one.tags["version"])
            fits = semver.Version(1, 2) <= parsed < semver.Version(2) and not parsed.prerelease
            if fits and (best is None or parsed > best[0]):
                best = parsed, one.source
        token = page.token
        if not token:
            assert best is not None
            return str(best[1])


def clock(ways: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call: every round calls each way so often, in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way, _ in ways.values():
        way()
    for _ in range(rounds):
        for name, (way, often) in ways.items():
            for _ in range(often):
                began = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - began)
    return times


def measure_lookups(folder: Path, counts: Sequence[int], rounds: int) -> str:
    from mlc_registry import ModelRegistry

    draw = random.Random(0)
    ways: dict[str, tuple[Callable[[], object], int]] = {}
    opened = []
    for count in counts:
        root = folder / f"ours-{count}"
        say(f"filling ours with {count:,} versions")
        fill_ours(root, count)
        registry = ModelRegistry(root)
        opened.append(registry)
        models = -(-count // MODEL_SIZE)

        def name(models: int = models) -> str:
            return f"net-{draw.randrange(models):04}"

        def ask(reference: str, registry: ModelRegistry = registry, name: Callable[[], str] = name) -> object:
            return registry.resolve(name(), reference)

        ways |= {
            f"ours, `^1.2`, {count:,} versions": (lambda ask=ask: ask("^1.2"), 500),
            f"ours, exact, {count:,} versions": (lambda ask=ask: ask("4.5.6"), 500),
            f"ours, `@production`, {count:,} versions": (lambda ask=ask: ask("@production"), 500),
            f"ours, `latest`, {count:,} versions": (lambda ask=ask: ask("latest"), 500),
        }
    say(f"filling MLflow with {THEIR_VERSIONS:,} versions")
    client = fill_theirs(folder / "theirs", THEIR_VERSIONS)
    ways |= {
        f"MLflow, `^1.2`, {THEIR_VERSIONS:,} versions": (lambda: resolve_theirs(client), 1),
        f"MLflow, exact, {THEIR_VERSIONS:,} versions": (lambda: client.get_model_version("net", "457"), 20),
        f"MLflow, alias, {THEIR_VERSIONS:,} versions": (
            lambda: client.get_model_version_by_alias("net", "production"),
            20,
        ),
    }
    say("asking")
    times = clock(ways, rounds)
    for registry in opened:
        registry.close()
    middle = {name: statistics.median(found) for name, found in times.items()}
    bars = {
        "^1.2": f"MLflow, `^1.2`, {THEIR_VERSIONS:,} versions",
        "exact": f"MLflow, exact, {THEIR_VERSIONS:,} versions",
        "@production": f"MLflow, alias, {THEIR_VERSIONS:,} versions",
    }
    lines = ["## Look up", "", "| | p50 | p99 | MLflow's p50 is |", "|---|---|---|---|"]
    for name, found in times.items():
        kind = name.split(", ")[1].strip("`")
        ratio = f"{middle[bars[kind]] / middle[name]:,.0f}×" if name.startswith("ours") and kind in bars else ""
        lines.append(f"| {name} | {microseconds(middle[name])} | {microseconds(quantile(found, 0.99))} | {ratio} |")
    return "\n".join(lines)


# ---------------------------------------------------------------------- publishing

PUBLISH = {
    "ours": """
registry = ModelRegistry(root)
def publish(number):
    registry.register_model("net", f"{who}.{number}.0", source)
registry.list_models()
""",
    "MLflow": """
client = open_theirs(Path(root))
store = client._get_registry_client().store
def publish(number):
    store.create_model_version("net", f"{root}/{who}.{number}.0", tags=[])
store.search_registered_models(None, 1, None, None)
""",
}
HEAD = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, os.path.dirname(sys.argv[1]))
root, source, who, count = sys.argv[2:6]
"""
BODY = """
print("ready", flush=True)
sys.stdin.readline()
times = []
for number in range(int(count)):
    began = time.perf_counter()
    publish(number)
    times.append(time.perf_counter() - began)
print(json.dumps(times), flush=True)
"""
IMPORTS = {"ours": "from mlc_registry import ModelRegistry\n", "MLflow": "from registry import open_theirs\n"}


def publish_together(name: str, root: Path, source: Path, count: int) -> tuple[float, list[float]]:
    """Return how many versions a second the processes published together, and how long each took."""
    code = HEAD + IMPORTS[name] + PUBLISH[name] + BODY
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([sys.executable, "-c", code, __file__, str(root), str(source), str(who), str(count)], **pipes)
        for who in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [json.loads(process.stdout.readline()) for process in started]
    seconds = time.perf_counter() - began
    for process in started:
        assert process.wait() == 0
    return PROCESSES * count / seconds, [one for times in said for one in times]


def measure_publishing(folder: Path, rounds: int, count: int) -> str:
    from mlc_registry import ModelRegistry

    source = folder / "weights.bin"
    source.write_bytes(os.urandom(4096))
    rates: dict[str, list[float]] = {"ours": [], "MLflow": []}
    times: dict[str, list[float]] = {"ours": [], "MLflow": []}
    lost = {"ours": 0, "MLflow": 0}
    for number in range(rounds):
        for name, found in rates.items():
            say(f"publishing, {name}, round {number + 1}")
            root = folder / f"publish-{name}-{number}"
            if name == "ours":
                ModelRegistry(root).close()
            else:
                open_theirs(root).create_registered_model("net")
            rate, each = publish_together(name, root, source, count)
            found.append(rate)
            times[name] += each
            lost[name] += PROCESSES * count - count_published(name, root)
    ours, theirs = statistics.median(rates["ours"]), statistics.median(rates["MLflow"])
    lines = [
        f"## Publish, {PROCESSES} processes at once",
        "",
        "Ours copies, hashes and syncs a file of 4 KB each time; MLflow writes rows only.",
        "",
        "| | a second, median of the rounds | p50 | p99 | longest | lost | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in times.items():
        rate = statistics.median(rates[name])
        spread = f"{rate:,.0f} ({min(rates[name]):,.0f} … {max(rates[name]):,.0f})"
        shown = " | ".join(f"{1000 * quantile(found, one):,.0f} ms" for one in (0.5, 0.99, 1.0))
        ratio = f"{ours / theirs:.1f}× MLflow" if name == "ours" else ""
        lines.append(f"| {name} | {spread} | {shown} | {lost[name]} of {rounds * PROCESSES * count:,} | {ratio} |")
    return "\n".join(lines)


def count_published(name: str, root: Path) -> int:
    """Return how many versions are there, ours verified."""
    if name == "MLflow":
        client = open_theirs(root)
        return int(client.get_latest_versions("net")[0].version) if client else 0
    from mlc_registry import ModelRegistry

    with ModelRegistry(root) as registry:
        for one in registry.list_versions("net"):
            registry.verify("net", one.version)
        return registry.audit.verify().versions


# ---------------------------------------------------------------------- starting


def start_times(command: Sequence[str], rounds: int) -> Iterator[tuple[float, float]]:
    """Yield the seconds on the clock and on the processor that *command* takes."""
    for _ in range(rounds):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        yield seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_starting(rounds: int) -> str:
    script = [sys.executable, str(Path(sys.executable).with_name("mlc"))]
    commands = {
        "python, nothing": [sys.executable, "-c", "pass"],
        "`import mlc_registry`": [sys.executable, "-c", "import mlc_registry"],
        "`from mlc_registry import ModelRegistry`": [sys.executable, "-c", "from mlc_registry import ModelRegistry"],
        "`mlc --help`": [*script, "--help"],
        "`mlc registry --help`": [*script, "registry", "--help"],
        "`import mlflow`": [sys.executable, "-c", "import mlflow"],
        "`from mlflow import MlflowClient`": [sys.executable, "-c", "from mlflow import MlflowClient"],
        "`mlflow --help`": [sys.executable, "-m", "mlflow", "--help"],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            found[name] += start_times(command, 1)
    lines = ["## Start", "", "| | seconds on the processor, least | median | on the clock, least | median |"]
    lines.append("|---|---|---|---|---|")
    for name, times in found.items():
        clocks, processors = zip(*times[1:], strict=True)
        shown = [min(processors), statistics.median(processors), min(clocks), statistics.median(clocks)]
        lines.append(f"| {name} | {' | '.join(f'{one:.2f}' for one in shown)} |")
    return "\n".join(lines)


# ---------------------------------------------------------------------- the rest


def quantile(times: Sequence[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:,.1f} ms"


def busy() -> tuple[float, float]:
    """Return the seconds of processor time that all and that we and our children have used so far."""
    fields = [int(one) for one in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, *_ = fields
    own = sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), own


def say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--publish", type=int, default=100, help="versions for each process in a round")
    parser.add_argument("--folder", help="where to work; on the disk that is to be measured")
    parser.add_argument("--only", choices=["lookups", "publishing", "starting"], help="leaves the page alone")
    parser.add_argument("--print", action="store_true", help="print the tables and leave the page alone")
    options = parser.parse_args()
    os.environ.update(QUIET)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    before, began = busy(), time.perf_counter()
    tables: list[str] = []

    def keep(table: str) -> None:
        tables.append(table)
        say(f"\n{table}\n")

    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        if options.only in (None, "lookups"):
            keep(measure_lookups(folder, options.versions, options.rounds))
        if options.only in (None, "publishing"):
            keep(measure_publishing(folder, max(3, options.rounds // 3), options.publish))
        if options.only in (None, "starting"):
            say("starting")
            keep(measure_starting(options.rounds))
    after, seconds = busy(), time.perf_counter() - began
    others = (after[0] - before[0]) - (after[1] - before[1])
    versions = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "sqlalchemy", "semver"))
    results = (
        f"Measured on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}. "
        f"Others used {others / seconds:.2f} of {os.cpu_count()} cores meanwhile.\n\n"
    )
    results += "\n\n".join(tables)
    print(results)
    if not options.print and options.only is None:
        page = PAGE.read_text(encoding="utf-8").partition(MARK)[0] + f"{MARK}\n\n{results}\n"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
