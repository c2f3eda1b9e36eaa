"""What is said about a version beside its metadata: refused before anything is touched, or kept for ever."""

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import (
    Architecture,
    DependencyError,
    InvalidMetadataError,
    InvalidNoteError,
    InvalidQueryError,
    InvalidReferenceError,
    InvalidTagError,
    ModelNotFoundError,
    Origin,
    RemovedVersionError,
    Tracking,
    UnchangedVersionWarning,
    Version,
    VersionNotFoundError,
)
from mlc_registry.facts import check_facts, check_tracking, decode_facts, encode_facts
from mlc_registry.testing.drafts import make_draft

TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
CONFIGS = st.dictionaries(TEXTS, JSON, max_size=3)
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "tracking": st.builds(
            Tracking,
            run=TEXTS,
            dataset=TEXTS,
            epoch=st.none() | st.integers(0, 2**63 - 1),
            step=st.none() | st.just(0),
            metrics=st.dictionaries(TEXTS.filter(bool), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
            parameters=CONFIGS,
        ),
        "architecture": st.builds(Architecture, model_class=st.just("medical.networks:UNet"), config=CONFIGS),
        "dependencies": st.dictionaries(st.sampled_from(["net", "cat"]), st.sampled_from(["*", "^1 || 2.x"])),
        "parent": st.builds(Origin, model=st.just("net"), version=st.just(Version.parse("1.0.0-rc.1+b")), digest=TEXTS),
    },
)


@given(FACTS)
def test_facts_come_back(said):
    """Whatever they are, and nothing is written where nothing is said."""
    draft = make_draft("1.0.0", **said)
    text = encode_facts(draft)

    check_facts(text)
    found = {"tracking": Tracking(), "architecture": None, "dependencies": {}, "parent": None, **decode_facts(text)}
    assert found == {name: getattr(draft, name) for name in found}
    assert encode_facts(make_draft("2.0.0", **decode_facts(text))) == text
    assert ("{}" == text) == (draft == make_draft("1.0.0"))


class Number(float):
    """As a library has them."""


def test_metrics_are_plain_numbers():
    """Whatever they were."""
    found = check_tracking(Tracking(metrics={"a": 1, "b": Number(0.5), "c": -0.0})).metrics

    assert {"a": 1.0, "b": 0.5, "c": 0.0} == found
    assert {float} == {type(one) for one in found.values()}


