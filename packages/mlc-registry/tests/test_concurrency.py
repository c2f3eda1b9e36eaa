"""Many processes and one registry."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

WORKER = """
import json, sys
from pathlib import Path
from mlc_registry import ModelRegistry, VersionExistsError

root, artifacts, folder, me, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
sys.stdin.readline()  # all start at once, on a registry that is not there yet
won = []
with ModelRegistry(root, artifacts=artifacts, view=Path(artifacts).parent / "models") as registry:
    for number in range(count):
        path = folder / f"{me}-{number}.bin"
        path.write_text(f"{me} {number}")
        registry.register_model("net", f"{me}.{number}.0", path)
        if number % 5 == 0:  # and everybody wants this one
            try:
                won.append(str(registry.register_model("race", f"1.{number}.0", path).version))
            except VersionExistsError:
                pass
print(json.dumps(won))
"""


def publish_at_once(place, folder, *, processes, count):
    """Publish *count* versions in each process, and race for every fifth; return the races that were won."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, place.root, place.artifacts, folder, str(me), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(processes)
    ]
    for one in workers:
        one.stdin.write("go\n")
        one.stdin.flush()
    won = [version for one in workers for version in json.loads(one.communicate(timeout=300)[0])]
    assert [0] * processes == [one.returncode for one in workers]
    return won


@pytest.mark.parametrize(
    ("processes", "count"), [(4, 25), pytest.param(8, 200, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_nothing_is_lost_and_nothing_is_there_twice(bare_place, tmp_path, processes, count):
    """Processes publish versions of their own, race for others, and make the registry to begin with."""
    won = publish_at_once(bare_place, tmp_path, processes=processes, count=count)

    assert sorted(f"1.{number}.0" for number in range(0, count, 5)) == sorted(won)
    with bare_place.open(create=False) as registry:
        found = [one.version for one in registry.list_versions("net")]
        mine = [(me, number, 0) for me in range(processes) for number in range(count)]
        assert sorted(mine, reverse=True) == [one.core for one in found]
        for version in found:
            assert f"{version.major} {version.minor}" == registry.get_model_path("net", version).read_text()
        for one in registry.list_versions("race"):
            registry.verify("race", one.version)
        assert processes * count == len(registry.history("net"))
        assert processes * count + count // 5 == registry.audit.verify().lines
        shown = bare_place.artifacts.parent / "models" / "net"
        assert f"{processes - 1}.{count - 1}.0" == str((shown / "latest").readlink())
        assert {"latest", *map(str, found)} == {one.name for one in shown.iterdir()}


SPEAKER = """
import sys
from mlc_registry import ModelRegistry, Tracking
from pathlib import Path

root, artifacts, folder, me, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])
with ModelRegistry(root, artifacts=artifacts) as registry:
    statements, number = registry._backend.store.statements, registry.get("net", "1.0.0").version
    print("ready", flush=True)
    sys.stdin.readline()
    for each in range(count):
        statements.set_tags("net", number, {f"tag-{me}-{each}": me, "last": f"{me}-{each}"}, actor=me)
        statements.state("net", number, kind="approved", stage="production", actor=me)
        path = folder / f"{me}-{each}.bin"
        path.write_text(f"{me} {each}")
        tracking = Tracking(run=f"run-{me}", metrics={"dice": each / 10})
        registry.register_model("net", f"2.{me}.{each}", path, tracking=tracking, tags={"by": me}, notes=f"word{me}")
"""


def test_whatever_is_said_at_once_is_kept(place, tmp_path, weights):
    """Eight processes tag and approve one version and publish others: nothing is lost, and all of it is found."""
    processes, count = 8, 3
    with place.open() as registry:
        registry.register_model("net", "1.0.0", weights())
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SPEAKER, place.root, place.artifacts, tmp_path, str(me), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(processes)
    ]
    for one in workers:
        assert "ready\n" == one.stdout.readline()
    for one in workers:
        one.communicate("go\n", timeout=120)
    assert [0] * processes == [one.returncode for one in workers]

    with place.open() as registry:
        number = registry.get("net", "1.0.0").version
        tags = registry._backend.store.statements.list_tags("net", number)
        expected = {f"tag-{me}-{each}": str(me) for me in range(processes) for each in range(count)}
        assert expected == {key: value for key, value in tags.items() if key != "last"}
        approved = registry._backend.store.statements.list_all("net", number, kinds=("approved",))
        assert sorted(str(me) for me in range(processes) for _ in range(count)) == sorted(one.actor for one in approved)
        for me in range(processes):
            for asked in ({"tags": {"by": str(me)}}, {"run": f"run-{me}"}, {"tags": {"by": None}, "run": f"run-{me}"}):
                assert count == len(registry.search(**asked).versions)
            assert count == len(registry.search(f"word{me}").versions)
        assert processes * count + 1 == registry.audit.verify().versions
        assert 1 + processes * count * 5 == registry.audit.verify().lines
