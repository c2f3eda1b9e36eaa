"""Checkpoints of models that several processes train: saved together, loaded on other numbers of them, never torn."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

pytest.importorskip("torch")
pytest.importorskip("numpy")

import orjson
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from mlc_core import (
    CheckpointNotFoundError,
    CorruptCheckpointError,
    MismatchError,
    StateError,
    open_checkpoint,
    open_storage,
)
from mlc_core.commands import checkpoints
from mlc_core.distributed import (
    DistributedCheckpointManager,
    ShardedReader,
    ShardedWriter,
    load_sharded,
    open_sharded,
)
from mlc_core.distributed.layout import decode_layout
from mlc_core.distributed.tensors import join, split
from mlc_core.errors import ConfigurationError

SCRIPTS = Path(__file__).parent / "scripts"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the ranks of these tests are forked")


@pytest.fixture(scope="session")
def ranks():
    """A process that forks so many ranks for each scenario; returns what each came to."""
    command = [sys.executable, str(SCRIPTS / "distributed_nursery.py")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as process:

        def run(scenario, count, **arguments):
            arguments = {name: str(one) if isinstance(one, Path) else one for name, one in arguments.items()}
            print(
                json.dumps({"scenario": scenario, "ranks": count, "arguments": arguments}),
                file=process.stdin,
                flush=True,
            )
            return json.loads(process.stdout.readline())

        yield run
        process.kill()  # children of other tests may hold its standard input open, and it would wait for its end


@pytest.fixture
def results(ranks):
    """The same, for scenarios that must go well: what each rank returned."""

    def run(scenario, count, **arguments):
        answers = ranks(scenario, count, **arguments)
        assert [] == [one.get("trace") if one else "killed" for one in answers if not one or "error" in one]
        return [one["result"] for one in answers]

    return run


@pytest.fixture(scope="session")
def saved(ranks, tmp_path_factory):
    """What four ranks trained and saved, and where."""
    place = tmp_path_factory.mktemp("four")
    answers = ranks("trained", 4, place=place)
    assert all("result" in one for one in answers), answers
    return place, answers[0]["result"]


def net(**sizes):
    """Return the model of the scenarios, its optimizer and scheduler, in this process, with other values."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from distributed_scenarios import Net, fingerprint
    finally:
        sys.path.remove(str(SCRIPTS))
    model = Net(seed=5, **sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.3, amsgrad=True)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5), fingerprint


