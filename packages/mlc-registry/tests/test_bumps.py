"""Which number a version deserves."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import Architecture, BumpWarning, ModelRegistry, VersionNotFoundError
from mlc_registry.records import File
from mlc_registry.releases.bumps import judge, next_version, suggest_from
from mlc_registry.releases.comparisons import Composition
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version

W, V = ("F32", (2, 2)), ("F16", (2,))
BUMPS = ("none", "patch", "minor", "major")
NUMBERS = st.integers(0, 3)
RELEASES = st.builds(Version, NUMBERS, NUMBERS, NUMBERS)


def composition(schema=None, *, files=None, entry="m.safetensors", **options):
    files = {entry: "x"} if files is None else files
    listed = {name: File(name, 1, content) for name, content in files.items()}
    return Composition(files=listed, entry=entry, schema=schema, unlisted="" if schema else "no tensors", **options)


FOLDER = {"model.safetensors": "x", "notes.md": "y"}
NET = Architecture(model_class="a:Net", config={"width": 4})
RECIPE = {"entry": "model.json", "architecture": NET}


@pytest.mark.parametrize(
    ("before", "after", "bump", "part"),
    [
        (composition({"w": W}), composition({"w": W}), "none", None),
        (composition({"w": W}), composition({"w": W}, files={"m.safetensors": "z"}), "patch", "other values"),
        (composition({"w": W, "v": V}), composition({"w": W}), "major", "1 tensor removed: v"),
        (composition({"w": W}), composition({"w": W, "v": V}), "major", "1 tensor added"),
        (composition({"w": W}), composition({"u": W}), "major", "1 tensor renamed: w"),
        (composition({"w": W}), composition({"w": ("F32", (2, 3))}), "major", "1 tensor of another shape: w"),
        (composition({"w": W}), composition({"w": ("F16", (2, 2))}), "minor", "1 tensor of another dtype: w"),
        (composition({"w": W}), composition(), "major", "cannot any more: no tensors"),
        (composition(), composition({"w": W}), "major", "another format"),
        (composition(), composition(files={"m.safetensors": "z"}), "patch", "only you know"),
        (composition(entry="a.bin"), composition(entry="b.bin"), "none", None),
        (composition(entry="a.bin"), composition(entry="a.onnx"), "major", "the file is 'a.onnx', and was 'a.bin'"),
        (composition(), composition(entry="", files=FOLDER), "major", "it is a directory, and was a file"),
        (composition(entry="", files=FOLDER), composition(), "major", "it is a file, and was a directory"),
        (composition(architecture=NET), composition(architecture=NET), "none", None),
        (composition(), composition(architecture=NET), "minor", "it says its class, a:Net"),
        (composition(architecture=NET), composition(), "major", "it says no class any more"),
        (
            composition(architecture=NET),
            composition(architecture=Architecture(model_class="b:Net", config={"width": 4})),
            "major",
            "the class is b:Net, and was a:Net",
        ),
        (
            composition(architecture=NET),
            composition(architecture=Architecture(model_class="a:Net", config={"width": 4, "depth": None})),
            "minor",
            "the configuration differs in depth",
        ),
        (composition(), composition(dependencies={"other": "^1"}), "minor", "other versions of other"),
        (
            composition(entry="", files=FOLDER),
            composition(entry="", files={"model.safetensors": "x"}),
            "major",
            "1 file removed: notes.md",
        ),
        (
            composition(entry="", files={"model.safetensors": "x"}),
            composition(entry="", files=FOLDER),
            "minor",
            "1 file added: notes.md",
        ),
        (
            composition({"w": W}, entry="", files={"model.safetensors": "x"}, weights=frozenset({"model.safetensors"})),
            composition({"w": W}, entry="", files={"a.safetensors": "y"}, weights=frozenset({"a.safetensors"})),
            "patch",
            "other values",
        ),
        (composition(**RECIPE), composition(architecture=NET), "minor", "it has files, and was a class"),
        (composition(architecture=NET), composition(**RECIPE), "major", "no files any more"),
        (
            composition(**RECIPE),
            composition(**{**RECIPE, "files": {"model.json": "y"}}),
            "none",
            None,
        ),
        (
            composition(entry="", files=FOLDER, training=frozenset({"notes.md"})),
            composition(entry="", files={"model.safetensors": "x"}),
            "minor",
            "training cannot go on as before",
        ),
    ],
)
def test_what_differs_asks_for_a_bump(before, after, bump, part):
    """The table of the page, row by row."""
    found, reasons = judge(before, after)

    assert bump == found
    assert (not reasons) if part is None else part in reasons[0].text
    assert list(reasons) == sorted(reasons, key=lambda one: -BUMPS.index(one.bump))


@given(base=RELEASES)
def test_only_what_breaks_leaves_the_range(base):
    """Whoever asks for ^BASE finds a patch and a minor version, and no major one."""
    compatible = Range.parse(f"^{base}")

    assert next_version(base, "none") == base
    assert next_version(base, "major") not in compatible
    if base >= Version(0, 1, 0):
        assert next_version(base, "patch") in compatible
        assert next_version(base, "minor") in compatible
    assert base < next_version(base, "patch") <= next_version(base, "minor") <= next_version(base, "major")


@pytest.mark.parametrize(
    ("base", "bump", "expected"),
    [
        ("1.2.3", "major", "2.0.0"),
        ("1.2.3", "minor", "1.3.0"),
        ("1.2.3", "patch", "1.2.4"),
        ("1.2.3+build.5", "patch", "1.2.4"),
        ("0.2.3", "major", "0.3.0"),
        ("0.2.3", "minor", "0.2.4"),
        ("0.2.3", "patch", "0.2.4"),
        ("0.0.3", "major", "0.1.0"),
    ],
)
def test_numbers(base, bump, expected):
    """While the major number is 0, the minor one tells what breaks."""
    assert expected == str(next_version(Version.parse(base), bump))


@pytest.mark.parametrize(
    ("base", "promise", "bump", "expected"),
    [
        ("2.0.0-rc.1", "1.4.0", "major", "2.0.0-rc.2"),
        ("2.0.0-rc.1", "1.4.0", "patch", "2.0.0-rc.2"),
        ("2.0.0-rc.1", None, "major", "2.0.0-rc.2"),
        ("2.0.0-rc", "1.4.0", "minor", "2.0.0-rc.1"),
        ("2.0.0-1.rc", "1.4.0", "minor", "2.0.0-2.rc"),
        ("1.5.0-rc.3", "1.4.0", "major", "2.0.0-rc.1"),
        ("1.4.1-beta.3", "1.4.0", "minor", "1.5.0-beta.1"),
        ("1.4.1-7", "1.4.0", "minor", "1.5.0-1"),
        ("2.0.0-rc.1", "1.4.0", "none", "2.0.0"),
    ],
)
def test_prereleases(base, promise, bump, expected):
    """The next one, unless the release that it is for is not far enough from the last release."""
    found = suggest_from(Version.parse(base), None if promise is None else Version.parse(promise), bump, ())

    assert expected == str(found.version)
    assert found.reasons


# ------------------------------------------------------------------ in a registry


def test_suggestions_follow_what_is_published(registry, tensors):
    """From the first version to the next major one, and the same files are the same version."""
    first = registry.releases.suggest("net", tensors({"w": W}))
    assert ("0.1.0", None) == (str(first.version), first.base)
    registry.register_model("net", "1.0.0", tensors({"w": W}))
    registry.register_model("net", "1.1.0", tensors({"w": W}, note="b"))

    assert ("none", "1.1.0") == pick(registry.releases.suggest("net", tensors({"w": W}, note="b")))
    assert ("patch", "1.1.1") == pick(registry.releases.suggest("net", tensors({"w": W}, note="c")))
    assert ("patch", "1.0.1") == pick(registry.releases.suggest("net", tensors({"w": W}, note="c"), "1.0.0"))
    assert ("major", "2.0.0") == pick(registry.releases.suggest("net", tensors({"w": W, "v": V})))
    with pytest.raises(VersionNotFoundError):
        registry.releases.suggest("net", tensors({"w": W}), "^3")


def test_what_nobody_says_is_as_it_was(registry, tensors):
    """A suggestion that is told nothing of the class takes that of the version before."""
    registry.register_model("net", "1.0.0", tensors({"w": W}), architecture=NET)

    assert ("none", "1.0.0") == pick(registry.releases.suggest("net", tensors({"w": W})))
    wide = Architecture(model_class="a:Net", config={"width": 8})
    assert ("minor", "1.1.0") == pick(registry.releases.suggest("net", tensors({"w": W}), architecture=wide))


def test_prereleases_are_held_against_the_last_release(registry, tensors):
    """And against nothing where there is none."""
    registry.register_model("net", "1.0.0-rc.1", tensors({"w": W}))
    assert ("patch", "1.0.0-rc.2") == pick(registry.releases.suggest("net", tensors({"w": W}, note="b")))
    registry.register_model("net", "1.0.0", tensors({"w": W}))
    registry.register_model("net", "1.0.1-rc.1", tensors({"w": W}, note="b"))

    assert ("major", "2.0.0-rc.1") == pick(registry.releases.suggest("net", tensors({"v": V}), "newest"))
    assert ("patch", "1.0.1-rc.2") == pick(registry.releases.suggest("net", tensors({"w": W}, note="c"), "newest"))
    assert ("none", "1.0.1") == pick(registry.releases.suggest("net", tensors({"w": W}, note="b"), "newest"))
    assert ("patch", "1.0.1-rc.2") == pick(registry.releases.suggest("net", tensors({"w": W}), "newest"))


def pick(suggestion):
    return suggestion.bump, str(suggestion.version)


@pytest.mark.parametrize("version", ["1.0.1", "1.5.0", "1.0.1-rc.1"])
def test_number_that_says_too_little_is_warned_of(registry, tensors, version):
    """With the number that would do; and as an error it keeps the version from being published."""
    registry.register_model("net", "1.0.0", tensors({"w": W, "v": V}))
    with pytest.raises(BumpWarning, match=r"1 tensor removed: v\. .*2\.0\.0 would not surprise them"):
        registry.register_model("net", version, tensors({"w": W}))

    assert ["1.0.0"] == [str(one.version) for one in registry.list_versions("net")]
    with pytest.warns(BumpWarning):
        registry.register_model("net", version, tensors({"w": W}))
    registry.register_model("net", version, tensors({"w": W}))  # again: what is there is not warned of


def test_number_that_says_enough_is_not_warned_of(registry, tensors):
    """Each is held against the release before it, not against the last; a yanked one does not count."""
    registry.register_model("net", "1.0.0", tensors({"w": W}))
    registry.register_model("net", "2.0.0", tensors({"v": V}))
    registry.register_model("net", "1.0.1", tensors({"w": W}, note="b"))
    registry.register_model("net", "2.0.1", tensors({"v": V}, note="b"))
    registry.yank("net", "2.0.0", "bad")
    registry.yank("net", "2.0.1", "bad")
    registry.register_model("net", "2.0.2", tensors({"w": W}, note="c"))

    assert 5 == len(registry.list_versions("net"))


def test_check_never_keeps_files_out(registry, tensors, weights):
    """What cannot be compared, because files are damaged or gone, is published all the same."""
    registry.register_model("net", "1.0.0", weights("abc"))
    registry.register_model("net", "1.0.1", weights("abd"))
    registry.get_model_path("net", "1.0.1").unlink()
    registry.register_model("net", "1.0.2", weights("abe"))

    assert "1.0.2" == str(registry.resolve("net").version)
    registry.register_model("cat", "1.0.0", tensors({"w": W}))
    registry.get_model_path("cat", "1.0.0").unlink()
    registry.register_model("cat", "1.0.1", tensors({"v": W}))
    assert registry.releases.compare("cat", "1.0.0", "1.0.1").schema is None
    assert 2 == len(registry.releases.changelog("cat").releases)


def test_suggestion_on_the_command_line(mlc, root, tensors):
    """The number first, then why."""
    with ModelRegistry(root) as registry:
        registry.register_model("net", "1.0.0", tensors({"w": W}))
    status, out, _ = mlc("registry", "suggest", "net", tensors({"v": V, "w": W}), "--registry", root)

    assert 0 == status
    assert [
        "2.0.0",
        "  major  1 tensor added, which the class before has no place for: v",
        "  patch  other values",
    ] == (out.splitlines())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        status, _, err = mlc("registry", "register", "net", "1.0.1", tensors({"v": V}), "--registry", root)
    assert 0 == status
    assert "Note: net 1.0.1 changes more than its number says" in err
