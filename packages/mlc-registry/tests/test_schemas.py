"""Which tensors there are, by headers alone, and how two lists differ."""

import json
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_registry import SchemaError, read_schema
from mlc_registry.releases.schemas import compare

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "I8": 1, "BOOL": 1, "F8_E4M3": 1, "U16": 2}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")
TENSORS = st.tuples(st.sampled_from(sorted(SIZES)), st.lists(st.integers(0, 4), max_size=3).map(tuple))
SCHEMAS = st.dictionaries(NAMES, TENSORS, max_size=6)


def encode(schema, *, metadata=None):
    """Return a safetensors file of zeros."""
    header, end = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, (dtype, shape) in schema.items():
        begin, size = end, SIZES[dtype]
        for axis in shape:
            size *= axis
        end += size
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return frame(json.dumps(header).encode(), end)


def frame(text, size):
    """Return the bytes of a file with the header *text*."""
    return struct.pack("<Q", len(text)) + text + bytes(size)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory for files."""
    return tmp_path_factory.mktemp("schemas")


# ------------------------------------------------------------------ reading


@given(schema=SCHEMAS, metadata=st.none() | st.dictionaries(NAMES, NAMES, max_size=2))
def test_what_was_written_is_read(place, schema, metadata):
    """Every name, dtype and shape, whatever the metadata."""
    path = place / "m.safetensors"
    path.write_bytes(encode(schema, metadata=metadata))

    assert schema == read_schema(path)


@given(schema=SCHEMAS)
def test_library_reads_the_same(place, schema):
    """The library of safetensors is the oracle: what it takes, we take, and we say the same of it."""
    library, _ = pytest.importorskip("safetensors"), pytest.importorskip("numpy")
    path = place / "m.safetensors"
    path.write_bytes(encode(schema))

    with library.safe_open(path, framework="np") as opened:
        found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        expected = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in found.items()}
    assert expected == read_schema(path)


@settings(max_examples=300)
@given(schema=SCHEMAS, place_of_harm=st.integers(0, 200), harm=st.binary(min_size=1, max_size=6), cut=st.booleans())
def test_damage_is_judged_as_the_library_does(place, schema, place_of_harm, harm, cut):
    """A file with other bytes in it, or an end that is missing, is refused or read as the library reads it."""
    library, _ = pytest.importorskip("safetensors"), pytest.importorskip("numpy")
    data = bytearray(encode(schema))
    place_of_harm %= len(data)
    data[place_of_harm : len(data) if cut else place_of_harm + len(harm)] = harm
    path = place / "m.safetensors"
    path.write_bytes(data)

    try:
        with library.safe_open(path, framework="np") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            expected = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in found.items()}
    except (library.SafetensorError, OSError):
        expected = None
    try:
        read = read_schema(path)
    except SchemaError:
        read = None
    if read is not None:
        assert expected == read
    elif expected is not None:  # names that come twice are the one thing that we refuse and the library may not
        assert len(json.loads(bytes(data[8 : 8 + struct.unpack("<Q", data[:8])[0]]))) <= len(schema)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "nothing": b"",
    "too short": b"\0\0\0",
    "a length that no file has": struct.pack("<Q", 2**63) + b"{}",
    "a length beyond the end": struct.pack("<Q", 100) + b"{}",
    "a list": frame(b"[1, 2]", 0),
    "no JSON": frame(b"{nothing}", 0),
    "half a character": frame(b'{"\xff": 1}', 0),
    "nested deeply": frame(b'{"a":' * 5000 + b"1" + b"}" * 5000, 0),
    "not a number": frame(b'{"a": NaN}', 0),
    "a number of many digits": frame(b'{"a": ' + b"9" * 10_000 + b"}", 0),
    "one name twice": frame(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2), 8),
    "metadata that are no text": frame(json.dumps({"__metadata__": {"a": 1}}).encode(), 0),
    "an entry that is no object": frame(json.dumps({"a": [1]}).encode(), 0),
    "a shape that is text": frame(json.dumps({"a": {**entry(), "shape": "12"}}).encode(), 8),
    "a negative axis": frame(json.dumps({"a": entry(shape=(-2, -1))}).encode(), 8),
    "half an axis": frame(json.dumps({"a": entry(shape=(2.0,))}).encode(), 8),
    "a truth as an axis": frame(json.dumps({"a": entry(shape=(True, 2))}).encode(), 8),
    "an axis beyond 64 bits": frame(json.dumps({"a": entry(shape=(2**70,), offsets=(0, 0))}).encode(), 0),
    "axes that overflow": frame(json.dumps({"a": entry(shape=(2**62, 2**62, 4), offsets=(0, 0))}).encode(), 0),
    "many axes": frame(json.dumps({"a": entry(shape=[1] * 100, offsets=(0, 4))}).encode(), 4),
    "an unknown dtype": frame(json.dumps({"a": entry(dtype="F7")}).encode(), 8),
    "a dtype that is a list": frame(json.dumps({"a": entry(dtype=["F32"])}).encode(), 8),
    "offsets in reverse": frame(json.dumps({"a": entry(offsets=(8, 0))}).encode(), 8),
    "three offsets": frame(json.dumps({"a": entry(offsets=(0, 4, 8))}).encode(), 8),
    "too few bytes for the shape": frame(json.dumps({"a": entry(offsets=(0, 4))}).encode(), 4),
    "an overlap": frame(json.dumps({"a": entry(), "b": entry(offsets=(4, 12))}).encode(), 12),
    "the same bytes twice": frame(json.dumps({"a": entry(), "b": entry()}).encode(), 8),
    "a hole": frame(json.dumps({"a": entry(), "b": entry(offsets=(12, 20))}).encode(), 20),
    "an end that is missing": frame(json.dumps({"a": entry()}).encode(), 7),
    "more than the header says": frame(json.dumps({"a": entry()}).encode(), 9),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_header_that_is_made_to_harm_is_refused(tmp_path, data):
    """With the file's name and the cause, at once."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)

    with pytest.raises(SchemaError, match=r"the tensors of .*m\.safetensors cannot be listed: ") as caught:
        read_schema(path)
    assert len(str(caught.value)) < 600