def flip(path, position=-1):
    """Change one bit of the file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_four_ranks_saved_comes_back_on_any_number(results, saved, count):
    """Model, AdamW and scheduler are bitwise what they were."""
    place, before = saved

    for after in results("loaded", count, place=place):
        assert {name: before[name] for name in ("model", "optimizer", "scheduler")} == {
            name: after[name] for name in ("model", "optimizer", "scheduler")
        }


def test_what_one_rank_saved_comes_back_on_two(results, tmp_path):
    """A model may grow over more processes."""
    (before,) = results("trained", 1, place=tmp_path)

    for after in results("loaded", 2, place=tmp_path):
        assert (before["model"], before["optimizer"]) == (after["model"], after["optimizer"])


def test_what_ddp_saved_comes_back_sharded(results, tmp_path):
    """Names do not depend on the wrapper; each copy was written by one rank, and all ranks had a share."""
    before = results("trained", 2, place=tmp_path, how="ddp")[0]
    names = {name.replace(".module.", "."): one for name, one in before["model"].items()}

    assert names == results("loaded", 2, place=tmp_path)[1]["model"]
    (one,) = (tmp_path / "net").glob("epoch_0")
    assert {"model-rank00000.safetensors", "model-rank00001.safetensors"} <= {file.name for file in one.iterdir()}


def test_two_kinds_of_parallelism_at_once(results, tmp_path):
    """Tensor parallelism below FSDP2 comes back on its own mesh, and whole in one process."""
    found = results("in_two_dimensions", 4, place=tmp_path)
    model, _, _, fingerprint = net(inside=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.1)
    load_sharded(tmp_path / "net" / "epoch_0", model=model, optimizer=optimizer)

    assert all(one["again"] for one in found)
    assert found[0]["model"] == fingerprint(model.state_dict())
    assert found[0]["optimizer"] == fingerprint(optimizer.state_dict())


@pytest.mark.parametrize("speaks", ["cpu:gloo", "cuda:nccl"])
def test_some_of_the_processes_save_together(results, tmp_path, speaks):
    """A group numbers its own ranks; one that cannot speak from CPU to CPU gets another one beside it."""
    answers = results("in_a_group", 3, place=tmp_path, members=[1, 2], speaks=speaks)

    assert "not in the process group" in answers[0]
    assert [[1, [2.0] * 3], [2, [2.0] * 3]] == answers[1:]


def test_training_goes_on_as_if_nothing_had_happened(results, tmp_path):
    """A resumed run is bitwise the uninterrupted one."""
    assert [True] * 2 == results("resumed", 2, place=tmp_path)


def test_saving_before_the_first_step_changes_nothing(results, tmp_path):
    """Neither the optimizer that is saved nor one that is loaded gets the step that torch makes to look at it."""
    assert [[True, True]] * 2 == results("unharmed", 2, place=tmp_path)


def test_a_copy_among_the_items_is_sharded_too(results, tmp_path):
    """An averaged model comes back."""
    assert [True] * 2 == results("averaged", 2, place=tmp_path)


SHAPES = [(7, 5), (2, 3), (1,), (4, 4), (0, 3), ()]
PLACEMENTS = st.one_of(
    st.just([]),
    st.sampled_from([[None], [0], [1]]),
    st.tuples(st.sampled_from([None, 0, 1]), st.sampled_from([None, 0, 1])).map(list),
)


def fitting(how, shape):
    """Return *how* if a tensor of *shape* has the axes for it, else replicated."""
    return how if all(one is None or one < len(shape) for one in how) else []


def check_layouts(results, place, before, after, count):
    """Hold tensors saved with one layout against what another one, on *count* ranks, gets of them."""
    first = [fitting(how, shape) for how, shape in zip(before, SHAPES, strict=True)]
    second = [fitting(how if count > 1 else how[:1], shape) for how, shape in zip(after, SHAPES, strict=True)]
    values = {"plain": [1, 2.5, None, {"1": "one"}]}
    wanted = results("laid_out", 4, place=place, shapes=SHAPES, placements=first, values=values)[0]

    for found in results("laid_out_again", count, place=place, shapes=SHAPES, placements=second):
        assert wanted == found


def test_any_mix_of_placements(results, tmp_path):
    """Shards by row, by column, by both, replicas, whole tensors; fewer rows than ranks, none, and no axis at all."""
    before = [[0], [1], [0], [0, 1], [0], []]
    after = [[1], [0, 0], [None], [1, 0], [1], [None]]

    check_layouts(results, tmp_path, before, after, 2)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.tuples(*[PLACEMENTS] * 6), after=st.tuples(*[PLACEMENTS] * 6), count=st.sampled_from([1, 2, 4])
)  # fmt: skip
def test_every_mix_of_placements(results, tmp_path_factory, before, after, count):
    """The same for whatever mix hypothesis thinks of."""
    check_layouts(results, tmp_path_factory.mktemp("layouts"), before, after, count)


# ---------------------------------------------------------------------- items and differences


def test_items_that_differ_come_back_to_their_ranks(results, tmp_path):
    """What is the same is saved once, what differs once for each rank."""
    held = results("own_items", 2, place=tmp_path)[0]

    assert [["note", "rng_rank00000", "rng_rank00001", "seen_rank00000", "seen_rank00001"]] == [sorted(*held)]
    for rank, state in enumerate(results("own_items_again", 2, place=tmp_path)):
        assert {"note": "{'same': (1, 2)}", "seen": f"{{'rank': {rank}}}", "rng": f"tensor([{rank}, {rank}])"} == state


def test_items_of_other_ranks_are_left_out_and_said_so(ranks, results, tmp_path):
    """On another number of ranks nobody knows whose is whose."""
    results("own_items", 2, place=tmp_path)
    answers = ranks("own_items_again", 3, place=tmp_path)

    assert [["note"]] * 3 == [list(one["result"]) for one in answers]
    assert ["seen" in "".join(one["warnings"]) for one in answers] == [True, False, False]


def test_buffers_that_differ_are_named(ranks, tmp_path):
    """All ranks say which, and what to do, and nothing is saved."""
    answers = ranks("different", 3, place=tmp_path)

    assert [StateError.__name__] * 3 == [one["error"] for one in answers]
    assert all("model.mean" in one["message"] and "on_difference='rank0'" in one["message"] for one in answers)
    assert not list((tmp_path / "net").glob("epoch*"))


@pytest.mark.parametrize(("how", "first"), [("rank0", 0.0), ("mean", 1.0)])
def test_buffers_that_differ_are_made_equal(results, tmp_path, how, first):
    """In the checkpoint and in the models, so that training goes on from what was saved."""
    assert [[[first, 1.0], [first, 1.0], 3]] * 3 == results("different", 3, place=tmp_path, on_difference=how)


def test_counts_have_no_mean(ranks, tmp_path):
    """Integers that differ are an error, unless rank 0's are asked for."""
    answers = ranks("different", 2, place=tmp_path, on_difference="mean", counts=True)

    assert [StateError.__name__] * 2 == [one["error"] for one in answers]
    assert all("model.count" in one["message"] for one in answers)


