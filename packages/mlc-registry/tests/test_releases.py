"""Notes, tags, differences and changelogs."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import (
    Architecture,
    BumpWarning,
    InvalidMetadataError,
    InvalidNoteError,
    InvalidReferenceError,
    InvalidTagError,
    ModelNotFoundError,
    ModelRegistry,
    Tracking,
    VersionNotFoundError,
)
from mlc_registry.releases.changelogs import _deepen

W = ("F32", (2, 2))


# ------------------------------------------------------------------ notes and tags


def test_notes_have_editions(place, weights):
    """The last one counts, and none is lost; the history seals them."""
    with place.open() as registry:
        registry.register_model("net", "1.0.0", weights("a"))
        assert () == registry.releases.notes("net")
        first = registry.releases.write_notes("net", "latest", "# First", actor="ann")
        registry.releases.write_notes("net", "1.0.0", "Second", actor="bob")

        assert ["# First", "Second"] == [one.text for one in registry.releases.notes("net")]
        assert ("ann", "# First") == (first.actor, first.text)
        assert ["noted", "noted"] == [one.kind for one in registry.history("net")][-2:]
        registry.audit.verify()


@pytest.mark.parametrize("text", ["", "  \n "])
def test_notes_that_say_nothing_are_refused(registry, publish, text):
    """Nothing is kept."""
    publish("1.0.0")
    with pytest.raises(InvalidNoteError):
        registry.releases.write_notes("net", "1.0.0", text)
    with pytest.raises(InvalidMetadataError):
        registry.releases.write_notes("net", "1.0.0", "\udcff")
    assert () == registry.releases.notes("net")


def test_notes_of_what_is_not_there(registry, publish):
    """Are refused, as is everything else."""
    publish("1.0.0")
    for method in (registry.releases.notes, registry.releases.tags):
        with pytest.raises(VersionNotFoundError):
            method("net", "2.0.0")
        with pytest.raises(ModelNotFoundError):
            method("nett")
    with pytest.raises(VersionNotFoundError):
        registry.releases.write_notes("net", "2.0.0", "x")


def test_tags_are_set_and_taken_off(place, weights):
    """By keyword or by mapping; each change is a line of the history."""
    with place.open() as registry:
        registry.register_model("net", "1.0.0", weights("a"))
        registry.releases.tag("net", "latest", team="vision", reviewed="no", actor="ann")
        found = registry.releases.tag("net", "1.0.0", {"team/owner": "ann"}, reviewed="yes")

        assert {"team": "vision", "reviewed": "yes", "team/owner": "ann"} == found == registry.releases.tags("net")
        assert {"reviewed": "yes"} == registry.releases.untag("net", "1.0.0", "team", "team/owner", reason="moved")
        assert {"reviewed": "yes"} == registry.releases.untag("net", "1.0.0")
        assert ["tagged"] * 3 == [one.kind for one in registry.history("net")][-3:]
        assert "moved" == registry.history("net")[-1].reason
        registry.audit.verify()


def test_tags_that_cannot_be(registry, publish):
    """Are refused, and none is set."""
    publish("1.0.0")
    cases = [
        ({}, {}, "no tag was given"),
        ({"a": "1"}, {"a": "2"}, "'a' is given twice"),
        ({"b": "1", "a b": "1"}, {}, "cannot be the key of a tag"),
        ({"a": 1}, {}, "tag 'a' cannot be 1"),
        ({"a": None}, {}, "untag"),
    ]
    for values, tags, part in cases:
        with pytest.raises(InvalidTagError, match=part):
            registry.releases.tag("net", "1.0.0", values, **tags)
    assert {} == registry.releases.tags("net")
    registry.releases.tag("net", "1.0.0", team="vision")
    with pytest.raises(InvalidTagError, match=r"has no tag 'taem'\. Did you mean 'team'\? Tags: team\."):
        registry.releases.untag("net", "1.0.0", "taem")


# ------------------------------------------------------------------ differences


def test_two_versions_are_compared(registry, tensors, tmp_path):
    """By everything that is known of them."""
    folder = tensors({"w": W, "v": W}, name="one/model.safetensors").parent
    (folder / "old.txt").write_text("x")
    architecture = Architecture(model_class="a:Net", config={"width": 4, "depth": 2})
    tracking = Tracking(metrics={"dice": 0.9, "loss": 0.3})
    registry.register_model("other", "1.0.0", folder)
    registry.register_model(
        "net", "1.0.0", folder, architecture=architecture, tracking=tracking, dependencies={"other": "^1"}
    )
    folder = tensors({"w": W}, name="two/model.safetensors").parent
    (folder / "new.txt").write_text("x")
    architecture = Architecture(model_class="a:Net", config={"width": 8, "bias": None})
    registry.register_model(
        "net", "2.0.0", folder, architecture=architecture, tracking=Tracking(metrics={"dice": 0.92})
    )
    found = registry.releases.compare("net", "1.0.0", "latest")

    assert "1 tensor removed" == found.schema.summary
    assert {"width": (4, 8), "depth": (2, None), "bias": (None, None)} == found.config
    assert {"dice": (0.9, 0.92), "loss": (0.3, None)} == found.metrics
    assert {"other": ("^1", None)} == found.dependencies
    assert (["new.txt"], ["old.txt"], ["model.safetensors"]) == (found.added, found.removed, found.changed)
    assert ("a:Net", "a:Net") == found.model_class
    assert json.loads(json.dumps(found.to_json()))["files"]["added"] == ["new.txt"]
    same = registry.releases.compare("net", "1.0.0", "1.0.0")
    assert same.same_files
    assert same.schema.same


def test_what_cannot_be_listed_is_compared_by_files(registry, publish):
    """And why is said."""
    publish("1.0.0", "1.1.0")
    found = registry.releases.compare("net", "1.0.0", "1.1.0")

    assert found.schema is None
    assert "cannot be listed" in found.unlisted
    assert ["model.bin"] == found.changed


# ------------------------------------------------------------------ changelogs


@pytest.fixture
def history(registry, tensors):
    """A model with a life behind it."""
    numbers = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0"]
    for number, dice in zip(numbers, (0.8, 0.9, 0.91, 0.92), strict=True):
        schema = {"w": W} if number < "2" else {"w": W, "v": W}
        registry.register_model(
            "net",
            number,
            tensors(schema, note=number),
            description=f"This is {number}.",
            tracking=Tracking(metrics={"dice": dice}),
        )
    registry.releases.write_notes("net", "1.1.0", "# Better\n\n```\n# code\n```\nby far")
    registry.releases.tag("net", "1.1.0", team="vision")
    registry.register_model("net", "1.0.1", tensors({"w": W}, note="1.0.1"))
    registry.yank("net", "1.0.1", "bad labels")
    return registry


def versions(changelog):
    return [str(one.published.version) for one in changelog.releases]


def test_changelog_tells_what_lies_between(history):
    """Releases only, the highest first; a yanked one is marked, and no other is compared with it."""
    found = history.releases.changelog("net", "1.0.0")
    assert ["2.0.0", "1.1.0", "1.0.1"] == versions(found)
    assert ["1.1.0", "1.0.0", "1.0.0"] == [str(one.comparison.before) for one in found.releases]
    assert ["2.0.0", "1.1.0", "1.0.1", "1.0.0"] == versions(history.releases.changelog("net"))
    assert ["1.1.0"] == versions(history.releases.changelog("net", "1.0.1", "1.1.0"))
    assert [] == [one for one in versions(history.releases.changelog("net", "2.0.0")) if one != "2.0.0"]
    every = history.releases.changelog("net", "1.1.0", include_prereleases=True)
    assert ["2.0.0", "2.0.0-rc.1"] == versions(every)
    assert ["2.0.0-rc.1", "1.1.0"] == versions(history.releases.changelog("net", "1.0.1", "2.0.0-rc.1"))
    with pytest.raises(InvalidReferenceError, match=r"1\.0\.0 comes before 2\.0\.0"):
        history.releases.changelog("net", "2.0.0", "1.0.0")


def test_changelog_is_markdown(history):
    """As keepachangelog.com has it: a heading for each version, and none of the notes' above those."""
    text = history.releases.changelog("net").to_markdown()

    assert re.match(r"# Changelog of net\n\n## \[2\.0\.0\] - \d{4}-\d\d-\d\d\n\nThis is 2\.0\.0\.\n", text)
    for part in (
        "### Better\n\n```\n# code\n```\nby far",
        "- dice: 0.8 → 0.9 (+0.1)",
        "### Tags\n\n- team: vision",
        "### Since 1.1.0\n\n- Tensors: 1 tensor added\n",
        "This is 1.0.0.",
    ):
        assert part in text
    assert re.search(r"## \[1\.0\.1\] - \S+ \[YANKED\]\n\nYanked: bad labels\.\n", text)
    assert ["## [2.0.0]", "## [1.1.0]", "## [1.0.1]", "## [1.0.0]"] == re.findall(r"^## \S+", text, re.MULTILINE)


