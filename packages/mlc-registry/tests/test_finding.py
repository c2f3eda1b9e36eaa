"""Finding versions, and what is said when there is none."""

import shutil

import pytest
from hypothesis import given, settings

from mlc_registry import (
    CorruptArtifactError,
    InvalidReferenceError,
    ModelNotFoundError,
    ModelRegistry,
    Range,
    StageNotFoundError,
    Version,
    VersionNotFoundError,
    YankedVersionWarning,
)
from mlc_registry.testing import ranges


@pytest.fixture
def filled(registry, publish):
    """A model with everything: releases, pre-releases, a yanked one, a stage."""
    publish("0.9.0", "1.9.0", "1.10.0", "1.10.1", "2.0.0-rc.1", "1.8.0")
    registry.yank("net", "1.10.1", "bad labels")
    registry.promote("net", "1.9.0", "production")
    return registry


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("latest", "1.10.0"),
        ("newest", "1.8.0"),
        ("1.9.0", "1.9.0"),
        ("^1.9", "1.10.0"),
        ("~1.9", "1.9.0"),
        ("1.x", "1.10.0"),
        ("*", "1.10.0"),
        ("<1", "0.9.0"),
        (">=2.0.0-0", "2.0.0-rc.1"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        ("0.x || 1.8 - 1.9", "1.9.0"),
        ("production", "1.9.0"),
        ("@production", "1.9.0"),
        (Version(1, 9, 0), "1.9.0"),
    ],
)
def test_reference_leads_to_a_version(filled, reference, version):
    """With its digest and its place, which are what to pin."""
    found = filled.resolve("net", reference)
    published = filled.get("net", version)

    assert ("net", version, str(reference)) == (found.model, str(found.version), found.reference)
    assert (published.digest, False) == (found.digest, found.yanked)
    assert f"net {version}" == found.path.read_text()
    assert found.path == filled.get_model_path("net", reference)


def test_prereleases_are_found_if_asked_for(filled):
    """By ranges and by `latest`."""
    for reference in ("latest", ">=1", "^2.0.0-0"):
        found = filled.resolve("net", reference, include_prereleases=True)

        assert "2.0.0-rc.1" == str(found.version)


def test_yanked_version_is_found_by_who_has_pinned_it(filled):
    """Exactly, with a warning; ranges pass it over."""
    with pytest.warns(YankedVersionWarning, match="bad labels"):
        found = filled.resolve("net", "1.10.1")

    assert found.yanked
    assert "1.10.0" == str(filled.resolve("net", "~1.10").version)
    assert filled.get("net", "1.10.1").yanked


@pytest.mark.parametrize(
    ("reference", "error", "parts"),
    [
        ("^3", VersionNotFoundError, ["satisfies '^3'", "2.0.0-rc.1, 1.10.1 (yanked), 1.10.0, 1.9.0, 1.8.0, …"]),
        ("~2.0", VersionNotFoundError, ["2.0.0-rc.1 would, but it is a pre-release", "--pre"]),
        ("^2.0.0", VersionNotFoundError, ["2.0.0-rc.1 comes before one that would: ask for it exactly"]),
        (">1.10.0 <2", VersionNotFoundError, ["1.10.1 would, but it was yanked (bad labels)"]),
        ("1.2.3", VersionNotFoundError, ["is 1.2.3", "The highest are: 2.0.0-rc.1"]),
        ("prodution", StageNotFoundError, ["no stage 'prodution'", "Did you mean 'production'?", "Stages: production"]),
        ("latst", StageNotFoundError, ["Did you mean 'latest'?"]),
        ("^1.", InvalidReferenceError, ["'^1.' at character 1", "@production"]),
    ],
)
def test_miss_says_what_there_is(filled, reference, error, parts):
    """What is close, what exists, what would have fitted and how to get it."""
    with pytest.raises(error) as caught:
        filled.resolve("net", reference)

    assert [] == [part for part in parts if part not in str(caught.value)]


def test_unknown_model_is_said_wherever_it_is_asked_for(filled):
    """With what is close."""
    questions = [
        lambda: filled.resolve("nett"),
        lambda: filled.resolve("nett", "newest"),
        lambda: filled.resolve("nett", "@production"),
        lambda: filled.get("nett", "1.0.0"),
        lambda: filled.list_versions("nett"),
        lambda: filled.list_files("nett", "1.0.0"),
        lambda: filled.stages("nett"),
        lambda: filled.history("nett"),
        lambda: filled.yank("nett", "1.0.0", "bad"),
        lambda: filled.promote("nett", "1.0.0", "production"),
        lambda: filled.rollback("nett", "production"),
        lambda: filled.verify("nett"),
    ]

    for ask in questions:
        with pytest.raises(ModelNotFoundError, match="Did you mean 'net'"):
            ask()


