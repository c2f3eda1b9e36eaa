"""Published files behind a URL, in any storage of mlc-core."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("mlc_core", reason="mlc-core is not installed, which mlc-registry[storages] brings")

from mlc_core import open_storage
from mlc_hooks import UnknownNameError
from mlc_registry import CorruptArtifactError, ModelRegistry, SourceError, StoreError
from mlc_registry import catalogs as catalogs_module
from mlc_registry.promotion import promoting

NOW = timedelta(0)
COUNT = itertools.count()

CHARACTERS = st.characters(codec="utf-8", exclude_characters="/\0\n", exclude_categories=["Cs", "Cc"])
NAMES = st.one_of(
    st.sampled_from(["manifest.json", "model.safetensors", "_3", ".hidden", "a b", "ü.bin", "-x"]),
    st.text(CHARACTERS, min_size=1, max_size=20).filter(lambda one: one not in {".", ".."}),
)
TREES = st.dictionaries(st.tuples(NAMES) | st.tuples(st.just("folder"), NAMES), st.binary(max_size=200), min_size=1)


def read_tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_whatever_is_published_comes_back(remote, tmp_path):
    """Any names, also those that storages do not take, and any content."""
    numbers = itertools.count()

    @settings(suppress_health_check=[HealthCheck.too_slow], max_examples=15)
    @given(TREES)
    def check(tree):
        source = tmp_path / f"source-{next(numbers)}"
        for parts, content in tree.items():
            path = source.joinpath(*parts)
            if not path.is_dir() and not (path.parent.exists() and not path.parent.is_dir()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        version = f"{next(numbers)}.0.0"  # each has other files, which is a major change
        remote.register_model("net", version, source)
        found = remote.get_model_path("net", version)

        assert read_tree(source) == read_tree(found)
        assert found == remote.resolve("net", version).path
        remote.verify("net", version)

    check()


def test_single_file_comes_back_as_a_file(remote, weights, url, cache):
    """Read-only, under its own name, in the cache, by the digest of the version."""
    published = remote.register_model("net", "1.0.0", weights("abc"))
    place = remote.resolve("net").path
    assert not place.exists()
    found = remote.get_model_path("net")

    assert place == found == cache / published.digest.partition(":")[2] / "files" / "model.bin"
    assert "abc" == found.read_text()
    assert 0o444 == found.stat().st_mode & 0o777
    assert url == remote.artifacts.url
    assert {"net@1.0.0"} == set(open_storage(url).entries())


def test_programs_stay_programs(remote, checkpoint):
    """What could be run can be run."""
    (checkpoint / "more" / "run.sh").write_text("true")
    (checkpoint / "more" / "run.sh").chmod(0o750)
    remote.register_model("net", "1.0.0", checkpoint)
    found = remote.get_model_path("net")

    assert 0o550 == (found / "more" / "run.sh").stat().st_mode & 0o777
    assert 0o444 == (found / "manifest.json").stat().st_mode & 0o777


@pytest.mark.parametrize(
    "manifest", [None, b"", b"[]", b'{"format": "other/1"}', b'{"format": "mlc-registry-version/1"}']
)
def test_damaged_commit_record_is_told(filed, weights, tmp_path, manifest):
    """What it was has to be known."""
    filed.register_model("net", "1.0.0", weights("abc"))
    path = tmp_path / "storage" / "net@1.0.0" / "manifest.json"
    path.unlink() if manifest is None else path.write_bytes(manifest)

    with pytest.raises(CorruptArtifactError, match="commit record"):
        filed.get_model_path("net")
    with pytest.raises(CorruptArtifactError, match="commit record"):
        filed.verify("net")


def test_manifest_says_what_it_is(filed, weights, tmp_path):
    """Without any database."""
    published = filed.register_model("net", "1.0.0", weights("abc"))
    facts = json.loads((tmp_path / "storage" / "net@1.0.0" / "manifest.json").read_text())

    assert ("mlc-registry-version/1", "net", "1.0.0") == (facts["format"], facts["model"], facts["version"])
    assert (published.digest, 3) == (facts["digest"], facts["size"])
    digest = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert [{"path": "model.bin", "size": 3, "digest": digest, "name": "model.bin"}] == facts["files"]


def test_publishing_is_immutable_and_repeatable(remote, weights, url):
    """The rules of every registry; what lost is not kept."""
    remote.register_model("net", "1.0.0", weights("abc"))
    remote.register_model("net", "1.0.0", weights("abc"))
    with pytest.raises(FileExistsError):
        remote.register_model("net", "1.0.0", weights("other"))

    assert {"net@1.0.0"} == set(open_storage(url).entries())
    assert [] == list(remote.artifacts.sweep(older_than=NOW))


def test_long_names_fit(remote, weights, url):
    """Storages take 128 characters."""
    name, versions = "n" * 100, [f"1.0.0-{'a' * 150}.{one}" for one in "bc"]
    for version in versions:
        remote.register_model(name, version, weights(version))

    assert versions == [remote.get_model_path(name, version).read_text() for version in versions]
    assert all(len(one) <= 128 for one in open_storage(url).entries())


def test_place_that_is_taken_is_left_alone(filed, weights, tmp_path):
    """Somebody was killed before the row: another name is found."""
    (tmp_path / "storage" / "net@1.0.0").mkdir(parents=True)
    (tmp_path / "storage" / "net@1.0.0" / "mine").touch()
    published = filed.register_model("net", "1.0.0", weights("abc"))

    assert published.directory.startswith("net@1.0.0=")
    assert "abc" == filed.get_model_path("net").read_text()


def test_unreadable_source_is_refused(remote, checkpoint, url, monkeypatch):
    """Before anything is published."""
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors").mkdir()
    (checkpoint / "model.safetensors" / "pipe").symlink_to("/nowhere")
    with pytest.raises(SourceError):
        remote.register_model("net", "1.0.0", checkpoint)
    with pytest.raises(SourceError, match="transfer="):
        remote.register_model("net", "1.0.0", checkpoint / "manifest.json", transfer="move")

    assert {} == dict(open_storage(url).entries())


@pytest.mark.parametrize("after", ["longer than before", "b"])
def test_source_that_changes_is_refused(remote, weights, url, monkeypatch, after):
    """Longer, or other content at the same length and a later time."""
    path = weights("a")
    storage = remote._backend.artifacts._storage
    original = storage.stage

    def stage(size):
        staging = original(size)
        write = staging.write

        def changing(file, size, pieces):
            def read():
                yield from pieces
                path.write_text(after)
                os.utime(path, ns=(0, 0))

            return write(file, size, read())

        staging.write = changing
        return staging

    monkeypatch.setattr(storage, "stage", stage)
    with pytest.raises(SourceError, match="changed while"):
        remote.register_model("net", "1.0.0", path)
    assert {} == dict(open_storage(url).entries())


@pytest.mark.parametrize("to", ["directory", "url"])
def test_archive_moves_both_ways(remote, checkpoint, weights, tmp_path, to):
    """From a storage to a directory or another storage, and back."""
    remote.register_model("net", "1.0.0", checkpoint)
    remote.register_model("net", "2.0.0", weights("abc"))
    remote.archive.save(tmp_path / "one.tar")
    artifacts = (tmp_path / "more").as_uri() if to == "url" else tmp_path / "more"
    with ModelRegistry(tmp_path / "other", artifacts=artifacts) as other:
        other.archive.restore(tmp_path / "one.tar")
        other.verify("net", "1.0.0")

        assert read_tree(checkpoint) == read_tree(other.get_model_path("net", "1.0.0"))
        assert "abc" == other.get_model_path("net").read_text()
        other.archive.save(tmp_path / "two.tar")
        assert () == other.artifacts.sweep(older_than=NOW)
    with ModelRegistry(tmp_path / "third", artifacts=(tmp_path / "last").as_uri()) as third:
        third.archive.restore(tmp_path / "two.tar")
        third.verify("net", "1.0.0")


def test_export_refuses_what_was_lost(remote, weights, url, tmp_path):
    """An archive is whole or is not there."""
    remote.register_model("net", "1.0.0", weights("abc"))
    open_storage(url).remove("net@1.0.0")
    with pytest.raises(CorruptArtifactError, match="nothing was exported"):
        remote.archive.save(tmp_path / "one.tar")
    assert not (tmp_path / "one.tar").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["file", "sqlite"])
def test_killed_between_upload_and_row_is_swept(root, empty_registry, checkpoint, tmp_path, run_python, scheme):
    """Killed at many moments; what has a row is whole, and the sweep removes the rest."""
    if scheme == "sqlite":
        pytest.importorskip("mlc_acme", reason="docs/examples/mlc-acme is not installed")
    shutil.copytree(empty_registry, root)
    url = (tmp_path / "storage").as_uri() if scheme == "file" else f"sqlite://{tmp_path}/storage.db/registry"
    code = """
    import os, signal, sys
    import alembic.command, alembic.config, attrs, mlc_registry.artifacts.storages, mlc_registry.stores.sqlite
    from mlc_registry import ModelRegistry
    CALLS = {*[("posix", name) for name in "mkdir open fsync rename unlink write".split()],
             ("Cursor", "execute"), ("Connection", "execute"), ("Connection", "commit"), ("fcntl", "flock")}
    moment = 0
    while True:
        moment += 2
        child = os.fork()
        if not child:
            seen = 0
            def watch(frame, event, argument):
                global seen
                if event == "c_call":
                    owner = argument.__module__ or type(argument.__self__).__name__
                    seen += (owner, argument.__name__) in CALLS
                    if seen == moment:
                        os.kill(os.getpid(), signal.SIGKILL)
            with ModelRegistry(sys.argv[1], artifacts=sys.argv[2]) as registry:
                registry._backend = attrs.evolve(registry._backend, view=None)  # another matter, and it takes long
                sys.setprofile(watch)
                registry.register_model("net", f"1.{moment}.0", sys.argv[3])
                sys.setprofile(None)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        if status == 0:
            break
    """
    run_python(code, root, url, checkpoint)
    with ModelRegistry(root, artifacts=url) as registry:
        before = set(open_storage(url).entries())
        swept = {one.place for one in registry.artifacts.sweep(older_than=NOW, dry_run=False)}
        there = {one.directory for one in registry.list_versions("net")}

        assert there < before
        assert before - there <= swept
        assert there == set(open_storage(url).entries())
        for one in registry.list_versions("net"):
            registry.verify("net", one.version)
        assert () == registry.artifacts.sweep(older_than=NOW)


@pytest.mark.slow
def test_living_publishers_are_not_swept(filed, weights, root, tmp_path):
    """Between the commit and the row, the sweeper waits."""
    code = """