def test_changelog_is_json(history):
    """With everything in it."""
    found = json.loads(json.dumps(history.releases.changelog("net", "1.0.0").to_json()))

    assert ("net", "1.0.0", "2.0.0") == (found["model"], found["since"], found["until"])
    assert [False, False, True] == [one["yanked"] for one in found["releases"]]
    assert found["releases"][0]["comparison"]["schema"]["added"] == {"v": {"dtype": "F32", "shape": [2, 2]}}


def test_long_histories_are_told(registry, weights, monkeypatch):
    """Page by page."""
    monkeypatch.setattr("mlc_registry.releases.room.PAGE", 2)
    for number in range(7):
        registry.register_model("net", f"1.0.{number}", weights(str(number)))

    assert [f"1.0.{number}" for number in (5, 4, 3, 2)] == versions(
        registry.releases.changelog("net", "1.0.1", "1.0.5")
    )


LINES = st.lists(
    st.sampled_from(
        ["# A", "## B", "###### C", "text", "", "```", "~~~", "````", "===", "---", "  # D", "#", "#no", "- x"]
    ),
    max_size=10,
)


@given(lines=LINES)
def test_notes_never_look_like_versions(lines):
    """Outside of code, no heading of theirs is as high as that of a version, and code is left open by none."""
    fence = ""
    for line in "\n".join(_deepen("\n".join(lines))).splitlines():
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and set(line.strip()) == {fence[0]} else fence
        elif mark:
            fence = mark[1]
        else:
            assert not re.match(r" {0,3}#{1,2}(?:\s|$)", line)
            assert not re.match(r" {0,3}(=+|-+)\s*$", line)
    assert "" == fence


