"""Metadata is kept as it was given, or refused."""

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import InvalidMetadataError
from mlc_registry.metadata import decode_metadata, encode_metadata, normalise_metadata

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


@given(st.dictionaries(TEXT, VALUES))
def test_metadata_comes_back(metadata):
    """Whatever JSON can hold."""
    normal = normalise_metadata(metadata)

    assert metadata == normal == decode_metadata(encode_metadata(normal))


def test_what_is_almost_json_becomes_json():
    """Tuples are lists, and a library's own numbers are numbers."""

    class Float(float):
        """As numpy.float64 is one."""

    given = {"t": (1, (2,)), "f": Float(0.5), "m": collections.OrderedDict(a=1), "n": None}
    normal = normalise_metadata(given)

    assert {"t": [1, [2]], "f": 0.5, "m": {"a": 1}, "n": None} == normal
    assert float is type(normal["f"])
    assert {} == normalise_metadata(None)


class Scalar:
    """As a tensor with one element."""

    def item(self):
        """Return the number."""
        return 1.0


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        ({"m": {"dice": math.nan}}, r"metadata\['m'\]\['dice'\] .* no nan"),
        ({"m": [1, math.inf]}, r"metadata\['m'\]\[1\] .* no inf"),
        ({"m": {1: 2}}, r"the name 1 is not a text"),
        ({"m": {1, 2}}, r"builtins.set is not JSON"),
        ({"m": b"x"}, r"builtins.bytes"),
        ({"m": Scalar()}, r"\.item\(\)"),
        ({"m": 2**64}, r"64 bits"),
        ({"m": "\ud800"}, r"half a character"),
        ({"\ud800": 1}, r"half a character"),
        ([1, 2], r"must be a mapping .* list"),
        ({"m": "x" * (1 << 20)}, r"limit"),
    ],
)
def test_what_would_be_lost_is_refused(metadata, part):
    """By the place where it stands and what it is, before anything is published."""
    with pytest.raises(InvalidMetadataError, match=part):
        normalise_metadata(metadata)


def test_circles_are_refused():
    """Instead of recursing for ever."""
    circle = {}
    circle["me"] = circle

    with pytest.raises(InvalidMetadataError, match="nested"):
        normalise_metadata(circle)