def test_replicas_that_differ_are_found(ranks, results, tmp_path):
    """A DTensor that is replicated must be the same everywhere."""
    assert [StateError.__name__] * 2 == [one["error"] for one in ranks("replicas", 2, place=tmp_path)]
    assert [[0.0] * 3] * 2 == results("replicas", 2, place=tmp_path / "0", on_difference="rank0")


def test_names_must_agree(ranks, tmp_path):
    """What one rank alone knows by a name is no part of a checkpoint that all can load."""
    for how in ("error", "rank0"):
        answers = ranks("more_on_one", 2, place=tmp_path, on_difference=how)

        assert [StateError.__name__] * 2 == [one["error"] for one in answers]
        assert not list((tmp_path / "net").glob("epoch*"))


def test_schedulers_must_agree(ranks, results, tmp_path):
    """One that each rank steps on its own metrics is an error, or rank 0's is taken."""
    assert [StateError.__name__] * 2 == [one["error"] for one in ranks("schedules", 2, place=tmp_path)]
    assert [0, 0] == results("schedules", 2, place=tmp_path, on_difference="rank0")


def test_an_unknown_way_is_refused(tmp_path):
    """A wrong word is an error now, not at the first difference."""
    with pytest.raises(ConfigurationError, match="'rank0'"):
        DistributedCheckpointManager(tmp_path, "net", on_difference="rank1")


# ---------------------------------------------------------------------- deciding and keeping


def test_rank_0_decides_with_its_own_metrics(results, tmp_path):
    """The others' metrics are not looked at."""
    metrics = [[1, 3, 2], [3, 2, 1]]
    options = {"save_strategy": "best", "monitor_metric": "score", "mode": "max", "max_checkpoints": 1}
    found = results("trained", 2, place=tmp_path, epochs=3, metrics=metrics, **options)

    assert [[True, True, False]] * 2 == [[bool(path) for path in one["paths"]] for one in found]
    assert ["epoch_1"] == found[0]["held"]
    assert "epoch_1" == results("loaded", 2, place=tmp_path, options=options)[1]["name"]


