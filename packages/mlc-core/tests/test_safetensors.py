"""The safetensors reader believes nothing that it has not checked."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import TensorBytes
from mlc_core.serializers import Safetensors


def make(header, body=b"", *, length=None):
    """Return a file with *header*, given as an object or as text, which may lie about its *length*."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview((len(text) if length is None else length).to_bytes(8, "little") + text + body)


def entry(**changes):
    """Return the header of one tensor of two floats."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def test_plain_file_is_read():
    """So that the cases below fail for what is wrong with them."""
    found = Safetensors().load(make({"__metadata__": {"a": "b"}, "t": entry()}, b"12345678"))

    assert {"t": TensorBytes("F32", (2,), b"12345678")} == dict(found)


HOSTILE = {
    "empty": b"",
    "seven bytes": b"1234567",
    "header longer than the file": make({"t": entry()}, b"12345678", length=10_000),
    "header of 2**63 bytes": make({"t": entry()}, b"12345678", length=2**63),
    "no JSON": make(b"{nothing", b""),
    "no object": make([1, 2]),
    "not Unicode": make(b'{"\xff": 1}'),
    "nested deeply": make(b"[" * 200_000),
    "nested deeply in a tensor": make(b'{"t": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"),
    "an integer of a million digits": make(b'{"t": ' + b"9" * 1_000_000 + b"}"),
    "same name twice": make(
        b'{"t": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, "t": {"dtype":"I8","shape":[0],"data_offsets":[0,0]}}'
    ),
    "entry is text": make({"t": "tensor"}, b""),
    "entry is a list": make({"t": []}),
    "unknown dtype": make({"t": entry(dtype="F31")}, b"12345678"),
    "dtype is a list": make({"t": entry(dtype=["F32"])}, b"12345678"),
    "shape does not match": make({"t": entry(shape=[3])}, b"12345678"),
    "negative shape": make({"t": entry(shape=[-2, -1])}, b"12345678"),
    "shape of floats": make({"t": entry(shape=[2.0])}, b"12345678"),
    "shape of truths": make({"t": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"1"),
    "shape beyond 64 bits": make({"t": entry(shape=[0, 2**64], data_offsets=[0, 0])}),
    "a million axes": make({"t": entry(shape=[2**60] * 1_000_000, data_offsets=[0, 8])}, b"12345678"),
    "no offsets": make({"t": {"dtype": "F32", "shape": [2]}}, b"12345678"),
    "three offsets": make({"t": entry(data_offsets=[0, 8, 8])}, b"12345678"),
    "offsets backwards": make({"t": entry(data_offsets=[8, 0])}, b"12345678"),
    "offsets outside": make({"t": entry(data_offsets=[8, 16])}, b"12345678"),
    "overlap": make({"a": entry(), "b": entry(data_offsets=[4, 12])}, b"123456789012"),
    "the same bytes twice": make({"a": entry(), "b": entry()}, b"12345678"),
    "hole": make({"a": entry(), "b": entry(data_offsets=[12, 20])}, b"1" * 20),
    "bytes behind the last": make({"t": entry()}, b"12345678more"),
    "bytes missing": make({"t": entry()}, b"1234"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_refused_quickly(content):
    """ValueError, before any size in it is believed, and in no time."""
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        Safetensors().load(memoryview(content))

    assert time.process_time() - begin < 2


KEYS = st.sampled_from(["dtype", "shape", "data_offsets", "t", "__metadata__"])


def grow(inner):
    """Return something like headers of *inner*."""
    return st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)


@given(st.recursive(st.none() | st.integers(-2, 9) | st.sampled_from(["F32", "t", ""]), grow), st.binary(max_size=9))
def test_any_header_is_read_or_refused(header, body):
    """Whatever the header says, the answer is tensors or ValueError."""
    try:
        found = Safetensors().load(make(header, body))
    except ValueError:
        return
    assert len(body) == sum(len(one.data) for one in found.values())


def test_data_begins_on_a_page_and_tensors_are_aligned():
    """Which is what mapping them in place needs, whatever their order was."""
    tensors = {
        "a": TensorBytes("U8", (3,), b"abc"),
        "b": TensorBytes("F64", (1,), b"12345678"),
        "c": TensorBytes("F16", (1,), b"xy"),
    }
    size, pieces = Safetensors().dump(tensors)
    content = b"".join(bytes(piece) for piece in pieces)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])

    assert size == len(content)
    assert start % 4096 == 0
    assert [0, 8, 10] == [header[name]["data_offsets"][0] for name in ("b", "c", "a")]
