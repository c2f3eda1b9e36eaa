"""A database that is not what it should be is refused as what it is, and is left as it is."""

import shutil
import sqlite3
import subprocess
import sys

import pytest

from mlc_registry import ModelRegistry, RegistryNotFoundError, StoreError


def _write(path, *statements):
    connection = sqlite3.connect(path)
    for one in statements:
        connection.execute(one)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (None, "it is empty"),
        ((), "it is empty"),
        (("CREATE TABLE cake (name)",), "something else, with the tables cake"),
        (("CREATE TABLE cake (name)", "DROP TABLE cake"), "without any table"),
        (("CREATE TABLE mlc_registry_revision (version_num TEXT)",), "says nothing; restore it"),
    ],
)
def test_file_that_is_no_registry_stays_as_it_is(tmp_path, statements, said, create):
    """Nothing is written into it, nor beside it."""
    path = tmp_path / "registry.db"
    path.touch()
    if statements is not None:
        _write(path, *statements)
    before = path.read_bytes()

    with pytest.raises(StoreError, match=said) as caught:
        ModelRegistry(tmp_path, create=create)
    assert not isinstance(caught.value, RegistryNotFoundError)
    assert str(path) in str(caught.value)
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_registry_that_lost_its_revision_is_not_made_anew(place, weights):
    """Its tables are there."""
    with place.open() as registry:
        registry.register_model("net", "1.0.0", weights())
    place.tamper("DELETE FROM mlc_registry_revision")
    with pytest.raises(StoreError, match="mlc_registry_revision, which tells their version, says nothing"):
        place.open()
    place.tamper("DROP TABLE mlc_registry_revision")
    with pytest.raises(StoreError, match="restore it from a copy"):
        place.open()


def test_tables_of_others_are_in_nobodys_way_on_a_server(make_database, tmp_path):
    """A schema may be shared there."""
    import psycopg

    url = make_database(bare=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE cake (name text)")
    ModelRegistry(url, artifacts=tmp_path / "artifacts").close()


def test_no_database_is_made_beside_files_that_have_lost_theirs(registry, publish, root, tmp_path):
    """An empty one would not know what is published; restored, it knows all of it."""
    publish("1.0.0")
    registry.close()
    kept = tmp_path / "kept.db"
    (root / "registry.db").rename(kept)

    for _ in range(2):
        with pytest.raises(StoreError, match="has lost its database") as caught:
            ModelRegistry(root)
        assert not (root / "registry.db").exists()
    assert "Restore registry.db from a copy, or import an export" in str(caught.value)
    shutil.copy(kept, root / "registry.db")
    with ModelRegistry(root) as again:
        again.verify("net", "1.0.0")


def test_many_make_one_registry_at_once(tmp_path):
    """One makes it, whole, the others find it, and nothing is left over."""
    code = """
import sys
from mlc_registry import ModelRegistry
sys.stdin.readline()
print(ModelRegistry(sys.argv[1])._backend.store.identity)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "registry")]
    makers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for one in makers:
        one.stdin.write("go\n")
        one.stdin.flush()
    names = {one.communicate(timeout=120)[0] for one in makers}

    assert [0, 0, 0] == [one.returncode for one in makers]
    assert 1 == len(names)
    assert [] == [one.name for one in (tmp_path / "registry").iterdir() if one.name.startswith(".")]


def test_registry_is_made_where_a_link_leads(tmp_path):
    """The link stays."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "registry.db").symlink_to(tmp_path / "there" / "facts.db")
    ModelRegistry(tmp_path / "here").close()

    assert (tmp_path / "here" / "registry.db").is_symlink()
    assert (tmp_path / "there" / "facts.db").is_file()


def test_server_is_named_as_it_was_written(tmp_path, postgresql_server):
    """Not by the driver that nobody has heard of."""
    with pytest.raises(StoreError, match=r"postgresql://") as caught:
        ModelRegistry(postgresql_server("nowhere"), artifacts=tmp_path)
    assert "psycopg" not in str(caught.value)