def test_all_ranks_hear_what_the_strategy_of_rank_0_says(results, tmp_path):
    """At every moment, whatever moment the others think it is; pins and pointers are rank 0's doing, errors all's."""
    found = results("asked", 2, place=tmp_path)

    assert found[0] == found[1]
    assert [3, 6] == [step for step, reason in enumerate(found[0]["answers"], start=1) if reason]
    assert [3, 6] == found[0]["held"]  # one is kept, and a pinned one
    assert ["CheckpointNotFoundError", "ConfigurationError"] == found[0]["wrong"]
    assert "step_6" in (tmp_path / "net" / "chosen").resolve().name


def test_one_checkpoint_is_kept(results, tmp_path):
    """The second save removes the first, once it is durable."""
    found = results("trained", 2, place=tmp_path, epochs=2, max_checkpoints=1)

    assert [["epoch_1"]] * 2 == [one["held"] for one in found]
    assert ["epoch_1"] == [one.name for one in (tmp_path / "net").glob("epoch*")]


def test_one_process_alone_needs_no_others(memory_url):
    """Without torch.distributed it is a manager like any other, wherever the checkpoints lie."""
    model, optimizer, scheduler, fingerprint = net()
    model(torch.rand(2, 5)).sum().backward()
    optimizer.step()
    manager = DistributedCheckpointManager(memory_url, "net")
    manager.save_checkpoint(model, optimizer, scheduler, 0, items={"best": [1, (2,)]})
    other, other_optimizer, other_scheduler, _ = net()
    restored = manager.load_checkpoint(None, other, other_optimizer, other_scheduler)

    assert fingerprint(model.state_dict()) == fingerprint(other.state_dict())
    assert fingerprint(optimizer.state_dict()) == fingerprint(other_optimizer.state_dict())
    assert [1, (2,)] == restored.state["best"]
    assert manager.get_latest_checkpoint_path() == f"{memory_url}/net/epoch_0"


def test_several_processes_need_a_place_that_all_see(ranks, memory_url):
    """The memory of one process is none."""
    answers = ranks("trained", 2, place=memory_url)

    assert ["ConfigurationError"] * 2 == [one["error"] for one in answers]


# ---------------------------------------------------------------------- misfortune


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_takes_nothing_with_it(ranks, results, tmp_path, rank):
    """The checkpoint before is there and loads, nothing else is to be seen, and the next run saves."""
    answers = ranks("dying", 3, place=tmp_path, rank=rank, epochs=2)

    assert [one == rank for one in range(3)] == [one is None for one in answers]
    assert {"StorageError"} == {one["error"] for one in answers if one}
    assert ["epoch_0"] == [one.name for one in (tmp_path / "net").glob("epoch*")]
    assert "epoch_0" == results("loaded", 2, place=tmp_path)[0]["name"]
    assert "epoch_0_r2" == results("trained", 2, place=tmp_path)[0]["held"][-1]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_full_disk_of_one_is_an_error_of_all(results, tmp_path, rank):
    """It says whose, leaves nothing behind, and the next save goes well."""
    for found in results("failing", 3, place=tmp_path, rank=rank):
        assert found["error"].startswith(f"rank {rank}: no room left")
        assert (["epoch_0"], []) == (found["held"], found["left"])
        assert ["epoch_0", "epoch_2"] == found["then"]


def test_a_corrupt_shard_is_an_error_on_all_ranks(ranks, results, tmp_path):
    """Named, it is refused; else the one before is loaded, and rank 0 says so."""
    results("trained", 3, place=tmp_path, epochs=2)
    flip(tmp_path / "net" / "epoch_1" / "optimizer-rank00001.safetensors")
    named = ranks("loaded", 2, place=tmp_path, path="epoch_1")
    newest = ranks("loaded", 2, place=tmp_path)

    assert ["CorruptCheckpointError"] * 2 == [one["error"] for one in named]
    assert all("optimizer-rank00001.safetensors" in one["message"] for one in named)
    assert ["epoch_0"] * 2 == [one["result"]["name"] for one in newest]
    assert ["optimizer-rank00001" in "".join(one["warnings"]) for one in newest] == [True, False]


