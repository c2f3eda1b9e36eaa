"""Many processes and one registry."""

import json
import subprocess
import sys

from mlc_registry import ModelRegistry

WORKER = """
import json, sys
from pathlib import Path
from mlc_registry import ModelRegistry, VersionExistsError

root, folder, me = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sys.stdin.readline()  # all start at once, on a registry that is not there yet
won = []
with ModelRegistry(root) as registry:
    for number in range(25):
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


def test_nothing_is_lost_and_nothing_is_there_twice(tmp_path):
    """Four processes publish 25 versions each and race for five more."""
    root = tmp_path / "registry"
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, str(root), str(tmp_path), str(me)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(4)
    ]
    for one in workers:
        one.stdin.write("go\n")
        one.stdin.flush()
    won = [version for one in workers for version in json.loads(one.communicate(timeout=50)[0])]

    assert [0] * 4 == [one.returncode for one in workers]
    assert [f"1.{number}.0" for number in (0, 10, 15, 20, 5)] == sorted(won)
    with ModelRegistry(root, create=False) as registry:
        found = [one.version for one in registry.list_versions("net")]
        assert sorted(((me, number, 0) for me in range(4) for number in range(25)), reverse=True) == [
            one.core for one in found
        ]
        for version in found:
            assert f"{version.major} {version.minor}" == registry.get_model_path("net", version).read_text()
        for one in registry.list_versions("race"):
            registry.verify("race", one.version)
        assert 100 == len(registry.history("net"))
        assert "3.24.0" == str((root / "artifacts" / "net" / "latest").readlink())