import sys
from mlc_registry import ModelRegistry
registry = ModelRegistry(sys.argv[1], artifacts=sys.argv[2])
original = registry._backend.store.publish
def publish(*arguments, **options):
    print("here", flush=True)
    sys.stdin.readline()
    return original(*arguments, **options)
registry._backend.store.publish = publish
registry.register_model("net", "1.0.0", sys.argv[3])
"""
    sweep = """
import sys
from datetime import timedelta
from mlc_registry import ModelRegistry
with ModelRegistry(sys.argv[1], artifacts=sys.argv[2]) as registry:
    print("sweeping", flush=True)
    print(registry.artifacts.sweep(older_than=timedelta(days=-1), dry_run=False), flush=True)
"""
    url, options = (tmp_path / "storage").as_uri(), {"stdout": subprocess.PIPE, "text": True}
    publisher = subprocess.Popen([sys.executable, "-c", code, root, url, weights()], stdin=subprocess.PIPE, **options)
    assert "here\n" == publisher.stdout.readline()
    sweeper = subprocess.Popen([sys.executable, "-c", sweep, root, url], **options)
    assert "sweeping\n" == sweeper.stdout.readline()
    publisher.communicate("\n")

    assert "()\n" == sweeper.communicate()[0]
    assert 0 == publisher.returncode
    filed.verify("net")


def test_entries_of_others_stay(remote, weights, url):
    """A checkpoint that somebody has saved there is no leftover, and neither is another registry's version."""
    storage = open_storage(url)
    staging = storage.stage(0)
    staging.commit("epoch_1", b'{"format": "mlc-checkpoint/2"}')
    remote.register_model("net", "1.0.0", weights())

    assert () == remote.artifacts.sweep(older_than=NOW, dry_run=False)
    assert {"epoch_1", "net@1.0.0"} == set(storage.entries())