def test_a_missing_shard_is_an_error_on_all_ranks(ranks, results, tmp_path):
    """Even when nothing is verified."""
    results("trained", 2, place=tmp_path)
    (tmp_path / "net" / "epoch_0" / "model-rank00001.safetensors").unlink()
    for verify in (True, False):
        answers = ranks("loaded", 2, place=tmp_path, verify=verify)

        assert ["CorruptCheckpointError"] * 2 == [one["error"] for one in answers]


@pytest.mark.parametrize("kind", ["sgd", "model"])
def test_a_misfit_changes_nothing(results, saved, kind):
    """Another optimizer or another model is refused before anything is touched."""
    for name, message, unchanged in results("misfit", 2, place=saved[0], kind=kind):
        assert ("MismatchError", True) == (name, unchanged)
        assert "optimizer" in message if kind == "sgd" else "first.weight" in message


# ---------------------------------------------------------------------- one process


def test_ranks_must_load_the_same(ranks, saved):
    """It is an error now, not a wait for what never comes."""
    answers = ranks("one_sided", 2, place=saved[0])

    assert ["ConfigurationError"] * 2 == [one["error"] for one in answers]


def test_one_process_loads_what_four_saved(saved):
    """Nothing of torch.distributed is initialised, and all of it is there."""
    place, before = saved
    model, optimizer, scheduler, fingerprint = net()
    restored = load_sharded(place / "net" / "latest", model=model, optimizer=optimizer, scheduler=scheduler)

    assert not torch.distributed.is_initialized()
    assert before["model"] == fingerprint(model.state_dict())
    assert before["optimizer"] == fingerprint(optimizer.state_dict())
    assert before["scheduler"] == scheduler.state_dict()
    assert restored.fit.is_exact


def test_tensors_are_put_together_without_torch(saved):
    """Each is what it was, piece by piece."""
    place, before = saved
    *_, fingerprint = net()
    whole = open_sharded(place / "net" / "epoch_0").whole("model")
    found = {
        name: torch.frombuffer(bytearray(one.data), dtype=torch.float32).reshape(one.shape)
        for name, one in whole.items()
    }

    assert before["model"] == fingerprint(found)


def test_what_does_not_fit_is_told_or_left_out(saved):
    """Strictly it is an error; else what fits is loaded, and the rest reported."""
    model, *_ = net()
    model.extra = torch.nn.Linear(1, 1)
    path = saved[0] / "net" / "epoch_0"
    with pytest.raises(MismatchError, match=r"extra\.weight"):
        load_sharded(path, model=model)
    first = model.first.weight.clone()
    fit = load_sharded(path, model=model, strict=False).fit

    assert ("extra.weight", "extra.bias") == fit.missing
    assert not torch.equal(first, model.first.weight)


def test_what_is_not_there_cannot_be_loaded(saved):
    """The error says what there is."""
    with pytest.raises(CheckpointNotFoundError, match="optimizer"):
        load_sharded(saved[0] / "net" / "epoch_0", items={"ema": torch.nn.Linear(1, 1)})


def test_an_optimizer_needs_its_model(saved):
    """Its state is by the names of parameters."""
    _, optimizer, *_ = net()
    with pytest.raises(ConfigurationError, match="model"):
        load_sharded(saved[0] / "net" / "epoch_0", optimizer=optimizer)


def test_a_plain_checkpoint_is_not_taken_for_a_sharded_one(tmp_path):
    """The error says which manager loads it."""
    from mlc_core import CheckpointManager

    path = CheckpointManager(tmp_path, "net").save_checkpoint(items={"a": 1}, epoch=1)
    with pytest.raises(MismatchError, match="CheckpointManager"):
        open_sharded(path)


