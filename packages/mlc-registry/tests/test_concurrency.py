"""Many processes and one registry."""

import json
import subprocess
import sys

import pytest

WORKER = """
import json, sys
from pathlib import Path
from mlc_registry import ModelRegistry, VersionExistsError

root, artifacts, folder, me, count = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
sys.stdin.readline()  # all start at once, on a registry that is not there yet
won = []
with ModelRegistry(root, artifacts=artifacts) as registry:
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
        assert f"{processes - 1}.{count - 1}.0" == str((bare_place.artifacts / "net" / "latest").readlink())