def test_artifacts_of_two_registries_are_not_swept(remote, weights, url, tmp_path):
    """Each has noted that it is there."""
    remote.register_model("net", "1.0.0", weights())
    with ModelRegistry(tmp_path / "other", artifacts=url) as other, pytest.raises(StoreError, match="other registries"):
        other.artifacts.sweep(older_than=NOW)


def test_without_core_the_way_out_is_named(root, monkeypatch):
    """And nothing is left open."""
    find = catalogs_module.importlib.util.find_spec
    monkeypatch.setattr(
        catalogs_module.importlib.util, "find_spec", lambda name: None if name == "mlc_core" else find(name)
    )
    with pytest.raises(StoreError, match=r"pip install 'mlc-registry\[storages\]'"):
        ModelRegistry(root, artifacts="memory://x")


def test_unknown_scheme_is_refused(root):
    """The error names the schemes that there are."""
    with pytest.raises(UnknownNameError, match="file"):
        ModelRegistry(root, artifacts="nowhere://x")


def test_storage_that_fails_is_an_error_of_ours(root, empty_registry, weights, tmp_path):
    """Not one of the storage."""
    shutil.copytree(empty_registry, root)
    (tmp_path / "file").touch()
    with ModelRegistry(root, artifacts=(tmp_path / "file" / "storage").as_uri()) as registry:
        with pytest.raises(StoreError, match="the storage failed"):
            registry.register_model("net", "1.0.0", weights())
        assert () == registry.list_models() or [] == list(registry.list_models())


