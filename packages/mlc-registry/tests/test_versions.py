"""Versions by the specification."""

import pytest
import semver
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import InvalidVersionError, LooseVersionWarning, Version
from mlc_registry.testing import versions

# The order that semver.org gives as an example, and what it says about numbers, letters and hyphens.
ASCENDING = """
0.0.0-0 0.0.0 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.9.0
1.10.0-0 1.10.0--1 1.10.0-A 1.10.0-a 1.10.0 2.0.0 2.1.0 2.1.1 10.0.0 255.0.0 256.0.0 65536.0.0
"""
REFUSED = """
1 1.2 1.2.3.4 v1.2.3 =1.2.3 1.2.3- 1.2.3+ 1.2.3-+b 1.2.3-01 1.2.3-a..b 1.2.3+a..b 01.2.3 1.02.3 1.2.03 1.2.3-ä a.b.c
-1.0.0 1.-2.0 1.2.3-a_b 1.2.x ^1.2.3 １.2.3 1.2.٣ latest 9007199254740992.0.0 1.0.0-9007199254740992
"""


def test_order_is_that_of_the_specification():
    """§11, and the identifiers that people get wrong."""
    parsed = [Version.parse(text) for text in ASCENDING.split()]

    assert parsed == sorted(set(parsed))
    assert [one.key for one in parsed] == sorted({one.key for one in parsed})


@pytest.mark.parametrize("text", [*REFUSED.split(), "", " 1.2.3", "1.2.3 ", "1.2.3\n", "1.2.3-\u0661", "1." * 200])
def test_what_is_no_version_is_refused(text):
    """Also what other readers let through: a line break, digits of other scripts, zeros in front."""
    with pytest.raises(InvalidVersionError):
        Version.parse(text)


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("1.02.3", 3, "'02' starts with a zero"),
        ("1.2", 4, "a dot and the patch number are missing"),
        ("1.2.", 5, "the patch number is missing"),
        ("v1.2.3", 1, "'v' is no number"),
        ("1.2.3-rc.01", 10, "'01' starts with a zero"),
        ("1.2.3-a..b", 9, "an identifier of the pre-release is missing"),
        ("1.2.3+b!", 8, "'!' does not belong"),
        ("1.2.3+b.", 9, "an identifier of the build is missing"),
    ],
)
def test_error_says_where_and_why(text, where, why):
    """And what a version looks like."""
    with pytest.raises(InvalidVersionError) as caught:
        Version.parse(text)

    assert f"at character {where}," in str(caught.value)
    assert why in str(caught.value)
    assert "1.4.0" in str(caught.value)


def test_length_and_numbers_are_limited():
    """To what npm takes, so that a version valid here is valid everywhere."""
    assert "9007199254740991.0.0" == str(Version.parse("9007199254740991.0.0"))
    assert 256 == len(str(Version.parse(f"1.0.0-{'a' * 250}")))
    with pytest.raises(InvalidVersionError, match="257 characters"):
        Version.parse(f"1.0.0-{'a' * 251}")
    with pytest.raises(InvalidVersionError, match="larger than 9007199254740991"):
        Version.parse("1.9007199254740992.0")


@given(versions())
def test_text_is_read_back(version):
    """A version is what its text says, build metadata included."""
    again = Version.parse(str(version))

    assert (version, version.build, version.key) == (again, again.build, again.key)
    assert f"Version.parse({str(version)!r})" == repr(version)


@given(versions(), versions())
def test_order_of_keys_is_precedence(one, other):
    """The bytes that databases sort by agree with python-semver, and so do the versions."""
    expected = semver.Version.parse(str(one)).compare(str(other))

    assert expected == (one > other) - (one < other)
    assert expected == (one.key > other.key) - (one.key < other.key)
    assert (expected == 0) == (one == other)
    assert expected or hash(one) == hash(other)


@given(versions(), versions())
def test_no_key_is_the_beginning_of_another(one, other):
    """So that nothing lies between a key and the key with a zero behind it."""
    assert one == other or not one.key.startswith(other.key)


def test_comparing_with_something_else_is_refused():
    """A version is not its text."""
    version = Version.parse("1.0.0")

    assert version != "1.0.0"
    with pytest.raises(TypeError):
        assert version < "2.0.0"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("v1.0", "1.0.0"),
        ("1.0", "1.0.0"),
        ("V2", "2.0.0"),
        ("v1.2.3", "1.2.3"),
        ("v1-rc.1", "1.0.0-rc.1"),
        ("1.1+b", "1.1.0+b"),
    ],
)
def test_loose_versions_are_read_and_said_so(text, meant):
    """As documents write them."""
    with pytest.warns(LooseVersionWarning, match=f"is read as {meant.partition('+')[0]}"):
        version = Version.read(text)

    assert meant == str(version)


@given(versions() | st.just(Version(1, 1, 0, ("dev",))))
def test_strict_versions_are_read_in_silence(version):
    """Warnings are errors here."""
    assert version == Version.read(str(version)) == Version.read(version)


@pytest.mark.parametrize("text", ["v", "1.x", "v01", "latest", "1..2", ""])
def test_what_means_no_version_is_refused(text):
    """Reading loosely has limits."""
    with pytest.raises(InvalidVersionError):
        Version.read(text)