def test_commands_work_on_it(results, tmp_path):
    """Listed, shown and verified like any other; a flipped bit in a shard is found."""
    results("trained", 2, place=tmp_path)
    place = tmp_path / "net" / "epoch_0"

    for arguments in (["ls", str(tmp_path)], ["show", str(place)], ["verify", str(tmp_path)]):
        assert 0 == CliRunner().invoke(checkpoints, arguments).exit_code, arguments
    flip(place / "model-rank00001.safetensors")
    found = CliRunner().invoke(checkpoints, ["verify", str(tmp_path)])
    assert 1 == found.exit_code
    assert "model-rank00001.safetensors" in found.output
    open_checkpoint(place).load(only=["scheduler"])  # items that are not in pieces are read as ever


# ---------------------------------------------------------------------- what a file may say


@pytest.fixture(scope="module")
def documents(saved):
    """The layout of a checkpoint as plain data, and its files."""
    reader = open_checkpoint(saved[0] / "net" / "epoch_0")
    return orjson.loads(reader.storage.read("epoch_0", "sharded.json")), reader.saved.files


def test_nothing_in_it_is_pickled(saved):
    """Every file is safetensors or JSON."""
    names = Counter(one.suffix for one in (saved[0] / "net" / "epoch_0").iterdir())

    assert {".safetensors", ".json"} == set(names)
    assert 3 == names[".json"]


def test_every_rank_wrote_its_own(saved):
    """The manifest lists each file with its item."""
    files = {one.name: one.item for one in open_checkpoint(saved[0] / "net" / "epoch_0").saved.files}

    assert [f"model-rank0000{rank}.safetensors" for rank in range(4)] == [
        name for name, item in files.items() if item == "model"
    ]


LIES = {
    "path outside": lambda one: one["chunks"][0].update(file="../../etc/passwd"),
    "file of another item": lambda one: one["chunks"][0].update(file="optimizer-rank00000.safetensors"),
    "negative offset": lambda one: one["chunks"][0].update(offsets=[-1, 0]),
    "offset outside": lambda one: one["chunks"][0].update(offsets=[7, 0]),
    "huge size": lambda one: one["chunks"][0].update(sizes=[2**62, 5]),
    "too few axes": lambda one: one["chunks"][0].update(offsets=[0]),
    "text for a number": lambda one: one["chunks"][0].update(offsets=["0", 0]),
    "truth for a number": lambda one: one["chunks"][0].update(offsets=[False, 0]),
    "a hole": lambda one: one["chunks"].pop(),
    "an overlap": lambda one: one["chunks"][1].update(offsets=[0, 0]),
    "one piece twice": lambda one: one["chunks"][1].update(key=one["chunks"][0]["key"], file=one["chunks"][0]["file"]),
    "no chunks": lambda one: one.pop("chunks"),
    "a huge shape": lambda one: one.update(shape=[2**62] * 3),
    "many axes": lambda one: one.update(shape=[1] * 100),
    "dtype of another type": lambda one: one.update(dtype=4),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_not_believed(documents, lie):
    """Whatever it says, it is a typed error."""
    document, files = json.loads(json.dumps(documents[0])), documents[1]
    LIES[lie](document["tensors"]["model"]["first.weight"])

    with pytest.raises(CorruptCheckpointError, match=r"sharded\.json"):
        decode_layout(orjson.dumps(document), files, "here")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"format": "mlc-sharded/2"}',
        b'{"format": "mlc-sharded/1", "ranks": 0}',
        b"[" * 9999,
    ],
    ids=itertools.count(),
)
def test_nonsense_is_not_believed(data):
    """So is what is no layout at all, however deep."""
    with pytest.raises(CorruptCheckpointError):
        decode_layout(data, (), "here")


@settings(deadline=None)
@given(data=st.data())
def test_a_changed_layout_is_believed_or_corrupt(documents, data):
    """Nothing else happens, whatever byte is another one."""
    text = bytearray(orjson.dumps(documents[0]))
    for position in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=3)):
        text[position] = data.draw(st.integers(0, 255))
    with suppress(CorruptCheckpointError):
        decode_layout(bytes(text), documents[1], "here")


