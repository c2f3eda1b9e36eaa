"""The commit record: what it says comes back, and nothing else is ever believed."""

import attrs
import orjson
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import ConfigurationError, CorruptCheckpointError, FileRecord, Saved, StateError
from mlc_core.manifest import LARGEST, decode_manifest, encode_manifest
from mlc_core.testing.strategies import saved_checkpoints, state_trees

SAVED = Saved(
    model="unet",
    name="epoch_1",
    id="7c",
    sequence=4,
    run="run-1",
    epoch=1,
    step=20,
    metrics={"loss": 0.5},
    reasons=("end of the epoch",),
    created_at="2024-01-01T00:00:00.000+00:00",
    items=("model",),
    files=(FileRecord(name="state.json", size=2, xxh3_128="0" * 32, serializer="json"),),
    versions={"python": "3.11"},
    strategy={"kind": "Epoch", "state": {}},
)


def forge(**changes):
    """Return a manifest with *changes* and a right digest, as somebody who means harm would write it."""
    facts = {**orjson.loads(encode_manifest(SAVED)), **changes}
    facts.pop("digest")
    body = orjson.dumps({key: value for key, value in facts.items() if value is not ...}, option=orjson.OPT_INDENT_2)
    return body[:-2] + b',\n  "digest": "' + xxhash.xxh3_128_hexdigest(body).encode() + b'"\n}'


@given(saved_checkpoints(min_size=1, max_size=1), state_trees(max_leaves=5), st.text(st.characters(codec="utf-8")))
def test_every_fact_comes_back(same, saved, state, text):
    """A manifest says what was saved: names in all letters, NaN among the metrics, any state of a strategy."""
    one = attrs.evolve(saved[0], model=text, run=text, reasons=(text,), strategy={"state": state, text: 1})
    found = decode_manifest(encode_manifest(one), "here")

    for field in attrs.fields(Saved):
        before, after = getattr(one, field.name), getattr(found, field.name)
        plain = isinstance(before, (str, int, float, tuple, type(None)))
        assert before == after if plain else same(dict(before), dict(after))


@given(st.data())
def test_any_flipped_bit_is_found(data):
    """A manifest with one bit changed is corrupt, wherever the bit is."""
    content = bytearray(encode_manifest(SAVED))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(CorruptCheckpointError, match=r"^here/manifest\.json cannot be believed: "):
        decode_manifest(bytes(content), "here")


@given(st.data())
def test_any_truncation_is_found(data):
    """No beginning of a manifest is one, nor is one with something behind it."""
    content = encode_manifest(SAVED)

    for torn in (content[: data.draw(st.integers(0, len(content) - 1))], content + data.draw(st.binary(min_size=1))):
        with pytest.raises(CorruptCheckpointError):
            decode_manifest(torn, "here")


@given(st.binary(max_size=300))
def test_anything_else_is_corrupt(content):
    """Bytes that never were a manifest are a typed error."""
    with pytest.raises(CorruptCheckpointError):
        decode_manifest(content, "here")


FILE = {"name": "state.json", "size": 2, "xxh3_128": "0" * 32, "serializer": "json", "item": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "mlc-checkpoint/3"},
        {"format": None},
        {"id": ...},
        {"sequence": -1},
        {"sequence": 2**63},
        {"sequence": True},
        {"sequence": 1.0},
        {"epoch": "1"},
        {"epoch_ended": 1},
        {"elapsed": 1},
        {"elapsed": -0.5},
        {"elapsed": None},
        {"name": "../../outside"},
        {"name": "/etc/passwd"},
        {"name": ".hidden"},
        {"name": 7},
        {"model": None},
        {"items": "model"},
        {"items": {"model": 1}},
        {"items": ["model", "model"]},
        {"items": [1]},
        {"reasons": "because"},
        {"metrics": {"loss": "low"}},
        {"metrics": {"loss": 1}},
        {"metrics": [1]},
        {"metrics": {"$dict": [[1, 1.0]]}},
        {"metrics": {"loss": {"$tensor": "x"}}},
        {"strategy": []},
        {"versions": None},
        {"files": {}},
        {"files": ["state.json"]},
        {"files": [{**FILE, "name": "../state.json"}]},
        {"files": [{**FILE, "size": 2**60}]},
        {"files": [{**FILE, "size": -2}]},
        {"files": [{**FILE, "xxh3_128": "0" * 31}]},
        {"files": [{**FILE, "xxh3_128": "Z" * 32}]},
        {"files": [{**FILE, "serializer": None}]},
        {"files": [{**FILE, "item": 1}]},
        {"files": [{**FILE, "name": "a/b"}]},
        {"files": [{**FILE, "name": "manifest.json\0"}]},
        {"files": [{"name": "state.json"}]},
        {"files": [FILE, FILE]},
    ],
    ids=repr,
)
def test_hostile_manifest_is_corrupt(changes):
    """A right digest does not make it right: each field is checked before it is used."""
    with pytest.raises(CorruptCheckpointError, match="cannot be believed"):
        decode_manifest(forge(**changes), "here")


def test_forged_manifest_without_changes_is_read():
    """So that the cases above fail for what was changed."""
    assert SAVED == decode_manifest(forge(), "here")


def test_newer_format_says_so():
    """Whoever goes back to an older version learns that it is older."""
    with pytest.raises(CorruptCheckpointError, match=r"its format is 'mlc-checkpoint/3', this version reads '.*/2'"):
        decode_manifest(forge(format="mlc-checkpoint/3"), "here")


def test_deeply_nested_manifest_is_corrupt():
    """It ends with an error, not with the interpreter."""
    body = orjson.dumps({"format": "mlc-checkpoint/2"}, option=orjson.OPT_INDENT_2)[:-2]
    body += b',\n  "strategy": ' + b'{"$tuple":[' * 400 + b"1" + b"]}" * 400 + b"\n}"
    content = body[:-2] + b',\n  "digest": "' + xxhash.xxh3_128_hexdigest(body).encode() + b'"\n}'

    with pytest.raises(CorruptCheckpointError):
        decode_manifest(content, "here")


def test_huge_manifest_is_refused_unread():
    """What does not fit into the memory is not read into it."""

    class Huge:
        def __len__(self):
            return LARGEST + 1

    with pytest.raises(CorruptCheckpointError, match="it has 67,108,865 bytes"):
        decode_manifest(Huge(), "here")


@pytest.mark.parametrize("change", [{"run": "\ud800"}, {"reasons": ("\ud800",)}, {"epoch": 2**70}])
def test_what_could_not_be_read_is_not_written(change):
    """The error names the checkpoint and where to look."""
    with pytest.raises(StateError, match=r"the manifest of epoch_1 cannot be written \(.*look at its run"):
        encode_manifest(attrs.evolve(SAVED, **change))


def test_strategy_may_not_remember_what_is_no_data():
    """A strategy's state is plain data, named where it is not."""
    with pytest.raises(StateError, match=r"strategy\.clock is a builtins\.function"):
        encode_manifest(attrs.evolve(SAVED, strategy={"clock": lambda: 1}))


def test_strategy_may_not_remember_tensors():
    """They would need a file of their own."""
    np = pytest.importorskip("numpy")
    with pytest.raises(ConfigurationError, match=r"must be plain numbers, not tensors: seen"):
        encode_manifest(attrs.evolve(SAVED, strategy={"seen": np.ones(3)}))