def test_header_larger_than_any_model_needs_is_refused(tmp_path):
    """It is not even read: the file is as large as it claims, and empty."""
    path = tmp_path / "m.safetensors"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", 1 << 30))
        stream.truncate((1 << 30) + 8)

    with pytest.raises(SchemaError, match="its header claims 1,073,741,824 bytes"):
        read_schema(path)


def test_pipe_is_no_file(tmp_path):
    """Nobody waits for it."""
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(SchemaError):
        read_schema(tmp_path / "model.safetensors")
    with pytest.raises(SchemaError):
        read_schema(tmp_path)


# ------------------------------------------------------------------ layouts

A, B = {"a": ("F32", (2,))}, {"b": ("I8", (3, 1))}


def index(places):
    return json.dumps({"metadata": {}, "weight_map": places})


def test_shards_with_and_without_an_index(tmp_path):
    """The index, the directory of both, and shards alone are the same model."""
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(encode(A))
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(encode(B))
    alone = read_schema(tmp_path)
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(index(places))

    assert {**A, **B} == alone == read_schema(tmp_path) == read_schema(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize(
    ("places", "part"),
    [
        ({"a": "one.safetensors", "b": "one.safetensors"}, "do not agree on where tensor 'b' is"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "where tensor 'c' is"),
        ({"a": "one.safetensors", "b": "three.safetensors"}, "No such file"),
        ({"a": "one.safetensors", "b": "../two.safetensors"}, "does not name a file beside it"),
        ({"a": "one.safetensors", "b": "/etc/passwd"}, "does not name a file beside it"),
        ({"a": "one.safetensors", "b": 3}, "does not name a file beside it"),
        ([], "does not name a file beside it"),
    ],
)
def test_index_that_lies_is_refused(tmp_path, places, part):
    """It may not lead elsewhere, nor say of a tensor what its file does not."""
    (tmp_path / "one.safetensors").write_bytes(encode(A))
    (tmp_path / "two.safetensors").write_bytes(encode(B))
    (tmp_path / "model.safetensors.index.json").write_text(index(places))

    with pytest.raises(SchemaError, match=part):
        read_schema(tmp_path)


def test_tensor_in_two_shards_is_refused(tmp_path):
    """Nobody can say which counts."""
    (tmp_path / "one.safetensors").write_bytes(encode(A))
    (tmp_path / "two.safetensors").write_bytes(encode(A))

    with pytest.raises(SchemaError, match=r"tensor 'a' is in one\.safetensors as well"):
        read_schema(tmp_path)


@pytest.mark.parametrize("content", [None, "x"])
def test_directory_without_tensors_is_refused(tmp_path, content):
    """So is what is not there."""
    if content is not None:
        (tmp_path / "model.bin").write_text(content)
    with pytest.raises(SchemaError, match=r"no file that ends in \.safetensors"):
        read_schema(tmp_path)
    with pytest.raises(SchemaError, match="there is no such file"):
        read_schema(tmp_path / "nowhere")


def make_checkpoint(folder, *, tree, tensors, others=()):
    """Write what of a checkpoint is read here."""
    (folder / "model.safetensors").write_bytes(encode(tensors))
    files = [{"name": "state.json", "item": None}, {"name": "model.safetensors", "item": "model"}, *others]
    (folder / "manifest.json").write_text(
        json.dumps({"format": "mlc-checkpoint/2", "items": ["model"], "files": files})
    )
    (folder / "state.json").write_text(json.dumps({"model": tree}))


def test_tied_tensors_of_a_checkpoint_have_all_their_names(tmp_path):
    """The file holds them once, and the state names both; what is no tensor is none."""
    tree = {"a": {"$tensor": "a"}, "tied": {"$tensor": "a"}, "extra": {"count": 3}}
    make_checkpoint(tmp_path, tree=tree, tensors=A)

    assert {"a": A["a"], "tied": A["a"]} == read_schema(tmp_path)


def test_checkpoint_that_lies_is_refused(tmp_path):
    """Of a tensor that is not there, of files elsewhere, or of no model."""
    make_checkpoint(tmp_path, tree={"a": {"$tensor": "b"}}, tensors=A)
    with pytest.raises(SchemaError, match="refers to a tensor 'b' that is not there"):
        read_schema(tmp_path)
    make_checkpoint(tmp_path, tree={}, tensors=A, others=[{"name": "../x", "item": "model"}])
    with pytest.raises(SchemaError, match="lists files that are not beside it"):
        read_schema(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "mlc-checkpoint/2", "items": ["ema"], "files": []}))
    with pytest.raises(SchemaError, match="holds no tensors of an item 'model'; it holds ema"):
        read_schema(tmp_path)