def lying(saved, tmp_path, change):
    """Return a copy of a checkpoint whose layout says something else, with digests that match."""
    from mlc_core.manifest import encode_manifest

    reader = open_checkpoint(saved[0] / "net" / "epoch_0")
    staging = open_storage(tmp_path).stage(0)
    records = []
    for one in reader.saved.files:
        data = bytes(reader.storage.read("epoch_0", one.name))
        if one.name == "sharded.json":
            document = orjson.loads(data)
            change(document)
            data = orjson.dumps(document)
        digest = staging.write(one.name, len(data), [data])
        records.append(attrs.evolve(one, size=len(data), xxh3_128=digest))
    staging.commit("epoch_0", encode_manifest(attrs.evolve(reader.saved, files=tuple(records))))
    return tmp_path / "epoch_0"


@pytest.mark.parametrize(
    "change",
    [
        lambda layout: layout["tensors"]["model"]["gain"].update(dtype="F16"),
        lambda layout: layout["tensors"]["model"]["gain"].update(dtype="F99"),
        lambda layout: layout["tensors"]["model"]["gain"]["chunks"][0].update(key="nothing"),
        lambda layout: layout["tensors"]["model"]["first.bias"].update(layout["tensors"]["model"]["second.bias"]),
        lambda layout: layout["tensors"]["model"].pop("gain"),
        lambda layout: layout["tensors"].update(nobody={}),
        lambda layout: layout.update(ranks=2**62, per_rank=["rng"]),
        lambda layout: layout.update(ranks=1, per_rank=["rng"]),
    ],
    ids=[
        "another dtype",
        "no dtype",
        "no key",
        "another's pieces",
        "a name less",
        "no item",
        "many ranks",
        "no rank's",
    ],
)
def test_what_the_files_do_not_hold_is_not_believed(saved, tmp_path, change):
    """Neither is a layout that goes well with itself and not with the files."""
    path = lying(saved, tmp_path, change)
    model, *_ = net()

    with pytest.raises(CorruptCheckpointError):
        load_sharded(path, model=model)


# ---------------------------------------------------------------------- torch's own functions


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_writer_refuses_to_pickle(memory_url):
    """Values that are no tensors need the planner that writes them as typed JSON."""
    writer = ShardedWriter(open_storage(memory_url), lambda *_: None)
    with pytest.raises(CheckpointException, match="ShardedSavePlanner"):
        save({"rate": 0.1}, storage_writer=writer)


@pytest.mark.parametrize("thing", ["writer", "reader"])
def test_names_are_not_taken(saved, memory_url, thing):
    """What would be ignored is refused."""
    reader = ShardedReader(open_sharded(saved[0] / "net" / "epoch_0"))
    one = reader if thing == "reader" else ShardedWriter(open_storage(memory_url), lambda *_: None)
    with pytest.raises(ConfigurationError, match="checkpoint_id"):
        one.reset("somewhere")
    assert not one.validate_checkpoint_id("somewhere")


# ---------------------------------------------------------------------- states in two parts


def test_a_state_is_put_together_as_it_was(same):
    """Containers, keys and values keep their types; tensors are the very same."""
    tensor = torch.rand(2)
    state = {"a": [tensor, (1, tensor)], 7: {"$b": float("inf")}, "c": {"d": None, "e": b"x"}}
    parts = split("item", state)
    found = join(parts.tree, parts.tensors, where="item")

    assert ["a.0", "a.1.1"] == list(parts.tensors)
    assert tensor.data_ptr() == found["a"][0].data_ptr()
    assert same({**state, "a": None}, {**found, "a": None})
    assert (list, tuple) == (type(found["a"]), type(found["a"][1]))


@pytest.mark.parametrize("value", [object(), torch.empty(1, device="meta"), {"x": [object()]}])
def test_what_would_be_lost_is_refused(value):
    """The error names the place."""
    with pytest.raises(StateError, match="item"):
        split("item", {"a": value})


def test_a_state_that_holds_itself_is_refused():
    """However deep, it ends."""
    state = {}
    state["state"] = state
    with pytest.raises(StateError, match="nested"):
        split("item", state)
