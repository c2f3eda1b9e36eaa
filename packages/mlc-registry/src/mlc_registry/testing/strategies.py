"""Versions and ranges that are likely to meet."""

from __future__ import annotations

from hypothesis import strategies as st

from mlc_registry.semver.versions import LARGEST_NUMBER, Version

__all__ = ["ranges", "versions"]

# Few numbers, so that versions meet; a few large ones, for the lengths of their keys.
NUMBERS = st.sampled_from([0, 0, 1, 1, 2, 3, 9, 10, 255, 256, 65536, LARGEST_NUMBER - 1])
WORDS = st.sampled_from(["a", "A", "alpha", "rc", "x", "-", "0a", "a-b"]) | st.from_regex(
    r"[0-9]*[A-Za-z-][0-9A-Za-z-]*", fullmatch=True, alphabet=st.characters(codec="ascii")
).filter(lambda word: len(word) < 40)
BUILDS = st.lists(
    st.from_regex(r"[0-9A-Za-z-]{1,8}", fullmatch=True, alphabet=st.characters(codec="ascii")), max_size=2
)


def versions() -> st.SearchStrategy[Version]:
    """Draw versions, half of them pre-releases."""
    return st.builds(
        Version,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        st.just(()) | st.lists(NUMBERS | WORDS, min_size=1, max_size=3).map(tuple),
        BUILDS.map(tuple),
    )


def ranges() -> st.SearchStrategy[str]:
    """Draw ranges in all forms of npm's grammar, as text."""
    full = versions().map(str)
    short = st.lists(NUMBERS.map(str), min_size=1, max_size=2).map(".".join)
    partial = full | short | short.map(lambda text: f"{text}.x") | st.just("*")
    comparator = st.builds("{}{}".format, st.sampled_from(["", "^", "~", ">", ">=", "<", "<=", "="]), partial)
    hyphen = st.builds("{} - {}".format, partial, partial)
    alternative = hyphen | st.lists(comparator, min_size=1, max_size=3).map(" ".join)
    return st.lists(alternative, min_size=1, max_size=3).map(" || ".join)