# ------------------------------------------------------------------ differences


@given(before=SCHEMAS, after=SCHEMAS)
def test_difference_leads_from_one_to_the_other(before, after):
    """Applied to one schema, it gives the other; and nothing differs from itself."""
    diff = compare(before, after)
    made = {name: one for name, one in before.items() if name not in diff.removed and name not in diff.renamed}
    made |= {name: now for name, (_, now) in {**diff.reshaped, **diff.retyped}.items()}
    made |= dict(diff.renamed.values()) | dict(diff.added)

    assert after == made
    assert compare(before, before).same
    assert diff.same == (before == after)
    assert json.loads(json.dumps(diff.to_json()))["fits"] == diff.fits


@given(before=SCHEMAS, after=SCHEMAS)
def test_difference_in_reverse(before, after):
    """What was added one way is removed the other way, and renames lead back."""
    there, back = compare(before, after), compare(after, before)

    assert there.added == back.removed
    assert there.reshaped == {name: (now, was) for name, (was, now) in back.reshaped.items()}
    assert {(old, new) for old, (new, _) in there.renamed.items()} == {
        (new, old) for old, (new, _) in back.renamed.items()
    }


def test_what_was_renamed_is_told(tmp_path):
    """By the end of the name where all layers are alike; and not where it could be either of two."""
    layer = ("F32", (4, 4))
    before = {f"encoder.{number}.weight": layer for number in range(3)}
    after = {f"backbone.{number}.weight": layer for number in range(3)}
    diff = compare(before, after)

    assert {f"encoder.{n}.weight": (f"backbone.{n}.weight", layer) for n in range(3)} == diff.renamed
    assert not diff.fits
    assert "3 tensors renamed" == diff.summary
    either = compare({"a": layer}, {"b": layer, "c": layer})
    assert {} == either.renamed
    assert "2 tensors added, 1 removed" == either.summary


def test_difference_is_readable():
    """A line each."""
    before = {"a": ("F32", (2, 3)), "b": ("F32", (2,)), "c": ("F32", ()), "e.w": ("I8", (9,))}
    after = {"a": ("F32", (2, 4)), "b": ("F16", (2,)), "d": ("F64", (1,)), "f.w": ("I8", (9,))}
    diff = compare(before, after)

    assert (
        "- c  F32 []\n+ d  F64 [1]\n"
        "~ a  F32 [2, 3] -> F32 [2, 4]\n~ b  F32 [2] -> F16 [2]\n> e.w -> f.w  I8 [9]  (probably)" == str(diff)
    )
    assert "same tensors" == str(compare(before, before))
    assert compare({"b": before["b"]}, {"b": after["b"]}).fits


@pytest.mark.parametrize("items", [5, None, "ema", {}])
def test_manifest_with_items_that_are_none_is_refused(tmp_path, items):
    """Whatever it says instead."""
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "mlc-checkpoint/1", "files": [], "items": items}))
    with pytest.raises(SchemaError, match="it holds nothing"):
        read_schema(tmp_path)
