"""State as typed JSON: every value comes back as it was, or is refused by name."""

import json
import math
from collections import Counter, OrderedDict, defaultdict
from contextlib import suppress
from datetime import date
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlc_core import CorruptCheckpointError, StateError
from mlc_core.state import collect, decode_document, encode_document
from mlc_core.state.tree import TensorSink, decode, encode
from mlc_core.testing.strategies import state_trees


def there_and_back(value):
    """Return *value* after a journey through the bytes of `state.json`."""
    return decode(decode_document(encode_document(collect({"data": value})))["data"], {}, copy=True)


def nested(levels, wrap):
    """Return something *levels* deep."""
    value = 1
    for _ in range(levels):
        value = wrap(value)
    return value


@given(state_trees())
@example(math.nan)
@example(-0.0)
@example([math.inf, -math.inf, 5e-324, 1.7976931348623157e308])
@example(complex(-0.0, math.nan))
@example({1: "a", "1": "b", (1, 2): "c", None: "d", 1.5: "e", b"x": "f"})
@example({"$tensor": "model.weight"})
@example({"$": {"$$": []}})
@example([2**63, 2**64, -(2**63) - 1])
@example(OrderedDict(b=1, a=Counter("aab")))
@example([Path("/a/b"), Path(), b"\0\xff", set(), frozenset({(1, 2)}), (), {}, [], ""])
def test_plain_data_comes_back(same, value):
    """Type, order, sign of zero and NaN included."""
    assert same(value, there_and_back(value))


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_have_no_longest(sign):
    """Python itself refuses to write more than 4300 digits as decimal text."""
    value = sign * 10**5000

    assert value == there_and_back(value)


@given(state_trees())
def test_file_is_json_that_anybody_can_read(value):
    """No NaN, no infinity, no number beyond 64 bits: the standard reader agrees with the fast one."""
    content = encode_document(collect({"data": value}))

    def refuse(constant):
        raise AssertionError(constant)

    assert orjson.loads(content) == json.loads(content, parse_constant=refuse)


@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: (one,), lambda one: {1: one}, lambda one: {"a": one}])
def test_deep_data_comes_back_or_is_refused(same, wrap):
    """Eighty levels of anything are saved and loaded; more are refused when saving, not when loading."""
    deep = nested(80, wrap)

    assert same(deep, there_and_back(deep))
    with pytest.raises(
        StateError, match=r"data is nested more than 80 deep at data\.[0a1]\.[0a1].*does it hold itself"
    ):
        collect({"data": nested(5000, wrap)})


def test_what_holds_itself_is_refused():
    """A list in itself is an error, not a crash."""
    knot = []
    knot.append(knot)

    with pytest.raises(StateError, match="does it hold itself"):
        collect({"data": knot})


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        ({"a": [1, object()]}, "data.a.1", "builtins.object"),
        ({"a": {"f": lambda: 1}}, "data.a.f", "builtins.function"),
        ([Colour.RED], "data.0", "Colour"),
        ((1, Point(1, 2)), "data.1", "Point"),
        ({3: defaultdict(int)}, "data.3", "collections.defaultdict"),
        (OrderedDict(d=date(2024, 1, 1)), "data.d", "datetime.date"),
        ([bytearray(b"a")], "data.0", "builtins.bytearray"),
        ([PurePosixPath("a")], "data.0", "PurePosixPath"),
        ({"a": {object()}}, "data.a.member", "builtins.object"),
        ({1: 2, object(): 1}, "data.key", "builtins.object"),
        ([type("Text", (str,), {})("a")], "data.0", "Text"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(value, place, kind):
    """The message names the place, the type and the way out."""
    with pytest.raises(StateError, match=rf"^{place} is a .*{kind}, which a checkpoint cannot hold.*give a state_dict"):
        collect({"data": value})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": ["b", "\ud800"]}, r"data\.a\.1"),
        ({"bad\udcff": 1}, "data"),
        ({1: 2, "\ud800": 3}, r"data\.key"),
        ([Path("a\udcff")], r"data\.0"),
        ({"a\ud800": {"b": object()}}, "data"),
    ],
)
def test_text_that_is_no_unicode_is_refused_by_name(value, place):
    """A lone surrogate cannot be written; the message shows it escaped."""
    with pytest.raises(StateError, match=rf"^{place} holds text that is not valid Unicode, '.*\\ud[8c]") as caught:
        collect({"data": value})
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    "tree",
    [
        {"$unknown": 1},
        {"$": 1},
        {"$int": 5},
        {"$int": "zz"},
        {"$float": "pi"},
        {"$float": []},
        {"$bytes": "not base64!"},
        {"$bytes": 3},
        {"$complex": [1, 2, 3]},
        {"$dict": [[1]]},
        {"$dict": 7},
        {"$dict": [[[1], 2]]},
        {"$ordered": [1]},
        {"$counter": [[1, 2, 3]]},
        {"$set": [[]]},
        {"$frozenset": 4},
        {"$tuple": 4},
        {"$path": 4},
        {"$tensor": "absent"},
        {"$tensor": ["unhashable"]},
        {"$array": None},
        {"a": [{"$set": [{"b": 1}]}]},
    ],
)
def test_foreign_json_is_corrupt(tree):
    """What `encode` never makes is a typed error, whatever is wrong with it."""
    with pytest.raises(CorruptCheckpointError, match="the state holds"):
        decode(tree, {}, copy=True)


TAGS = st.sampled_from(["$tuple", "$dict", "$set", "$int", "$counter", "$tensor", "a"])


def grow(inner):
    """Return trees of *inner* that look as if `encode` had made them."""
    return st.lists(inner, max_size=3) | st.dictionaries(TAGS, inner, max_size=2)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), grow, max_leaves=8))
def test_any_json_is_read_or_corrupt(tree):
    """No other error comes out of decoding."""
    with suppress(CorruptCheckpointError):
        decode(tree, {}, copy=True)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"3", b'{"a":\xff}', b"[" * 100_000])
def test_document_that_is_none_is_corrupt(content):
    """Not JSON, no object, or nested to harm."""
    with pytest.raises(CorruptCheckpointError, match=r"state\.json"):
        decode_document(content)


def test_refused_state_leaves_no_tensors_behind():
    """The first thing that is wrong ends it."""
    sink = TensorSink()
    with pytest.raises(StateError):
        encode({"a": object()}, sink, item="data")

    assert {} == sink.tensors
