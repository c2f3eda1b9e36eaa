"""Models that need other models, on each database: what is chosen, why something cannot be, and what is pinned."""

import json

import pytest

from mlc_registry import (
    CorruptArtifactError,
    DependencyError,
    InvalidReferenceError,
    LockError,
    ModelNotFoundError,
    StageNotFoundError,
    Version,
    VersionNotFoundError,
    YankedVersionWarning,
)


@pytest.fixture
def world(place, weights):
    """A registry with an application, a decoder and an encoder; a function that publishes more."""
    with place.open() as registry:

        def publish(name, *texts, **options):
            for text in texts:
                registry.register_model(name, text, weights(f"{name} {text}"), **options)

        publish("encoder", "1.0.0", "1.1.0", "1.2.0", "1.4.0", "2.0.0-rc.1")
        publish("decoder", "1.0.0", dependencies={"encoder": "<1.2"})
        publish("decoder", "2.0.0", dependencies={"encoder": "^1.2"})
        publish("app", "2.0.0", dependencies={"encoder": "^1.0"})
        publish("app", "2.1.0", dependencies={"encoder": "^1.2", "decoder": "*"})
        registry.publish = publish
        yield registry


def numbers(resolution):
    return {name: str(one.version) for name, one in resolution.items()}


def test_the_highest_that_fit_are_chosen(world):
    """With who needs each, by which range, its digest and its place."""
    found = world.dependencies.resolve({"app": "^2"})

    assert {"app": "2.1.0", "decoder": "2.0.0", "encoder": "1.4.0"} == numbers(found)
    assert [("app 2.1.0", "^1.2"), ("decoder 2.0.0", "^1.2")] == [
        (one.by, one.reference) for one in found.required["encoder"]
    ]
    assert world.get("encoder", "1.4.0").digest == found["encoder"].digest
    assert "encoder 1.4.0" == found["encoder"].path.read_text()


def test_earlier_versions_are_tried(world):
    """The first that is asked for has the choice."""
    both = {"app": "2.0.0", "decoder": "1.0.0", "encoder": "1.1.0"}

    assert both == numbers(world.dependencies.resolve(["decoder@^1", "app@^2"]))
    world.publish("app", "2.2.0", dependencies={"encoder": "^1.2", "decoder": "^1"})  # which can never be had
    assert "2.1.0" == numbers(world.dependencies.resolve(["app@^2"]))["app"]


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("1.1.0", "1.1.0"),
        ("1.x", "1.4.0"),
        ("latest", "1.4.0"),
        ("newest", "2.0.0-rc.1"),
        ("@production", "1.0.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
    ],
)
def test_every_reference_can_be_required(world, reference, version):
    """As the registry resolves it by itself; and its digest, too."""
    world.promote("encoder", "1.0.0", "production")
    digest = world.get("encoder", version).digest

    assert {"encoder": version} == numbers(world.dependencies.resolve([f"encoder@{reference}"]))
    assert {"encoder": version} == numbers(world.dependencies.resolve({"encoder": digest}))


def test_prereleases_are_found_if_asked_for(world):
    """By every range."""
    world.publish("late", "1.0.0", dependencies={"encoder": ">=1"})

    assert "1.4.0" == numbers(world.dependencies.resolve(["late@*"]))["encoder"]
    assert "2.0.0-rc.1" == numbers(world.dependencies.resolve(["late@*"], include_prereleases=True))["encoder"]


def test_yanked_versions_are_passed_over(world):
    """Unless they are asked for exactly: that lets everybody have them."""
    world.yank("encoder", "1.4.0", "bad")

    assert "1.2.0" == numbers(world.dependencies.resolve(["app@^2"]))["encoder"]
    assert "1.4.0" == numbers(world.dependencies.resolve(["app@^2", "encoder@1.4.0"]))["encoder"]
    world.yank("encoder", "1.2.0", "bad")
    with pytest.raises(DependencyError, match=r"encoder \^1\.2 \(1\.4\.0 would be in it, but was yanked\)"):
        world.dependencies.resolve(["app@2.1.0"])