def test_many_models_are_not_all_listed(publish, registry, weights):
    """An error is not a catalogue."""
    for number in range(22):
        registry.register_model(f"model-{number:02}", "1.0.0", weights())

    with pytest.raises(ModelNotFoundError, match="and 2 more"):
        registry.resolve("something")


def test_only_prereleases_or_only_yanked_is_no_latest(registry, publish):
    """And the error says how to get what there is."""
    publish("1.0.0-rc.1", "1.0.0-rc.2")
    with pytest.raises(VersionNotFoundError, match=r"1\.0\.0-rc\.2 would, but it is a pre-release"):
        registry.get_model_path("net")
    for text in ("1.0.0-rc.1", "1.0.0-rc.2"):
        registry.yank("net", text, "bad")
    with pytest.raises(VersionNotFoundError, match="no version of 'net' is not yanked"):
        registry.resolve("net", "newest")


def test_models_are_listed(filled, publish):
    """With what is highest and what is newest."""
    publish("1.0.0", name="cat")
    found = [(one.name, str(one.latest), str(one.newest), one.versions) for one in filled.list_models()]

    assert [("cat", "1.0.0", "1.0.0", 1), ("net", "1.10.0", "1.8.0", 6)] == found
    assert ["2.0.0-rc.1", "1.10.1"] == [str(one.version) for one in filled.list_versions("net", limit=2)]
    assert () == tuple(filled.stages("cat"))


def test_another_process_is_seen_at_once(filled, root, weights, run_python):
    """No answer is remembered."""
    run_python(
        "import sys; from mlc_registry import ModelRegistry; "
        "ModelRegistry(sys.argv[1]).register_model('net', '1.11.0', sys.argv[2])",
        root,
        weights("net 1.11.0"),
    )

    assert "1.11.0" == str(filled.resolve("net", "^1.9").version)


def test_finding_is_what_comparing_would_find(filled):
    """For any range, the registry finds the highest of all versions that are in it."""

    @settings(max_examples=150, deadline=None)
    @given(ranges())
    def check(text):
        wanted = Range.parse(text)
        versions = [one.version for one in filled.list_versions("net") if not one.yanked or wanted.exact]
        try:
            found = filled.resolve("net", text).version
        except VersionNotFoundError:
            found = None

        assert max((one for one in versions if one in wanted), default=None) == found

    check()


# ---------------------------------------------------------------------- damage


def test_missing_files_are_said(filled):
    """Rather than handing out a path that leads nowhere."""
    path = filled.get_model_path("net", "1.9.0")
    path.unlink()

    with pytest.raises(CorruptArtifactError, match="is missing"):
        filled.get_model_path("net", "1.9.0")


def _overwrite(found):
    target = found / "model.safetensors"
    target.chmod(0o600)
    target.write_bytes(bytes(256))


def _shorten(found):
    target = found / "model.safetensors"
    target.chmod(0o600)
    target.write_bytes(b"")


def _remove(found):
    (found / "model.safetensors").unlink()


def _add(found):
    (found / "extra.bin").write_text("x")


def _replace(found):
    (found / "model.safetensors").unlink()
    (found / "model.safetensors").mkdir()


def _relink(found):
    (found / "model.safetensors").rename(found / "elsewhere")
    (found / "model.safetensors").symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_overwrite, "model.safetensors has other content: sha256:"),
        (_shorten, "model.safetensors has 0 bytes, not the 256"),
        (_remove, "model.safetensors is missing"),
        (_add, "extra.bin was never published"),
        (_replace, "model.safetensors is no file any more"),
        (_relink, "model.safetensors is no file any more"),
    ],
)
def test_damage_is_found_and_named(registry, checkpoint, damage, why):
    """Each file, by what is wrong with it; the whole version is well before."""
    registry.register_model("net", "1.0.0", checkpoint, transfer="copy")
    assert "1.0.0" == str(registry.verify("net").version)
    found = registry.get_model_path("net", verify=True)
    damage(found)

    with pytest.raises(CorruptArtifactError, match=why):
        registry.verify("net", "1.0.0")
    with pytest.raises(CorruptArtifactError, match=why):
        registry.get_model_path("net", verify=True)
    assert found == registry.get_model_path("net")


def test_registry_that_was_copied_elsewhere_works(filled, root, tmp_path):
    """It is a directory, and nothing in it names its place."""
    filled.close()
    shutil.copytree(root, tmp_path / "copy", symlinks=True)
    shutil.rmtree(root)
    with ModelRegistry(tmp_path / "copy") as copy:
        found = copy.get_model_path("net", verify=True)

    assert tmp_path / "copy" in found.parents