@pytest.mark.parametrize(
    ("said", "error", "part"),
    [
        ({"tracking": Tracking(metrics={"dice": math.nan})}, InvalidMetadataError, r"tracking.metrics\['dice'\]"),
        ({"tracking": Tracking(metrics={"dice": math.inf})}, InvalidMetadataError, "cannot be compared"),
        ({"tracking": Tracking(metrics={"dice": 10**400})}, InvalidMetadataError, "cannot be compared"),
        ({"tracking": Tracking(metrics={"dice": "0.9"})}, InvalidMetadataError, "a builtins.str is not a number"),
        ({"tracking": Tracking(metrics={"dice": True})}, InvalidMetadataError, "a builtins.bool is not a number"),
        ({"tracking": Tracking(metrics={"": 1})}, InvalidMetadataError, "has no name"),
        ({"tracking": Tracking(metrics={"a\nb": 1})}, InvalidMetadataError, "name of a metric"),
        ({"tracking": Tracking(run="a\0b")}, InvalidMetadataError, "tracking.run"),
        ({"tracking": Tracking(dataset="x" * 1001)}, InvalidMetadataError, "tracking.dataset"),
        ({"tracking": Tracking(commit="\udcff")}, InvalidMetadataError, "tracking.commit"),
        ({"tracking": Tracking(commit=7)}, InvalidMetadataError, "tracking.commit"),
        ({"tracking": Tracking(epoch=-1)}, InvalidMetadataError, "tracking.epoch"),
        ({"tracking": Tracking(step=1.5)}, InvalidMetadataError, "tracking.step"),
        ({"tracking": Tracking(step=True)}, InvalidMetadataError, "tracking.step"),
        ({"tracking": Tracking(parameters={"x": {1}})}, InvalidMetadataError, r"tracking.parameters\['x'\]"),
        ({"tracking": Tracking(parameters={"x": "y" * (1 << 20)})}, InvalidMetadataError, "tracking.parameters is"),
        ({"architecture": Architecture(model_class="UNet")}, InvalidMetadataError, "package.module:Class"),
        ({"architecture": Architecture(model_class="a..b:C")}, InvalidMetadataError, "package.module:Class"),
        ({"architecture": Architecture(model_class="a:b()")}, InvalidMetadataError, "package.module:Class"),
        (
            {"architecture": Architecture(model_class="a:B", config={"x": {1}})},
            InvalidMetadataError,
            "architecture.con",
        ),
        ({"dependencies": {"../x": "*"}}, DependencyError, "cannot name a model"),
        ({"dependencies": {"net": "not a range"}}, DependencyError, "not a range"),
        ({"parent": "nothing@1"}, ModelNotFoundError, "nothing"),
        ({"parent": "net@^7"}, VersionNotFoundError, "7"),
        ({"parent": "net@"}, InvalidReferenceError, "ends where"),
        ({"tags": {"a b": "x"}}, InvalidTagError, "'a b' cannot be the key"),
        ({"tags": {"a": 1}}, InvalidTagError, "tag 'a'"),
        ({"tags": {f"a{number}": "x" for number in range(101)}}, InvalidTagError, "101 tags"),
        ({"notes": "x" * (1 << 20) + "x"}, InvalidMetadataError, "notes cannot be kept: it has 1,048,577 bytes"),
        ({"notes": "a\0b"}, InvalidMetadataError, "null"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_touched(registry, publish, root, said, error, part):
    """It says what, and nothing is published."""
    publish("0.1.0")

    with pytest.raises(error, match=part):
        registry.register_model("net", "1.0.0", "/nowhere", **said)
    assert 1 == registry.audit.verify().lines
    assert not any((root / "artifacts" / ".staging").iterdir())


def test_parent_is_the_exact_version(registry, publish):
    """That was meant when it was published, whatever comes later."""
    publish("1.0.0", "1.1.0")
    publish("0.1.0", name="small", parent="net@^1")
    publish("1.2.0")

    origin = Origin(model="net", version=Version.parse("1.1.0"), digest=registry.get("net", "1.1.0").digest)
    assert origin == registry.get("small", "0.1.0").parent


def test_same_files_with_other_facts_warn(registry, weights):
    """Each that is different is named; what is the same or not said is no difference."""
    tracking = Tracking(run="a", metrics={"dice": 1})
    registry.register_model("net", "1.0.0", weights(), tracking=tracking, tags={"task": "ct"}, notes="First.")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.register_model("net", "1.0.0", weights())
        registry.register_model("net", "1.0.0", weights(), tracking=tracking, tags={"task": "ct"}, notes="First.")
    for said, part in (
        ({"tracking": Tracking(run="b")}, "its tracking stayed"),
        (
            {"architecture": Architecture(model_class="a:B"), "dependencies": {"net": "*"}},
            "architecture and dependencies",
        ),
        ({"tags": {"task": "mr"}, "notes": "Second."}, "tags and notes"),
        ({"metadata": {"a": 1}, "tags": {"other": ""}}, "metadata and tags"),
    ):
        with pytest.warns(UnchangedVersionWarning, match=part):
            registry.register_model("net", "1.0.0", weights(), **said)
    assert {"task": "ct"} == registry._backend.store.statements.list_tags("net", Version.parse("1.0.0"))


def test_digest_is_a_reference(registry, publish):
    """To the whole of it, and to the highest version that has it; no beginning of one is."""
    (published,) = publish("1.0.0")
    digest = published.digest

    assert published.version == registry.resolve("net", digest).version
    assert digest == registry.resolve("net", digest).reference
    with pytest.raises(VersionNotFoundError, match="has the digest sha256:0000"):
        registry.resolve("net", f"sha256:{'0' * 64}")
    for wrong in (digest[:-1], digest.upper(), f"{digest}0", "sha256:", digest.replace("sha256:", "SHA256:")):
        with pytest.raises(InvalidReferenceError):
            registry.resolve("net", wrong)


def test_removed_version_is_known_and_cannot_be_had(registry, publish):
    """It says why."""
    publish("1.0.0", "1.1.0")
    number = Version.parse("1.1.0")
    registry._backend.store.statements.remove("net", number, actor="ann", reason="leaked data")

    assert "1.0.0" == str(registry.resolve("net").version)
    assert registry.get("net", "1.1.0").removed
    for ask in (registry.resolve, registry.get_model_path, registry.verify):
        with pytest.raises(RemovedVersionError, match=r"net 1\.1\.0 were removed for good: leaked data"):
            ask("net", "1.1.0")
    with pytest.raises(RemovedVersionError, match="stays yanked"):
        registry.unyank("net", "1.1.0")


def test_history_has_the_digest_of_everything_that_was_said(registry, publish):
    """Of metadata, too: two versions of which other things are said have other digests, and the same have the same."""
    publish("1.0.0", metadata={"a": 1})
    publish("1.1.0", metadata={"a": 2})
    publish("1.2.0", metadata={"a": 2}, tracking=Tracking(epoch=0))
    publish("1.3.0", metadata={"a": 2})
    digests = [one.details for one in registry.history("net")]

    assert 3 == len(set(digests))
    assert digests[1] == digests[3]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"dependencies": ["m"]}, DependencyError),
        ({"tracking": {"run": "x"}}, InvalidMetadataError),
        ({"tracking": Tracking(metrics=[1])}, InvalidMetadataError),
        ({"notes": " \n"}, InvalidNoteError),
    ],
)
def test_what_is_of_another_type_is_refused(registry, weights, said, error):
    """Before anything is published."""
    with pytest.raises(error):
        registry.register_model("net", "1.0.0", weights("abc"), **said)
    assert not registry.list_models()


def test_a_limit_is_a_count(registry, publish):
    """Less than none is an error."""
    publish("1.0.0")
    with pytest.raises(InvalidQueryError, match="limit=-1"):
        registry.list_versions("net", limit=-1)
