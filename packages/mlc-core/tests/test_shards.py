"""How the tensors of one item lie in files: frozen ones apart, none too large, and the hub's index beside them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core.protocols import TensorBytes
from mlc_core.shards import LARGEST_SHARD, cut, index_document, index_name, shard_names

sizes = st.dictionaries(st.text("abc.", min_size=1, max_size=4), st.integers(0, 12), max_size=12)


def tensors_of(drawn):
    """Return tensors of these sizes."""
    return {name: TensorBytes("U8", (size,), bytes(size)) for name, size in drawn.items()}


@given(sizes, st.integers(1, 20), st.data())
def test_every_tensor_is_in_one_shard(drawn, limit, data):
    """Of those that train or those that do not, in their order; no shard is too large that could be smaller."""
    frozen = frozenset(data.draw(st.lists(st.sampled_from([*drawn, "absent"]), unique=True)))
    tensors = tensors_of(drawn)
    shards = cut(tensors, frozen, limit)
    found = [name for shard in shards for name in shard]

    assert [*(one for one in drawn if one in frozen), *(one for one in drawn if one not in frozen)] == found
    assert all(shard[name] is tensors[name] for shard in shards for name in shard)
    assert all(len({name in frozen for name in shard}) == 1 for shard in shards)
    assert all(len(shard) == 1 or sum(one.size for one in shard.values()) <= limit for shard in shards)


@given(sizes, st.integers(1, 20))
def test_index_says_where_each_tensor_is(drawn, limit):
    """And how many bytes they have together."""
    shards = cut(tensors_of(drawn), frozenset(), limit)
    names = shard_names("model", len(shards), ".safetensors")
    index = json.loads(index_document(shards, names))

    assert {name: place for shard, place in zip(shards, names, strict=True) for name in shard} == index["weight_map"]
    assert sum(drawn.values()) == index["metadata"]["total_size"]
    assert sorted(index["weight_map"]) == list(index["weight_map"])


@given(sizes)
def test_small_models_are_one_file(drawn):
    """Where nothing is frozen, or everything is."""
    tensors = tensors_of(drawn)

    assert ([tensors] if tensors else []) == cut(tensors, frozenset()) == cut(tensors, frozenset(tensors))


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (0, ()),
        (1, ("model.safetensors",)),
        (2, ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")),
    ],
)
def test_names_are_those_of_the_hub(count, names):
    """One file has a plain name."""
    assert names == tuple(shard_names("model", count, ".safetensors"))
    assert "model.safetensors.index.json" == index_name("model", ".safetensors")
    assert 5 * 10**9 == LARGEST_SHARD