def test_command_prints_a_path_that_is_there(mlc, root, weights, tmp_path):
    """`resolve --path` is for shells: it brings the files."""
    options = ("--registry", root, "--artifacts", (tmp_path / "storage").as_uri())
    said = mlc("registry", "register", "net", "1.0.0", weights("abc"), *options)[1]
    status, printed, _ = mlc("registry", "resolve", "net", "--path", *options)

    assert f"{(tmp_path / 'storage').as_uri()}/net@1.0.0/model.bin" in said
    assert 0 == status
    assert "abc" == Path(printed.strip()).read_text()
    assert 0 == mlc("registry", "verify", "net", *options)[0]


def test_command_prints_a_path_as_json(mlc, root, weights, tmp_path):
    """With both options, both hold."""
    options = ("--registry", root, "--artifacts", (tmp_path / "storage").as_uri())
    mlc("registry", "register", "net", "1.0.0", weights("abc"), *options)
    printed = mlc("registry", "resolve", "net", "--path", "--json", *options)[1]

    assert "abc" == Path(json.loads(printed)["path"]).read_text()


def test_checks_find_the_files(root, weights, tmp_path, monkeypatch):
    """They are brought when a check asks for them."""
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "cache"))
    with ModelRegistry(root, artifacts=(tmp_path / "storage").as_uri()) as registry:
        published = registry.register_model("net", "1.0.0", weights("abc"))
        promotion = promoting._describe(registry._backend, "production", published, None, actor="ann", reason="")

        assert not registry._backend.place(published).exists()
        assert "abc" == promotion.path.read_text()
