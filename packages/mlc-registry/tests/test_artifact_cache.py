"""Published files on this machine: brought once, and never believed when they were touched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

pytest.importorskip("mlc_core", reason="mlc-core is not installed, which mlc-registry[storages] brings")

from mlc_core import open_storage
from mlc_registry import CorruptArtifactError, ModelRegistry, StoreError
from mlc_registry.artifacts.cache import find_cache


def test_is_brought_once(remote, weights, url):
    """Afterwards the storage is not asked."""
    remote.register_model("net", "1.0.0", weights("abc"))
    found = remote.get_model_path("net")
    open_storage(url).remove("net@1.0.0")

    assert found == remote.get_model_path("net")
    assert found == remote.get_model_path("net", verify=True)
    with pytest.raises(CorruptArtifactError, match="missing"):
        remote.verify("net")


def test_lost_files_are_said_to_be(remote, weights, url, cache):
    """And nothing is left in the cache."""
    remote.register_model("net", "1.0.0", weights("abc"))
    open_storage(url).remove("net@1.0.0")

    with pytest.raises(CorruptArtifactError):
        remote.get_model_path("net")
    with pytest.raises(CorruptArtifactError, match=r"model\.bin is missing"):
        remote.verify("net")
    assert not remote.resolve("net").path.exists()
    assert [] == [path for path in cache.rglob("*") if path.suffix != ".lock"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"xyz"),
        lambda path: path.write_bytes(b""),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.parents[1] / "fetched.json").unlink(),
        lambda path: (path.parents[1] / "fetched.json").write_text('{"model.bin": 3}'),
        lambda path: shutil.rmtree(path.parents[1]),
        lambda path: (path.parents[1].with_name(f"{path.parents[1].name}.partial").mkdir(), path.unlink()),
    ],
)
def test_damage_in_the_cache_is_mended(filed, weights, damage):
    """Files that went or were touched are brought again."""
    filed.register_model("net", "1.0.0", weights("abc"))
    found = filed.get_model_path("net")
    found.chmod(0o644)
    damage(found)

    assert "abc" == filed.get_model_path("net").read_text()
    assert not found.is_symlink()
    assert ["fetched.json", "files"] == sorted(path.name for path in found.parents[1].iterdir())


def test_damage_that_does_not_show_is_found_on_demand(filed, weights):
    """Another content with the same size and time: hashing tells."""
    filed.register_model("net", "1.0.0", weights("abc"))
    found = filed.get_model_path("net")
    status = found.stat()
    found.chmod(0o644)
    found.write_text("abd")
    os.utime(found, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert "abc" == filed.get_model_path("net", verify=True).read_text()


@pytest.mark.parametrize("content", [b"abd", b"abcd", b""])
def test_damage_in_the_storage_is_never_handed_out(filed, weights, tmp_path, content):
    """It is hashed on the way."""
    filed.register_model("net", "1.0.0", weights("abc"))
    (tmp_path / "storage" / "net@1.0.0" / "model.bin").write_bytes(content)

    with pytest.raises(CorruptArtifactError, match=r"net 1\.0\.0 is not what was published:\n  model\.bin"):
        filed.get_model_path("net")
    with pytest.raises(CorruptArtifactError, match=r"model\.bin has"):
        filed.verify("net")
    assert not filed.resolve("net").path.exists()


def test_forged_rows_lead_nowhere(filed, weights, root):
    """Digests and directories from the database are believed only if they can be ones."""
    import sqlite3

    filed.register_model("net", "1.0.0", weights("abc"))
    for column, value in (("digest", "sha256:../../x"), ("directory", "../outside"), ("digest", f"sha256:{'0' * 64}")):
        with sqlite3.connect(root / "registry.db") as database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {name}")
            (before,) = database.execute(f"SELECT {column} FROM version").fetchone()
            database.execute(f"UPDATE version SET {column} = ?", [value])
        with pytest.raises(CorruptArtifactError):
            filed.get_model_path("net", "1.0.0")
        with sqlite3.connect(root / "registry.db") as database:
            database.execute(f"UPDATE version SET {column} = ?", [before])
    assert "abc" == filed.get_model_path("net").read_text()


@pytest.mark.slow
def test_processes_that_want_the_same_bring_it_once(filed, checkpoint, root, tmp_path, cache):
    """None sees half of it."""
    (checkpoint / "model.safetensors").write_bytes(bytes(range(256)) * 40_000)
    filed.register_model("net", "1.0.0", checkpoint)
    code = """
import sys
from mlc_registry import ModelRegistry
sys.stdin.readline()
with ModelRegistry(sys.argv[1], artifacts=sys.argv[2]) as registry:
    path = registry.get_model_path("net")
    assert (path / "model.safetensors").read_bytes() == bytes(range(256)) * 40_000
    print((path / "model.safetensors").stat().st_ino)
"""
    command = [sys.executable, "-c", code, root, (tmp_path / "storage").as_uri()]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate()[0] for process in started}

    assert [0] * 4 == [process.returncode for process in started]
    assert 1 == len(said)
    assert 1 == len([path for path in cache.iterdir() if path.is_dir()])


def test_cache_that_cannot_be_written_is_told(filed, weights, tmp_path, monkeypatch):
    """With the way out."""
    filed.register_model("net", "1.0.0", weights())
    (tmp_path / "full").touch()
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "full"))
    with (
        ModelRegistry(tmp_path / "registry", artifacts=(tmp_path / "storage").as_uri()) as registry,
        pytest.raises(StoreError, match="set MLC_CACHE"),
    ):
        registry.get_model_path("net")


def test_cache_is_where_the_platform_wants_it(cache, monkeypatch, tmp_path):
    """And where the user wants it, first of all."""
    assert cache == find_cache()
    monkeypatch.delenv("MLC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert tmp_path / "mlc" / "registry" == find_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Path.home() / ".cache" / "mlc" / "registry" == find_cache()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Path.home() / "Library" / "Caches" / "mlc" / "registry" == find_cache()


def test_no_home_is_said(monkeypatch):
    """With the way out."""
    for name in ("MLC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("Could not determine home directory.")))
    with pytest.raises(StoreError, match="MLC_CACHE"):
        find_cache()