def test_a_conflict_is_explained(world):
    """Who needs what, what is the highest of it, and the nearest way out, which is true."""
    with pytest.raises(DependencyError) as found:
        world.dependencies.resolve(["app@2.1.0", "decoder@^1"])

    assert [
        "app@2.1.0, decoder@^1 cannot be had together:",
        "  app 2.1.0 needs encoder ^1.2 (1.4.0 is the highest)",
        "  decoder 1.0.0 needs encoder <1.2 (1.1.0 is the highest)",
        "  no version of encoder is in both",
        "  With app 2.0.0 instead of 2.1.0 it can be done: ask for app@2.0.0",
    ] == str(found.value).splitlines()
    assert "decoder" in world.dependencies.resolve(["app@2.0.0", "decoder@^1"])


def test_other_ways_out_are_named(world):
    """Pre-releases, or that there is none."""
    world.publish("late", "1.0.0", dependencies={"encoder": ">=2.0.0-rc.1"})
    world.publish("early", "1.0.0", dependencies={"encoder": ">=1"})
    with pytest.raises(DependencyError, match=r"say include_prereleases=True \(--pre\)"):
        world.dependencies.resolve(["late@*", "early@*"])
    world.publish("old", "1.0.0", dependencies={"encoder": "1.0.0"})
    with pytest.raises(DependencyError, match="publish one that fits") as found:
        world.dependencies.resolve(["late@*", "old@*"])
    assert "old 1.0.0 needs encoder 1.0.0 (which is there)" in str(found.value)


@pytest.mark.parametrize(
    ("requirements", "error", "says"),
    [
        ({}, DependencyError, "nothing is required"),
        ("encoder", DependencyError, "is one text"),
        (["encoder@^1", "encoder@<2"], DependencyError, r"asked for twice; say both .* encoder@'\^1 <2'"),
        (["encodr@^1"], ModelNotFoundError, "Did you mean 'encoder'"),
        (["encoder@^9"], VersionNotFoundError, "The highest are"),
        (["encoder@production"], StageNotFoundError, "no stage"),
        ({"encoder": "^^"}, InvalidReferenceError, "no range"),
    ],
)
def test_what_cannot_be_required_is_said(world, requirements, error, says):
    """Before anything is chosen."""
    with pytest.raises(error, match=says):
        world.dependencies.resolve(requirements)


def test_dependencies_that_cannot_be_had_are_not_published(world, weights):
    """Each is named, with what there is; nothing is published."""
    wrong = {"encodr": "^1", "encoder": "^9", "new": "*", "app": "latest", "../x": "1", "decoder": " "}
    with pytest.raises(DependencyError) as found:
        world.register_model("new", "1.0.0", weights("new"), dependencies=wrong)
    lines = str(found.value).splitlines()

    assert ["'encodr'", "'encoder'", "'new'", "'app'", "'../x'", "'decoder'"] == [
        line.split(":")[0].strip() for line in lines[1:] if line.startswith("  '")
    ]
    for says in ("Did you mean 'encoder'?", "The highest are", "itself", "stages and keywords move", "cannot name"):
        assert says in str(found.value)
    with pytest.raises(ModelNotFoundError):
        world.get("new", "1.0.0")


def test_publishing_again_asks_nothing(world, weights):
    """What is there is there, whatever became of what it needs."""
    world.publish("new", "1.0.0", dependencies={"encoder": "1.0.0"})
    world._backend.store.statements.remove("encoder", Version.parse("1.0.0"), actor="ann", reason="old")
    world.publish("new", "1.0.0", dependencies={"encoder": "1.0.0"})
    with pytest.raises(DependencyError, match="new"):
        world.publish("new", "1.1.0", dependencies={"encoder": "1.0.0"})


