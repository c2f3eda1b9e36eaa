"""Ranges by npm's grammar."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import InvalidRangeError, Range, Version
from mlc_registry.testing import ranges, versions

TABLE = json.loads((Path(__file__).parent / "data" / "npm_ranges.json").read_text())

# What npm takes and we refuse, each with the reason; see `comparators.py`.
REFUSED_HERE = {
    "~> > 1.0": "two operators",
    "1.2.3>*": "text glued to a star",
    "1.2.3*": "text glued to a star",
    "1\u00a02": "a blank that is not ASCII",
    "^1.x.99999999999999999999 || 1.0.0-9007199254740993": "a pre-release number that not every reader can tell apart",
    "1" + " " * 1100 + "2": "too long",
}


@pytest.mark.parametrize("include_prereleases", [False, True])
def test_agrees_with_npm(include_prereleases):
    """Thousands of answers of npm's semver, edges and nonsense included, and not one is different."""
    different = []
    answers = 0
    for text, candidates, plain, included in TABLE["cases"]:
        expected = included if include_prereleases else plain
        try:
            found = Range.parse(text, include_prereleases=include_prereleases)
        except InvalidRangeError:
            answer = None
        else:
            parsed = [Version.parse(one) for one in candidates]
            answer = "".join("1" if one in found else "0" for one in parsed)
            by_key = "".join("1" if any(one in each for each in found.intervals) else "0" for one in parsed)
            if answer != by_key:
                different.append((text, answer, by_key))
        answers += len(candidates)
        if expected != answer:
            different.append((text, expected, answer))

    assert [] == different
    assert answers > 5000


@pytest.mark.parametrize("text", REFUSED_HERE)
def test_documented_differences_are_refused(text):
    """What npm lets through by accident is a typing error here."""
    with pytest.raises(InvalidRangeError):
        Range.parse(text)


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("^1.2.3", ">=1.2.3 <2.0.0-0"),
        ("^0.2.3", ">=0.2.3 <0.3.0-0"),
        ("^0.0.3", ">=0.0.3 <0.0.4-0"),
        ("^1.2", ">=1.2.0 <2.0.0-0"),
        ("^0.0", "<0.1.0-0"),
        ("^0", "<1.0.0-0"),
        ("^1.x", ">=1.0.0 <2.0.0-0"),
        ("~1.2.3", ">=1.2.3 <1.3.0-0"),
        ("~1.2", ">=1.2.0 <1.3.0-0"),
        ("~1", ">=1.0.0 <2.0.0-0"),
        ("~>1.2", ">=1.2.0 <1.3.0-0"),
        ("1.2 - 2.3", ">=1.2.0 <2.4.0-0"),
        ("1.2.3 - 2.3.4", ">=1.2.3 <=2.3.4"),
        ("1.x", ">=1.0.0 <2.0.0-0"),
        ("*", ""),
        ("", ""),
        (">1.2", ">=1.3.0"),
        ("<=1.2", "<1.3.0-0"),
        (">=1 <2 || 3.x", ">=1.0.0 <2.0.0-0 || >=3.0.0 <4.0.0-0"),
        ("1.2.3", "=1.2.3"),
        ("v1.2.3+b", "=1.2.3"),
        ("> 1.2.3", ">1.2.3"),
        ("<x", "<0.0.0-0"),
        ("^1.2.3-rc.1", ">=1.2.3-rc.1 <2.0.0-0"),
    ],
)
def test_range_means(text, conditions):
    """The tables of npm's manual."""
    found = Range.parse(text)
    written = " || ".join(" ".join(f"{each.operator}{each.version}" for each in one) for one in found.alternatives)

    assert conditions == written
    assert text == str(found)


@given(ranges(), versions(), st.booleans())
def test_range_is_its_intervals(text, version, include_prereleases):
    """Asking an index is asking each version."""
    found = Range.parse(text, include_prereleases=include_prereleases)

    assert (version in found) == any(version in one for one in found.intervals)
    assert all(one.low < one.high for one in found.intervals)


@given(ranges(), versions())
def test_prereleases_are_never_picked_by_accident(text, version):
    """Only if the range names a pre-release of the same numbers, or all of them are asked for."""
    found = Range.parse(text)
    if version.is_prerelease and version in found:
        named = [one.version for alternative in found.alternatives for one in alternative]

        assert any(one.is_prerelease and one.release == version.release for one in named)
    if version in found:
        assert version in Range.parse(text, include_prereleases=True)


@given(versions())
def test_full_version_is_exact(version):
    """That is what npm means, and the safest: nothing else is ever deployed instead."""
    found = Range.parse(str(version))

    assert version == found.exact
    assert version in found
    assert Range.parse(f"^{version}").exact is None
    assert Range.parse(f"{version} || 1.x").exact is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1.2.3 foo", "'foo' at character 7"),
        ("x.1", "'x.1' at character 1"),
        ("^", "'^' at character 1"),
        ("=1.2.3 - 2", "'=1.2.3 - 2'"),
        ("1.2.3,2", "'1.2.3,2'"),
        ("!=1", "'!=1'"),
        ("^9007199254740991", "9007199254740992"),
    ],
)
def test_error_names_the_part(text, part):
    """And shows what ranges look like."""
    with pytest.raises(InvalidRangeError) as caught:
        Range.parse(text)

    assert part in str(caught.value)
    assert repr(text) in str(caught.value)
