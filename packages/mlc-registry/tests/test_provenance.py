"""Where a version comes from."""

import json
import subprocess

import pytest

from mlc_registry import ModelRegistry, SourceError, Tracking, git_commit, tracking_of
from mlc_registry.releases.provenance import complete_tracking

MANIFEST = {
    "format": "mlc-checkpoint/2",
    "id": "0f3a",
    "run": "exp_7",
    "epoch": 9,
    "step": 1200,
    "metrics": {"dice": 0.9, "loss": 1, "nan": {"$float": "nan"}, "text": "x", "yes": True},
}


@pytest.fixture
def saved(tmp_path):
    """Make a directory with a manifest."""

    def save(**facts):
        path = tmp_path / "epoch_9"
        path.mkdir(exist_ok=True)
        (path / "manifest.json").write_text(json.dumps({**MANIFEST, **facts}))
        return path

    return save


def test_checkpoint_says_where_it_comes_from(saved):
    """Its run, id, epoch, step and the metrics that are numbers."""
    expected = Tracking(run="exp_7", checkpoint="0f3a", epoch=9, step=1200, metrics={"dice": 0.9, "loss": 1.0})

    assert expected == tracking_of(saved())


@pytest.mark.parametrize(
    "facts",
    [
        {"format": "other/1"},
        {"run": 3, "id": None, "epoch": -1, "step": True, "metrics": []},
        {"run": "a\nb", "id": "x" * 5000, "epoch": "9", "step": 1.5, "metrics": None},
    ],
)
def test_what_is_not_as_it_should_be_is_left_out(saved, facts):
    """A manifest is somebody's file."""
    assert Tracking() == tracking_of(saved(**facts))


def test_what_is_no_checkpoint_says_nothing(tmp_path, weights):
    """A file, a directory, nothing at all, or a manifest that is no JSON."""
    (tmp_path / "manifest.json").write_text("{")

    assert [Tracking()] * 3 == [tracking_of(weights()), tracking_of(tmp_path), tracking_of(tmp_path / "nowhere")]


def test_what_is_said_counts(saved, registry):
    """The manifest fills the rest, metric by metric."""
    said = Tracking(run="mine", dataset="brats@2.1", epoch=0, metrics={"dice": 0.95}, parameters={"lr": 0.1})
    published = registry.register_model("net", "1.0.0", saved(), tracking=said)

    assert published.tracking == complete_tracking(said, tracking_of(saved()))
    assert ("mine", "0f3a", 0, 1200, "brats@2.1") == (
        published.tracking.run,
        published.tracking.checkpoint,
        published.tracking.epoch,
        published.tracking.step,
        published.tracking.dataset,
    )
    assert {"dice": 0.95, "loss": 1.0} == published.tracking.metrics
    assert "exp_7" == registry.register_model("net", "1.0.1", saved(more=1)).tracking.run


def test_real_checkpoint_says_where_it_comes_from(registry, tmp_path):
    """As mlc_core writes it."""
    core, numpy = pytest.importorskip("mlc_core"), pytest.importorskip("numpy")
    with core.CheckpointManager(tmp_path, "net", save_strategy="all", run="exp_8") as manager:
        path = manager.save_checkpoint({"w": numpy.zeros(2)}, epoch=4, metrics={"dice": 0.9, "odd": float("inf")})
    found = registry.register_model("net", "1.0.0", path).tracking

    assert ("exp_8", 4, {"dice": 0.9}) == (found.run, found.epoch, found.metrics)
    assert found.checkpoint


# ------------------------------------------------------------------ git


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, as the current directory."""
    place = tmp_path / "code"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (place / "train.py").write_text("1")
    try:
        for words in (
            ("init", "-q"),
            ("add", "."),
            ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "commit", "-qm", "x"),
        ):
            subprocess.run(["git", *words], check=True)
    except FileNotFoundError:
        pytest.skip("there is no git here")
    return place


def test_commit_is_asked_for(repository):
    """With a mark if what is committed was changed since; new files are none of its business."""
    commit = git_commit()
    assert 40 == len(commit)
    (repository / "new.py").write_text("2")
    assert commit == git_commit(repository)
    (repository / "train.py").write_text("2")
    assert f"{commit}-dirty" == git_commit()


def test_commit_that_cannot_be_told(tmp_path, repository, monkeypatch):
    """Outside of a repository, before the first commit, or without git."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(SourceError, match=r"the commit cannot be told: .*; say it, as in --commit"):
        git_commit(tmp_path / "empty")
    subprocess.run(["git", "init", "-q", tmp_path / "empty"], check=True)
    with pytest.raises(SourceError, match="the commit cannot be told"):
        git_commit(tmp_path / "empty")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceError, match="there is no git here"):
        git_commit()


def test_everything_on_the_command_line(mlc, root, repository, weights, tmp_path):
    """Tracking, lineage, dependencies, tags and notes."""
    notes = tmp_path / "notes.md"
    notes.write_text("Better.")
    place = ("--registry", root)
    assert 0 == mlc("registry", "register", "base", "1.0.0", weights("base"), *place)[0]
    status, _, err = mlc(
        "registry", "register", "net", "1.0.0", weights("net"), "--run", "exp_7", "--dataset", "brats@2.1",
        "--commit", "auto", "--metric", "dice=0.91", "--metric", "loss=1", "--param", "lr=3e-4", "--param", "aug=flip",
        "--parent", "base@^1", "--depends", "base=^1", "--tag", "team=vision", "--notes", notes, *place,
    )  # fmt: skip
    assert (0, "") == (status, err)
    with ModelRegistry(root, create=False) as registry:
        found = registry.get("net", "1.0.0")
        assert Tracking(
            run="exp_7",
            dataset="brats@2.1",
            commit=git_commit(),
            metrics={"dice": 0.91, "loss": 1.0},
            parameters={"lr": 3e-4, "aug": "flip"},
        ) == (found.tracking)
        assert ({"base": "^1"}, "base") == (found.dependencies, found.parent.model)
        assert {"team": "vision"} == registry.releases.tags("net")
        assert ["Better."] == [one.text for one in registry.releases.notes("net")]
    for words, part in (
        (("--metric", "dice=high"), "--metric dice=high is no number"),
        (("--metric", "dice"), "--metric 'dice' is not KEY=VALUE"),
        (("--metric", "dice=true"), "is no number"),
        (("--tag", "a=1", "--tag", "a=2"), "--tag 'a=2' comes twice"),
    ):
        status, _, err = mlc("registry", "register", "net", "2.0.0", weights("net"), *words, *place)
        assert (2, True) == (status, part in err)