def test_a_tree_shows_circles(world):
    """Once around, with the version that suits both."""
    world.publish("a", "1.0.0")
    world.publish("b", "1.0.0", dependencies={"a": "^1"})
    world.publish("a", "1.1.0", dependencies={"b": "^1"})
    tree = world.dependencies.tree("a")
    (b,) = tree.branches
    (again,) = b.branches

    assert ("a", "1.1.0", "latest", False) == (tree.model, str(tree.version), tree.reference, tree.circular)
    assert ("b", "1.0.0", "^1", False) == (b.model, str(b.version), b.reference, b.circular)
    assert ("a", "1.1.0", "^1", True, ()) == (
        again.model, str(again.version), again.reference, again.circular, again.branches
    )  # fmt: skip


def test_dependents_are_found(world):
    """All, or those that work with one version."""

    def found(*arguments):
        return [f"{one.model} {one.version}" for one in world.dependencies.dependents(*arguments)]

    assert ["app 2.1.0", "app 2.0.0", "decoder 2.0.0", "decoder 1.0.0"] == found("encoder")
    assert ["app 2.0.0", "decoder 1.0.0"] == found("encoder", "1.1.0")
    assert [] == found("app")
    with pytest.raises(ModelNotFoundError):
        found("nothing")


# ---------------------------------------------------------------------- lock files


@pytest.fixture
def lock_path(tmp_path):
    """Where the lock file is."""
    return tmp_path / "mlc.lock"


def test_locking_again_is_the_same_file(world, lock_path):
    """To the byte, as long as nothing else would be chosen."""
    made = world.dependencies.lock(["app@^2", "encoder@*"], lock_path)
    content = lock_path.read_bytes()

    assert made == world.dependencies.check_lock(lock_path)
    world.publish("encoder", "3.0.0", "0.1.0")
    for again in (world.dependencies.lock(["app@^2", "encoder@*"], lock_path), world.dependencies.update(lock_path)):
        assert made == again
        assert content == lock_path.read_bytes()
    world.publish("encoder", "1.5.0")
    assert made == world.dependencies.check_lock(lock_path)
    assert "1.5.0" == str(world.dependencies.update(lock_path).models["encoder"].version)


def test_what_is_not_named_stays(world, lock_path):
    """In an update, even where a stage has moved."""
    world.promote("encoder", "1.2.0", "production")
    world.dependencies.lock(["app@^2", "encoder@production"], lock_path)
    world.promote("encoder", "1.4.0", "production")
    world.publish("app", "2.5.0", dependencies={"encoder": "^1"})
    found = world.dependencies.update(lock_path, ["app"])

    assert {"app": "2.5.0", "encoder": "1.2.0"} == {name: str(one.version) for name, one in found.models.items()}
    assert {"app": "2.5.0", "encoder": "1.4.0"} == {
        name: str(one.version) for name, one in world.dependencies.update(lock_path, ["encoder"]).models.items()
    }
    with pytest.raises(LockError, match=r"locks no model 'decoder'; it has app, encoder"):
        world.dependencies.update(lock_path, ["decoder"])


def test_what_cannot_stay_moves(world, lock_path):
    """If what is named needs it to."""
    world.promote("encoder", "1.1.0", "production")
    world.dependencies.lock(["app@>=2", "encoder@production"], lock_path)
    world.promote("encoder", "1.4.0", "production")
    world.yank("app", "2.0.0", "old")
    found = world.dependencies.update(lock_path, ["app"])

    assert ("2.1.0", "1.4.0") == (str(found.models["app"].version), str(found.models["encoder"].version))


def test_what_became_of_locked_versions_is_found(world, lock_path):
    """Yanked is a warning; removed or replaced is an error that names each."""
    world.dependencies.lock(["app@^2"], lock_path)
    world.yank("encoder", "1.4.0", "bad data")
    with pytest.warns(YankedVersionWarning, match=r"encoder 1\.4\.0, which .*mlc\.lock locks, was yanked: bad data"):
        world.dependencies.check_lock(lock_path)
    content = json.loads(lock_path.read_text())
    content["models"]["decoder"]["digest"] = f"sha256:{'0' * 64}"
    del content["models"]["encoder"]
    lock_path.write_text(json.dumps(content))
    world._backend.store.statements.remove("app", Version.parse("2.1.0"), actor="ann", reason="full")
    with pytest.raises(LockError) as found:
        world.dependencies.check_lock(lock_path)

    assert "app 2.1.0 was removed (full)" in str(found.value)
    assert f"but sha256:{'0' * 64} was locked" in str(found.value)
    content["models"]["app"]["version"] = "2.0.0"
    content["models"]["app"]["digest"] = world.get("app", "2.0.0").digest
    content["requirements"] = ["app@2.1.0"]
    lock_path.write_text(json.dumps(content))
    with pytest.raises(LockError, match=r"needs app 2\.1\.0, but 2\.0\.0 is locked") as found:
        world.dependencies.check_lock(lock_path)
    assert "app 2.0.0 needs encoder ^1.0, and no encoder is locked" in str(found.value)


