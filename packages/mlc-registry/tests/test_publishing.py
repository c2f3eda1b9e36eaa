"""Publishing: whole, immutable, and only what is meant."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from mlc_registry import (
    InvalidMetadataError,
    InvalidNameError,
    InvalidVersionError,
    LooseVersionWarning,
    ModelRegistry,
    SourceError,
    StoreError,
    UnchangedVersionWarning,
    VersionExistsError,
)


def test_file_is_published_as_a_file(registry, weights, root):
    """The path that comes back is the file itself, with the content it had."""
    path = weights("abc")
    published = registry.register_model("net", "1.0.0", path, {"dice": 0.9}, description="The first.", actor="ann")
    path.write_text("changed")
    found = registry.get_model_path("net", "1.0.0")

    assert root / "artifacts" / "net" / "1.0.0" / "model.bin" == found
    assert "abc" == found.read_text()
    assert ("net", "1.0.0", 3, {"dice": 0.9}, "The first.", "ann") == (
        published.model,
        str(published.version),
        published.size,
        published.metadata,
        published.description,
        published.created_by,
    )
    assert published == registry.get("net", "1.0.0")


def test_directory_is_published_whole(registry, checkpoint):
    """All files below it, under their names."""
    published = registry.register_model("net", "1.0.0", checkpoint)
    found = registry.get_model_path("net")

    assert sorted(one.relative_to(checkpoint) for one in checkpoint.rglob("*")) == sorted(
        one.relative_to(found) for one in found.rglob("*")
    )
    assert bytes(range(256)) == (found / "model.safetensors").read_bytes()
    assert ["manifest.json", "model.safetensors", "more/state.json"] == [
        one.path for one in registry.list_files("net", "1.0.0")
    ]
    assert published.size == sum(one.size for one in registry.list_files("net", "1.0.0"))


def test_link_as_the_path_is_followed(registry, checkpoint):
    """`best` leads to an epoch, and the epoch is published."""
    best = checkpoint.parent / "best"
    best.symlink_to("epoch_9")
    registry.register_model("net", "1.0.0", best)
    found = registry.get_model_path("net")

    assert not found.is_symlink()
    assert (found / "model.safetensors").is_file()


def test_files_of_a_checkpoint_are_shared(registry, checkpoint):
    """Nobody writes to them again, so they cost nothing, and outlive the checkpoint."""
    registry.register_model("net", "1.0.0", checkpoint)
    found = registry.get_model_path("net")

    assert (checkpoint / "model.safetensors").samefile(found / "model.safetensors")
    shutil.rmtree(checkpoint)
    assert registry.get_model_path("net", verify=True) == found


@pytest.mark.parametrize("manifest", [None, "{", "[1]", '{"format": "other/1"}', '{"name": "epoch_9"}'])
def test_other_files_are_copied_and_locked(registry, checkpoint, manifest):
    """Whoever saves over the original does not touch what was published, and nobody writes to the copy by accident."""
    (checkpoint / "manifest.json").unlink()
    if manifest is not None:
        (checkpoint / "manifest.json").write_text(manifest)
    (checkpoint / "model.safetensors").chmod(0o640)
    registry.register_model("net", "1.0.0", checkpoint)
    copy = registry.get_model_path("net") / "model.safetensors"
    (checkpoint / "model.safetensors").write_text("next epoch")

    assert 0o440 == stat.S_IMODE(copy.stat().st_mode)
    registry.verify("net")


def test_transfer_decides(registry, checkpoint, weights):
    """Link what would be copied, copy what would be linked."""
    registry.register_model("copied", "1.0.0", checkpoint, transfer="copy")
    registry.register_model("linked", "1.0.0", path := weights(), transfer="link")

    copy = registry.get_model_path("copied") / "model.safetensors"
    assert not (checkpoint / "model.safetensors").samefile(copy)
    assert path.samefile(registry.get_model_path("linked"))
    with pytest.raises(SourceError, match="'move' must be one of: auto, copy, link"):
        registry.register_model("moved", "1.0.0", path, transfer="move")


def test_what_cannot_be_linked_is_copied(registry, checkpoint, monkeypatch):
    """Another file system is no reason to fail."""

    def refuse(*_, **__):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    registry.register_model("net", "1.0.0", checkpoint)
    found = registry.get_model_path("net", verify=True) / "model.safetensors"

    assert not (checkpoint / "model.safetensors").samefile(found)


def test_same_files_again_are_a_success(registry, weights):
    """A job may be repeated; nothing is added."""
    first = registry.register_model("net", "1.0.0", weights(), {"a": 1})
    again = registry.register_model("net", "1.0.0", weights(), {"a": 1})

    assert first == again == registry.register_model("net", "1.0.0", weights())
    assert 1 == len(registry.history("net"))


def test_other_files_under_the_same_version_are_refused(registry, weights):
    """With both digests, and the published one stays."""
    first = registry.register_model("net", "1.0.0", weights("one"))

    with pytest.raises(VersionExistsError, match=first.digest) as caught:
        registry.register_model("net", "1.0.0", weights("two"))
    assert 2 == str(caught.value).count("sha256:")
    assert "one" == registry.get_model_path("net").read_text()


def test_other_build_metadata_is_refused(registry, weights):
    """1.0.0+b is no version beside 1.0.0+a."""
    registry.register_model("net", "1.0.0+a", weights())

    with pytest.raises(VersionExistsError, match=r"1\.0\.0\+b"):
        registry.register_model("net", "1.0.0+b", weights())


@pytest.mark.parametrize(
    ("more", "part"), [({"metadata": {"a": 2}}, "metadata"), ({"description": "new"}, "description")]
)
def test_other_metadata_is_not_kept_and_said_so(registry, weights, more, part):
    """A published version is never edited."""
    registry.register_model("net", "1.0.0", weights(), {"a": 1}, description="old")

    with pytest.warns(UnchangedVersionWarning, match=part):
        registry.register_model("net", "1.0.0", weights(), **more)
    assert ({"a": 1}, "old") == (registry.get("net", "1.0.0").metadata, registry.get("net", "1.0.0").description)


def test_versions_as_documents_write_them_are_read(registry, weights):
    """And it is said how."""
    with pytest.warns(LooseVersionWarning, match=r"'v1\.0' is read as 1\.0\.0"):
        published = registry.register_model("net", "v1.0", weights())

    assert "1.0.0" == str(published.version)


def test_name_that_differs_in_case_only_is_refused(registry, weights, root):
    """Some file systems would mix the two up; nothing of the second stays."""
    registry.register_model("ResNet", "1.0.0", weights())

    with pytest.raises(InvalidNameError, match="differs from it in case only"):
        registry.register_model("resnet", "1.0.0", weights())
    assert ["ResNet/1.0.0/model.bin"] == [
        one.relative_to(root / "artifacts").as_posix()
        for one in (root / "artifacts").rglob("*")
        if one.is_file() and one.parent.name != ".owners"
    ]


def test_dots_are_only_dots(registry, weights):
    """Two of them are a name of their own only between slashes."""
    registry.register_model("net..two", "1.0.0", weights("dots", name="model..bin"))

    assert "dots" == registry.get_model_path("net..two", verify=True).read_text()


def test_long_versions_have_a_place(registry, weights):
    """A version may have 256 characters and a directory may not."""
    text = f"1.0.0-{'a' * 250}"
    registry.register_model("net", text, weights("one"))
    registry.register_model("net", f"{text[:-1]}b", weights("two"))

    assert "one" == registry.get_model_path("net", text).read_text()
    assert "two" == registry.get_model_path("net", f"{text[:-1]}b").read_text()


def test_leftovers_are_left_alone(registry, weights, root):
    """A directory that no row names may belong to somebody; the version goes beside it."""
    stray = root / "artifacts" / "net" / "1.0.0"
    stray.mkdir(parents=True)
    (stray / "half.bin").write_text("half")
    registry.register_model("net", "1.0.0", weights("whole"))

    assert "whole" == registry.get_model_path("net", verify=True).read_text()
    assert "half" == (stray / "half.bin").read_text()


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("../net", "1.0.0"), InvalidNameError),
        (("net", "1.0.0.0"), InvalidVersionError),
        (("net", "../1.0.0"), InvalidVersionError),
        (("net", "1.0.0", {"a": {1}}), InvalidMetadataError),
    ],
)
def test_nothing_is_touched_when_the_question_is_wrong(registry, weights, root, arguments, error):
    """Errors come before work."""
    name, version, *more = arguments

    with pytest.raises(error):
        registry.register_model(name, version, weights(), *more)
    assert () == tuple(registry.list_models())
    assert not (root / "artifacts").exists()


def _missing(place):
    return place / "nothing"


def _empty(place):
    (place / "inner").mkdir()
    return place


def _leaving(place):
    (place / "model.bin").symlink_to("/etc/passwd")
    return place


def _dangling(place):
    (place / "model.bin").symlink_to("nothing")
    return place


def _circle(place):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    return place / "a"


def _directory_link(place):
    (place / "epoch_1").mkdir()
    (place / "epoch_1" / "model.bin").write_text("x")
    (place / "best").symlink_to("epoch_1")
    return place


def _pipe(place):
    os.mkfifo(place / "pipe")
    return place


def _pipe_itself(place):
    os.mkfifo(place / "pipe")
    return place / "pipe"


def _socket(place):
    os.mknod(place / "socket", stat.S_IFSOCK | 0o600)
    return place


def _bytes(place):
    (place / os.fsdecode(b"\xff")).touch()
    return place


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_missing, "no such file"),
        (_empty, "holds no files"),
        (_leaving, "a link out of the directory, to /etc/passwd"),
        (_dangling, "a link to nothing"),
        (_circle, "no such file"),
        (_directory_link, "a link to a directory"),
        (_pipe, "neither a file nor a directory"),
        (_pipe_itself, "neither a file nor a directory"),
        (_socket, "neither a file nor a directory"),
        (_bytes, "not valid UTF-8"),
        (lambda place: place / ("a" * 300), "no path does"),
        (lambda place: place.joinpath(*["b" * 100] * 60), "no path does"),
    ],
)
def test_source_is_refused(registry, root, tmp_path, make, why):
    """Everything that is no plain file below the directory, and a directory without files."""
    place = tmp_path / "source"
    place.mkdir()

    with pytest.raises(SourceError, match=why):
        registry.register_model("net", "1.0.0", make(place))
    assert () == tuple(registry.list_models())


def test_link_inside_the_directory_is_published_as_its_file(registry, tmp_path):
    """What it leads to is what it is."""
    place = tmp_path / "source"
    place.mkdir()
    (place / "model-1.bin").write_text("x")
    (place / "model.bin").symlink_to("model-1.bin")
    registry.register_model("net", "1.0.0", place)
    found = registry.get_model_path("net")

    assert {"model.bin": "x", "model-1.bin": "x"} == {one.name: one.read_text() for one in found.iterdir()}
    assert not (found / "model.bin").is_symlink()


def test_file_that_changes_meanwhile_is_refused(registry, weights, monkeypatch):
    """What was hashed is what is published."""
    path = weights("abc")
    sync = os.fsync

    def write_and_sync(handle):
        path.write_text("abcdef")
        sync(handle)

    monkeypatch.setattr(os, "fsync", write_and_sync)
    with pytest.raises(SourceError, match="changed while it was read"):
        registry.register_model("net", "1.0.0", path)
    assert () == tuple(registry.list_models())


def test_file_that_cannot_be_read_is_refused(registry, weights, monkeypatch):
    """By name."""

    def fail(*_, **__):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    path = weights()
    monkeypatch.setattr(type(path), "open", fail)
    with pytest.raises(SourceError, match=r"model\.bin cannot be published: Permission denied"):
        registry.register_model("net", "1.0.0", path)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_file_system_that_fails_to_link_publishes_nothing(registry, checkpoint, monkeypatch, code):
    """Not being able to link is one thing, failing is another."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        with pytest.raises(StoreError, match=os.strerror(code)):
            registry.register_model("net", "1.0.0", checkpoint)
    assert () == tuple(registry.list_models())


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "rename"), (Path, "mkdir")])
def test_full_disk_publishes_nothing(registry, weights, root, monkeypatch, owner, step):
    """The error says so, no staged files stay, and it works once there is room."""

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = weights()
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(StoreError, match=r"nothing was published.*No space left"):
            registry.register_model("net", "1.0.0", path)
    assert () == tuple(registry.list_models())
    assert [] == [one for one in (root / "artifacts").rglob("*") if one.is_file()]
    registry.register_model("net", "1.0.0", path)
    registry.verify("net")


def test_place_that_is_a_file_is_refused(tmp_path):
    """A registry is a directory."""
    (tmp_path / "registry").write_text("")

    with pytest.raises(StoreError, match="registry"):
        ModelRegistry(tmp_path / "registry")
