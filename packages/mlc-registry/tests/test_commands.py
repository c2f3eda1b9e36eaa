"""`mlc registry`, as people and programs use it."""

import json
import shutil
import warnings

import pytest

from mlc_registry import BumpWarning, ModelRegistry


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, empty_registry):
    """A registry with something in it; to be copied."""
    place = tmp_path_factory.mktemp("prepared")
    shutil.copytree(empty_registry, place / "registry")
    (place / "epoch_9" / "more").mkdir(parents=True)
    for name in ("manifest.json", "model.bin", "more/state.json"):
        (place / "epoch_9" / name).write_text("{}")
    with ModelRegistry(place / "registry") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore", BumpWarning)  # what was a directory becomes a file
        metadata = {"dice": 0.9, "run": "exp"}
        made.register_model("net", "1.0.0", place / "epoch_9", metadata, description="First.", actor="ann")
        for name, version in (("net", "1.1.0"), ("net", "2.0.0-rc.1"), ("cat", "0.1.0")):
            (place / "model.bin").write_text(f"{name} {version}")
            made.register_model(name, version, place / "model.bin")
        made.promote("net", "1.0.0", "production", actor="bob", reason="why not")
    return place / "registry"


@pytest.fixture
def filled(prepared, root, monkeypatch):
    """A registry with something in it, known by the environment."""
    shutil.copytree(prepared, root, symlinks=True)
    monkeypatch.setenv("MLC_REGISTRY", str(root))
    with ModelRegistry(root) as opened:
        yield opened


def test_from_checkpoint_to_path(mlc, root, checkpoint):
    """Register through a link, promote, and let a shell use the path."""
    best = checkpoint.parent / "best"
    best.symlink_to(checkpoint.name)
    place = ("--registry", root)

    status, out, err = mlc(
        "registry", "register", "net", "v1.0", best, *place, "--meta", 'metrics={"dice": 0.9}', "--meta", "run=exp=1",
        "--meta", "epochs=12", "--description", "First.", "--actor", "ann",
    )  # fmt: skip
    assert (0, "Note: version 'v1.0' is read as 1.0.0\n") == (status, err)
    assert f"net 1.0.0 is published: {root}/artifacts/net/1.0.0\n" == out
    status, out, _ = mlc("registry", "promote", "net@^1", "production", "--reason", "best", *place)
    assert (0, "production of net is 1.0.0 now\n") == (status, out)
    for reference in ("net@^1", "net@production", "net@@production", "net"):
        assert (0, f"{root}/artifacts/net/1.0.0\n", "") == mlc("registry", "resolve", reference, "--path", *place)
    with ModelRegistry(root, create=False) as registry:
        published = registry.get("net", "1.0.0")
        assert {"metrics": {"dice": 0.9}, "run": "exp=1", "epochs": 12} == published.metadata
        assert ("First.", "ann") == (published.description, published.created_by)


def test_models_and_versions_are_listed(mlc, filled):
    """For people, with where the stages are."""
    _, models, _ = mlc("registry", "ls")
    _, versions, _ = mlc("registry", "ls", "net")

    assert ["cat", "0.1.0", "0.1.0", "1"] in [line.split() for line in models.splitlines()]
    assert ["net", "1.1.0", "2.0.0-rc.1", "3", "production", "1.0.0"] in [line.split() for line in models.splitlines()]
    assert ["2.0.0-rc.1", "1.1.0", "1.0.0"] == [line.split()[0] for line in versions.splitlines()[4:-1]]
    assert "First." in versions


@pytest.mark.parametrize(
    ("arguments", "check"),
    [
        (("ls",), lambda found: [{}, {"production": "1.0.0"}] == [one["stages"] for one in found]),
        (("ls", "net"), lambda found: [[], [], ["production"]] == [one["stages"] for one in found]),
        (("show", "net@1.0.0"), lambda found: (0.9, 3) == (found["metadata"]["dice"], len(found["files"]))),
        (("resolve", "net@^1"), lambda found: found["path"].endswith("net/1.1.0/model.bin")),
        (("resolve", "net", "--pre"), lambda found: "2.0.0-rc.1" == found["version"]),
        (("verify", "net@production"), lambda found: "1.0.0" == found["version"]),
        (("history", "net"), lambda found: "bob" == found[-1]["actor"]),
        (("history", "net", "--stage", "production"), lambda found: ["promoted"] == [one["kind"] for one in found]),
        (("promote", "net@1.1.0", "staging", "--expected", "unset"), lambda found: "1.1.0" == found["version"]),
        (("yank", "net@1.1.0", "--reason", "bad"), lambda found: "bad" == found["yank_reason"]),
        (("unyank", "net@1.1.0"), lambda found: not found["yanked"]),
        (("register", "new", "1.0.0", __file__), lambda found: found["path"].endswith("new/1.0.0/test_commands.py")),
    ],
)
def test_programs_get_json(mlc, filled, arguments, check):
    """One document on standard output, from every command."""
    status, out, _ = mlc("registry", *arguments, "--json")

    assert 0 == status
    assert check(json.loads(out))