def test_files_are_loaded_by_digest(world, lock_path):
    """Never by range, and hashed first."""
    world.dependencies.lock(["app@^2"], lock_path)
    world.publish("encoder", "1.5.0")
    path = world.dependencies.path("encoder", lock_path)

    assert "encoder 1.4.0" == path.read_text()
    path.chmod(0o644)
    path.write_text("encoder 6.6.6")
    with pytest.raises(CorruptArtifactError, match="has other content"):
        world.dependencies.path("encoder", lock_path)
    assert path == world.dependencies.path("encoder", lock_path, verify=False)
    with pytest.raises(LockError, match="locks no model 'other'"):
        world.dependencies.path("other", lock_path)
    world._backend.store.statements.remove("encoder", Version.parse("1.4.0"), actor="ann", reason="old")
    with pytest.raises(LockError, match="has removed the files"):
        world.dependencies.path("encoder", lock_path)
    content = json.loads(lock_path.read_text())
    content["models"]["encoder"]["digest"] = f"sha256:{'0' * 64}"
    lock_path.write_text(json.dumps(content))
    with pytest.raises(LockError, match="knows nothing"):
        world.dependencies.path("encoder", lock_path)
    assert "secret" not in lock_path.read_text()


# ---------------------------------------------------------------------- commands


def test_commands(world, place, mlc, lock_path):
    """Lock, check, update; the tree and the dependents."""
    where = ("--registry", place.root, "--artifacts", place.artifacts)
    lock = ("registry", "lock", "--output", lock_path, *where)
    assert "app 2.1.0: ^1.2" in mlc(*lock, "app@^2")[1]
    content = lock_path.read_bytes()
    assert (0, content) == (mlc(*lock, "app@^2", "--json")[0], lock_path.read_bytes())
    assert "Checked" in mlc(*lock, "--check")[1]
    world.publish("encoder", "1.5.0")
    assert "1.5.0" == json.loads(mlc(*lock, "--update", "encoder", "--json")[1])["models"]["encoder"]["version"]
    world.yank("encoder", "1.5.0", "bad")
    status, _, notes = mlc(*lock, "--check")
    assert (0, True) == (status, "was yanked: bad" in notes)
    lock_path.write_text("{}")
    status, _, complaint = mlc(*lock, "--check")
    assert (1, True) == (status, "is damaged" in complaint)
    for wrong in ((), ("--check", "app"), ("--check", "--update"), ("--update", "--pre")):
        assert 2 == mlc(*lock, *wrong)[0]
    assert [
        "app 2.1.0",
        "├── decoder 2.0.0 (*)",
        "│   └── encoder 1.4.0 (^1.2)",
        "└── encoder 1.4.0 (^1.2)",
    ] == mlc("registry", "dependencies", "app", *where)[1].splitlines()
    tree = json.loads(mlc("registry", "dependencies", "app", "--json", *where)[1])
    assert ["decoder", "encoder"] == [one["model"] for one in tree["dependencies"]]
    assert "<1.2" in mlc("registry", "dependents", "encoder", *where)[1]
    found = json.loads(mlc("registry", "dependents", "encoder@1.1.0", "--json", *where)[1])
    assert {("app", "^1.0"), ("decoder", "<1.2")} == {(one["model"], one["range"]) for one in found}
    status, _, complaint = mlc("registry", "lock", "app@2.1.0", "decoder@^1", *where)
    assert (1, True) == (status, "no version of encoder is in both" in complaint)