# ------------------------------------------------------------------ commands


def test_commands(mlc, root, tensors, tmp_path):
    """Notes from a file, tags, a difference and a changelog."""
    place = ("--registry", root)
    notes = tmp_path / "notes.md"
    notes.write_text("# Better\n")
    with ModelRegistry(root) as registry:
        registry.register_model("net", "1.0.0", tensors({"w": W}))
        with pytest.warns(BumpWarning):
            registry.register_model("net", "1.1.0", tensors({"v": ("F32", (3,))}))

    assert (0, "the notes of net@1.0.0 are kept\n", "") == mlc("registry", "notes", "write", "net@1.0.0", notes, *place)
    assert "# Better\n\n" == mlc("registry", "notes", "show", "net@1.0.0", *place)[1]
    assert "--- " in mlc("registry", "notes", "show", "net@1.0.0", "--all", *place)[1]
    assert "" == mlc("registry", "notes", "show", "net", *place)[1]
    assert "team" in mlc("registry", "tag", "net@1.0.0", "team=vision", "x=1", *place)[1]
    assert {"team": "vision"} == json.loads(mlc("registry", "untag", "net@1.0.0", "x", *place, "--json")[1])
    assert {"team": "vision"} == json.loads(mlc("registry", "tag", "net@1.0.0", *place, "--json")[1])
    out = mlc("registry", "diff", "net", "1.0.0", *place)[1]
    assert "net 1.0.0 -> 1.1.0\n" in out
    assert "- w  F32 [2, 2]\n+ v  F32 [3]\n" in out
    assert json.loads(mlc("registry", "diff", "net", "1.0.0", "1.1.0", *place, "--json")[1])["schema"]["removed"]
    assert mlc("registry", "changelog", "net", *place)[1].startswith("# Changelog of net\n\n## [1.1.0]")
    assert ["1.1.0"] == [
        one["version"]
        for one in json.loads(mlc("registry", "changelog", "net", "1.0.0", *place, "--json")[1])["releases"]
    ]
    assert [1, 2, 2] == [
        mlc("registry", *words, *place)[0]
        for words in (("untag", "net", "nothing"), ("tag", "net", "nothing"), ("untag", "net"))
    ]