def test_one_version_is_shown(mlc, filled):
    """Everything about it."""
    _, out, _ = mlc("registry", "show", "net@production")
    _, resolved, _ = mlc("registry", "resolve", "net@production")

    for part in ("First.", "by ann", "production", "more/state.json", "sha256:", "0.9", "exp", "artifacts/net/1.0.0"):
        assert part in out
    assert "reference  production\n" in resolved
    assert "Metadata" not in mlc("registry", "show", "cat")[1]


def test_yanking_says_who_still_points_there(mlc, filled):
    """And afterwards it is found exactly, with a note, or not at all."""
    status, out, err = mlc("registry", "yank", "net@1.0.0", "--reason", "bad labels")
    assert (0, "net 1.0.0 is yanked: bad labels\n") == (status, out)
    assert "Note: stage production still points to it" in err

    assert "Note: net 1.0.0 was yanked: bad labels\n" == mlc("registry", "resolve", "net@1.0.0")[2]
    assert "yanked     bad labels" in mlc("registry", "show", "net@1.0.0")[1]
    assert "yanked: bad labels" in mlc("registry", "ls", "net")[1]
    assert 1 == mlc("registry", "resolve", "net@~1.0")[0]
    assert "net 1.0.0 can be found again\n" == mlc("registry", "unyank", "net@1.0.0")[1]
    assert "unyanked" in mlc("registry", "history", "net")[1]


def test_rolling_back(mlc, filled):
    """One step."""
    mlc("registry", "promote", "net@1.1.0", "production")
    status, out, _ = mlc("registry", "rollback", "net", "production", "--reason", "drift")

    assert (0, "production of net is 1.0.0 now\n") == (status, out)
    assert "drift" == filled.history("net")[-1].reason


def test_damage_is_an_error(mlc, filled):
    """With the file, and status 1."""
    assert "ok  net 1.1.0  sha256:" in mlc("registry", "verify", "net")[1]
    filled.get_model_path("net").unlink()
    status, _, err = mlc("registry", "verify", "net")

    assert 1 == status
    assert "model.bin is missing" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("ls", "net"),
        ("show", "net"),
        ("resolve", "net"),
        ("verify", "net"),
        ("history", "net"),
        ("promote", "net@1.0.0", "production"),
        ("rollback", "net", "production"),
        ("yank", "net@1.0.0", "--reason", "bad"),
        ("unyank", "net@1.0.0"),
    ],
)
def test_only_register_makes_a_registry(mlc, root, arguments):
    """A typing error in the place leaves nothing behind."""
    status, out, err = mlc("registry", *arguments, "--registry", root)

    assert (1, "") == (status, out)
    assert f"Error: there is no registry in {root}" in err
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (("resolve", "net@^9"), 1, "no version of 'net' satisfies '^9'"),
        (("resolve", "nett"), 1, "Did you mean 'net'?"),
        (("resolve", "net@"), 1, "write net@latest"),
        (("resolve", "../net"), 1, "cannot name a model"),
        (("yank", "net", "--reason", "x"), 2, "write net@1.2.3"),
        (("yank", "net@1.0.0"), 2, "--reason"),
        (("register", "net", "3.0.0", "nowhere"), 1, "no such file"),
        (("register", "net", "3", __file__, "--meta", "a"), 2, "is not KEY=VALUE"),
        (("register", "net", "3", __file__, "--meta", "a=1", "--meta", "a=2"), 2, "comes twice"),
        (("register", "net", "1.0.0", __file__), 1, "was published with other files"),
        (("promote", "net@1.1.0", "production", "--expected", "1.1.0"), 1, "it was not moved"),
        (("promote", "net@1.1.0", "latest"), 1, "cannot name a stage"),
    ],
)
def test_errors_are_one_message(mlc, filled, arguments, status, part):
    """On standard error, without a traceback."""
    found, out, err = mlc("registry", *arguments)

    assert (status, "") == (found, out)
    assert part in err
    assert "Traceback" not in err


def test_help_fits(mlc):
    """Every command's line is whole."""
    _, out, _ = mlc("registry", "--help")

    assert [] == [line for line in out.splitlines()[1:] if line.endswith("...")]
    assert "Publish versions of models, find them, promote them." in mlc("--help")[1]
