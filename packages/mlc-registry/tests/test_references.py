"""How a version is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import InvalidNameError, InvalidReferenceError, parse_reference
from mlc_registry.names import check_model, check_stage
from mlc_registry.semver.references import read_reference
from mlc_registry.testing import ranges, versions


@pytest.mark.parametrize(
    ("text", "kind", "stage"),
    [
        ("latest", "latest", ""),
        ("newest", "newest", ""),
        ("1.2.3", "exact", ""),
        ("=1.2.3", "exact", ""),
        ("v1.2.3", "exact", ""),
        ("1.0.0-rc.1", "exact", ""),
        ("^1", "range", ""),
        ("1.2", "range", ""),
        ("*", "range", ""),
        ("1 || 2", "range", ""),
        ("x", "range", ""),
        ("@production", "stage", "production"),
        ("production", "stage", "production"),
        ("eu-west_2", "stage", "eu-west_2"),
        ("dev", "stage", "dev"),
    ],
)
def test_one_rule_reads_all(text, kind, stage):
    """Keyword, version or range, stage: in that order, and `@` says stage at once."""
    found = read_reference(text)

    assert (kind, stage, text) == (found.kind, found.stage, str(found))


@pytest.mark.parametrize(
    "text", ["", " ", "@", "@1", "@latest", "@Prod", "^1.2.", "1.2.3.4", "Latest", "a b", "../x", "é"]
)
def test_what_is_no_reference_is_refused(text):
    """With a way out."""
    with pytest.raises(InvalidReferenceError, match=r"latest|stage"):
        read_reference(text)


@given(st.from_regex(r"[a-z0-9.@x_-]{1,12}", fullmatch=True) | ranges() | versions().map(str))
def test_nothing_means_two_things(text):
    """What may name a stage is read as that stage; what is read as anything else may not name one."""
    try:
        check_stage(text)
    except InvalidNameError:
        with pytest.raises(InvalidReferenceError):
            read_reference(f"@{text}")
        return

    assert ("stage", text) == (read_reference(text).kind, read_reference(text).stage)
    assert text == read_reference(f"@{text}").stage


@pytest.mark.parametrize(
    ("text", "name", "reference"),
    [
        ("brain-tissue@^1", "brain-tissue", "^1"),
        ("brain-tissue@1.2.3", "brain-tissue", "1.2.3"),
        ("brain-tissue", "brain-tissue", "latest"),
        ("brain-tissue@production", "brain-tissue", "production"),
        ("brain-tissue@@production", "brain-tissue", "@production"),
        ("net@>=1 <2 || 3.x", "net", ">=1 <2 || 3.x"),
    ],
)
def test_spec_is_a_name_and_a_reference(text, name, reference):
    """Split at the first `@`."""
    found, meant = parse_reference(text)

    assert (name, reference) == (found, str(meant))


@pytest.mark.parametrize("text", ["net@", "net@ ", "net@^"])
def test_spec_without_a_reference_behind_the_sign_is_refused(text):
    """Something was forgotten."""
    with pytest.raises(InvalidReferenceError):
        parse_reference(text)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../a", "a\\b", ".hidden", "-a", "a-", "a b", "a\n", "ä", "a" * 101, "a@b", "/a", "a\0b"],
)
def test_names_that_are_paths_or_tricks_are_refused(name):
    """A name becomes a directory."""
    with pytest.raises(InvalidNameError):
        check_model(name)


@pytest.mark.parametrize(
    "name", ["a", "7", "ResNet50", "brain-tissue", "efficientnet_classifier", "llama-3.1-8b", "a" * 100]
)
def test_ordinary_names_are_taken(name):
    """Letters, digits, and ._- between them."""
    assert name == check_model(name)


@pytest.mark.parametrize("name", ["latest", "newest", "x", "X", "", "1", "-a", "Prod", "a.b", "a" * 65])
def test_stages_that_would_be_read_otherwise_are_refused(name):
    """`x` is a range to npm."""
    with pytest.raises(InvalidNameError):
        check_stage(name)
