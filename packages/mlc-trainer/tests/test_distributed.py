"""Several processes that train one model: the same training, killed anywhere, on any number of them."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import attrs
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny import Blobs  # of the lab, which the tests' configurations name
from together import Fate, gang

from mlc_core import StateError, open_checkpoint
from mlc_hooks.cli import main
from mlc_trainer import (
    ConfigError,
    ExperimentManager,
    ModelManager,
    ResumeWarning,
    RunBusyError,
    RunError,
    TrainingManager,
    read_journal,
)
from mlc_trainer.config import PartConfig
from mlc_trainer.distributed import Cut
from mlc_trainer.errors import RankError

LAB = Path(__file__).parent / "lab"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of these tests are forked")

EXAMPLES = settings.default.max_examples
FREQUENT = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}}


# ---------------------------------------------------------------------- processes


def strike(experiment, fate):
    """Let *fate* come in this process, which has no observers unless it is the first."""
    experiment.setup()
    step = experiment.engine.train_step

    def train_step(batch, **options):
        values = step(batch, **options)
        fate.hit(experiment.engine.position)
        return values

    experiment.engine.train_step = train_step
    return experiment


def train_until(config, run_dir, fates):
    """Return work for ranks: train, each to its own of *fates*, by rank."""

    def work(rank):
        with_checkpoint = any(Path(run_dir).glob("checkpoints/*/epoch_*/manifest.json"))
        experiment = ExperimentManager(config, run_dir)
        if rank in fates:
            strike(experiment, fates[rank])
        experiment.run(resume_from_checkpoint="latest" if with_checkpoint else None)

    return work


def weights_of(run_dir, pointer="final"):
    """Return the weights that a run came to, put together."""
    place = next((Path(run_dir) / "checkpoints").iterdir()) / pointer
    return open_checkpoint(place).load(only="model")["model"]


def metrics_of(run_dir):
    """Return what was measured after each epoch."""
    lines = [one for one in read_journal(Path(run_dir) / "metrics.jsonl") if one["event"] == "epoch"]
    return [{name: one for name, one in line.items() if isinstance(one, float) and name != "at"} for line in lines]


# ---------------------------------------------------------------------- whose samples are whose


@given(length=st.integers(1, 40), parts=st.integers(1, 5), ranks=st.integers(1, 5))
def test_every_sample_is_of_one_process_and_one_part(length, parts, ranks):
    """Parts are those of `torch.chunk`; each is shared out evenly, in order, whatever the numbers are."""
    cuts = [Cut(parts, rank, ranks) for rank in range(ranks)]
    chunks = torch.arange(length).chunk(parts)

    assert [len(one) for one in chunks] == cuts[0].sizes(length)
    for number, chunk in enumerate(chunks):
        shares = [list(cut.own(length)[number]) for cut in cuts]
        assert chunk.tolist() == [row for share in shares for row in share]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


# ---------------------------------------------------------------------- the same training as in one process

SAME = [
    pytest.param(2, {}, id="ddp"),
    pytest.param(3, {"data": {"batch_size": 5}}, id="unequal pieces"),
    pytest.param(2, {"training": {"accumulate": 2, "clip_norm": 0.5}}, id="accumulation and clipping"),
    pytest.param(2, {"training": {"parallel": "fsdp", "clip_norm": 0.5, "accumulate": 2}}, id="fsdp"),
    pytest.param(2, {"training": {"ema_decay": 0.9}, "scheduler": {"name": "CosineAnnealingLR"}}, id="average"),
    pytest.param(2, {"training": {"parallel": "fsdp", "ema_decay": 0.9}}, id="average of shards"),
    pytest.param(3, {"training": {"parallel": "fsdp", "swa_start": 2}}, id="mean of shards"),
]


@pytest.mark.parametrize(("ranks", "tables"), SAME)
def test_several_processes_take_the_steps_of_one(ranks, tables, configure, tmp_path):
    """Without dropout and batch statistics, which belong to each process, sums are all that differs."""
    config = configure(**{"model": {"factory": "tiny:Calm"}, **tables})
    one, several = tmp_path / "one", tmp_path / "several"
    ExperimentManager(config, one).run()
    assert [0] * ranks == gang(ranks, lambda _: ExperimentManager(config, several).run())

    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(several)[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: n + m)
    for here, there in zip(metrics_of(one), metrics_of(several), strict=True):
        assert here == pytest.approx(there, rel=1e-4, abs=1e-6)


DEEP = {"preset": "default_segmentation", "config": {"deep_supervision": [1.0, 0.0]}}
SELDOM = [
    pytest.param({"data": {"factory": "tiny:Coarse"}}, id="targets of int16"),
    pytest.param(
        {"model": {"factory": "tiny:Twofold"}, "loss": DEEP, "metrics": {"factory": "tiny:FinePart"}}, id="two"
    ),
]


@pytest.mark.parametrize("tables", SELDOM)
def test_what_is_seldom_met_is_measured_alike(tables, configure, tmp_path):
    """Predictions in a named tuple of which one has no gradient, and targets that gloo has never heard of."""
    config = configure(**{"model": {"factory": "tiny:Calm"}, **tables})
    one, several = tmp_path / "one", tmp_path / "several"
    ExperimentManager(config, one).run()
    assert [0, 0] == gang(2, train_until(config, several, {}))

    for here, there in zip(metrics_of(one), metrics_of(several), strict=True):
        assert here == pytest.approx(there, rel=1e-4, abs=1e-6)


def test_all_go_by_what_rank_0_measured(configure, tmp_path):
    """A metric that differs by process moves the rate of all alike; copies that differed would not be saved."""
    plateau = {"name": "ReduceLROnPlateau", "every": "epoch", "monitor": "val_mood", "options": {"patience": 0}}
    stopping = {"metric": "val_mood", "mode": "max", "patience": 2}
    config = configure(
        metrics={"factory": "tiny:Capricious"},
        scheduler=plateau,
        early_stopping=stopping,
        training={"num_epochs": 6},
    )
    assert [0, 0] == gang(2, train_until(config, tmp_path / "run", {}))


def test_copies_that_differ_are_not_saved(configure, tmp_path):
    """Rather than that one of them is kept and the others are forgotten."""

    def work(rank):
        experiment = ExperimentManager(configure(), tmp_path / "run").setup()
        with torch.no_grad():
            next(experiment.engine.model.parameters()).add_(rank)
        with pytest.raises(StateError, match="the ranks hold different values"):
            experiment.run()

    assert [0, 0] == gang(2, work)


def test_loaders_that_are_not_ours_are_shared_out_too(configure, tmp_path):
    """Also batches of fewer samples than there are processes; models of shards are exported by nobody."""
    config = configure(model={"factory": "tiny:Calm"})
    images = Blobs(length=5).validation()
    loader = [(torch.stack([image]), torch.stack([truth])) for image, truth in (images[index] for index in range(3))]
    run_dir = tmp_path / "run"
    ExperimentManager(config, run_dir).run()
    expected = ExperimentManager.load_latest_model(run_dir).evaluate(loader)

    def work(rank):
        experiment = ExperimentManager.load_latest_model(run_dir)
        assert experiment.evaluate(loader) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        experiment.export_model(tmp_path / "net.safetensors")
        if experiment.is_first:  # alone, and nobody waits for the others
            experiment.get_model_manager().evaluate(loader)

    assert [0, 0] == gang(2, work)
    assert (tmp_path / "net.safetensors").is_file()


# ---------------------------------------------------------------------- killed anywhere

SET_UPS = st.fixed_dictionaries(
    {
        "model": st.sampled_from([{"factory": "tiny:Net"}, {"factory": "tiny:Renormed"}]),
        "training": st.sampled_from(
            [
                {},
                {"accumulate": 2, "clip_norm": 0.1},
                {"ema_decay": 0.9, "precision": "bf16"},
                {"precision": "fp16", "on_nonfinite": "skip"},
                {"parallel": "fsdp"},
                {"parallel": "fsdp", "precision": "bf16", "clip_norm": 0.1},
                {"parallel": "fsdp", "ema_decay": 0.9},
                {"parallel": "fsdp", "swa_start": 1},
            ]
        ),
        "scheduler": st.sampled_from([None, {"name": "OneCycleLR", "options": {"max_lr": 0.01}}]),
        "data": st.sampled_from([{"batch_size": 4}, {"batch_size": 5, "workers": 1}]),
    }
)


@pytest.mark.slow
@settings(deadline=None, max_examples=max(3, EXAMPLES // 10), suppress_health_check=list(HealthCheck))
@given(
    tables=SET_UPS,
    ranks=st.sampled_from([2, 3]),
    kills=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=2),
)
@example(tables={"model": {"factory": "tiny:Wide"}}, ranks=3, kills=[(3, 1)])  # buckets are laid out anew in a process
def test_killed_anywhere_and_resumed_is_equal_to_the_bit(tables, ranks, kills, configure, tmp_path_factory, bits):
    """Whichever process dies, and wherever: started again, all come to the weights of a run that nothing disturbed."""
    config = configure(checkpoints=FREQUENT, **tables)
    undisturbed, disturbed = (tmp_path_factory.mktemp(name) / "run" for name in ("undisturbed", "disturbed"))
    assert [0] * ranks == gang(ranks, train_until(config, undisturbed, {}))
    for step, rank in kills:
        ends = gang(ranks, train_until(config, disturbed, {rank % ranks: Fate(step)}))
        assert -signal.SIGKILL == ends[rank % ranks] or [0] * ranks == ends  # it may have been past that step
    if len(metrics_of(disturbed)) < 3:
        assert [0] * ranks == gang(ranks, train_until(config, disturbed, {}))

    assert bits(undisturbed) == bits(disturbed)


@pytest.mark.slow
def test_compiled_and_killed_and_resumed_is_equal_to_the_bit(configure, tmp_path, bits):
    """In the middle of an epoch; each process compiles anew after it, to the same."""
    config = configure(training={"compile": True, "num_epochs": 2}, checkpoints=FREQUENT)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert [0, 0] == gang(2, train_until(config, undisturbed, {}))
    ends = gang(2, train_until(config, disturbed, {1: Fate(5)}))
    assert -signal.SIGKILL == ends[1]
    assert [0, 0] == gang(2, train_until(config, disturbed, {}))

    assert bits(undisturbed) == bits(disturbed)


# ---------------------------------------------------------------------- other numbers of processes


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_goes_on_in_other_numbers_of_processes(parallel, configure, tmp_path):
    """Two, then three, then one: every sample of every epoch is seen once, and what differs is said."""
    averaged = {"parallel": parallel, "ema_decay": 0.9}
    config = configure(model={"factory": "tiny:Calm"}, checkpoints=FREQUENT, training=averaged)
    one, moved, told = tmp_path / "one", tmp_path / "moved", tmp_path / "told.json"
    ExperimentManager(config, one).run()

    def go_on_until(step):
        def work(rank):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ResumeWarning)
                try:
                    train_until(config, moved, {rank: Fate(step, signal.SIGTERM)})(rank)
                finally:
                    with told.open("a", encoding="utf-8") as file:
                        file.writelines(f"{rank}: {one.message}\n" for one in caught if "processes" in str(one.message))

        return work

    assert [143, 143] == gang(2, go_on_until(4))
    assert [143, 143, 143] == gang(3, go_on_until(7))
    (line,) = told.read_text(encoding="utf-8").splitlines()
    assert line.startswith("0: going on from ")
    assert "processes was 2, is 3" in line
    with pytest.warns(ResumeWarning, match="processes was 3, is 1"):
        ExperimentManager(config, moved).resume_training()

    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(moved)[name], tensor, rtol=1e-4, atol=1e-6)
    assert metrics_of(one)[-1] == pytest.approx(metrics_of(moved)[-1], rel=1e-4, abs=1e-6)
    assert len(metrics_of(moved)) == 3


def test_what_one_process_saved_several_go_on_from(configure, tmp_path, killer, killed):
    """Each with a copy; shards are made of shards only."""
    config = configure(model={"factory": "tiny:Calm"}, checkpoints=FREQUENT)
    one, moved = tmp_path / "one", tmp_path / "moved"
    ExperimentManager(config, one).run()
    with pytest.raises(killed):
        ExperimentManager(config, moved, observers=[killer(5)]).run()

    sharded = configure(model={"factory": "tiny:Calm"}, checkpoints=FREQUENT, training={"parallel": "fsdp"})
    assert [1, 1] == gang(2, train_until(sharded, moved, {}))
    assert [0, 0] == gang(2, train_until(config, moved, {}))
    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(moved)[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_what_several_processes_trained_one_uses(parallel, configure, tmp_path, mlc):
    """Its weights are put together: measured, evaluated from the command line, and exported."""
    run_dir = tmp_path / "run"
    config = configure(training={"parallel": parallel, "ema_decay": 0.9})
    assert [0, 0] == gang(2, train_until(config, run_dir, {}))
    final = run_dir / "checkpoints" / "model" / "final"
    last = metrics_of(run_dir)[-1]

    found = ModelManager.from_checkpoint(final).evaluate()
    assert found == pytest.approx({name: last[name] for name in found}, rel=1e-4, abs=1e-6)
    assert ExperimentManager.load_best_model(run_dir).evaluate() == pytest.approx(found, rel=1e-4, abs=1e-6)
    told = mlc("evaluate", run_dir, "--json")
    assert json.loads(told.out)["metrics"] == pytest.approx(found, rel=1e-4, abs=1e-6)
    assert ModelManager.from_checkpoint(final).save(tmp_path / "net.safetensors").is_file()


def test_a_corrupt_checkpoint_is_passed_over_by_all(configure, tmp_path, killer, killed):
    """What one process saved last is damaged: all go on from what it saved before, and one says so."""
    config, run_dir, told = configure(checkpoints=FREQUENT), tmp_path / "run", tmp_path / "told"
    with pytest.raises(killed):
        ExperimentManager(config, run_dir, observers=[killer(8)]).run()
    damaged = (run_dir / "checkpoints" / "model" / "latest").resolve()
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").chmod(0o644)
    (damaged / "model.safetensors").write_bytes(content)

    def work(rank):
        experiment = ExperimentManager(config, run_dir)
        experiment.run(resume_from_checkpoint="latest")
        (told.with_suffix(f".{rank}")).write_text(" ".join(experiment.resume_report.passed_over))

    assert [0, 0] == gang(2, work)
    assert [True, True] == [damaged.name in told.with_suffix(f".{rank}").read_text() for rank in range(2)]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_what_is_gathered_by_the_way_is_the_first_process_s(parallel, configure, tmp_path, bits):
    """And a save in between, which spreads it, changes no bit of what is computed with it."""
    config = configure(model={"factory": "tiny:Renormed"}, training={"parallel": parallel})
    run_dir, other = tmp_path / "run", tmp_path / "other"
    assert [0, 0] == gang(2, train_until(config, other, {}))
    assert [143, 143] == gang(2, train_until(config, run_dir, {1: Fate(4, signal.SIGTERM)}))
    assert [0, 0] == gang(2, train_until(config, run_dir, {}))

    assert bits(run_dir) == bits(other)


def test_a_loader_that_a_signal_has_broken_stops_all(configure, tmp_path):
    """The signal went to all of the group, and one process has lost its workers before it could ask the others."""

    def work(rank):
        experiment = ExperimentManager(configure(), tmp_path / "run").setup()
        if rank:
            whole = experiment.training_batches.epoch

            def epoch(number, *, first=0):
                for index, batch in enumerate(whole(number, first=first)):
                    if (number, index) == (1, 1):
                        os.kill(os.getpid(), signal.SIGTERM)
                        msg = "DataLoader worker is killed by signal"
                        raise RuntimeError(msg)
                    yield batch

            experiment.training_batches.epoch = epoch
        experiment.run()

    assert [143, 143] == gang(2, work)
    assert 4 == open_checkpoint(tmp_path / "run" / "checkpoints" / "model" / "latest").saved.step


def test_norms_of_shards_are_not_guessed(configure, tmp_path, caplog):
    """The callback is left out, and says what to do instead; the run goes on."""
    config = configure(training={"parallel": "fsdp", "log_every": 1})
    config = attrs.evolve(config, callbacks=(PartConfig(name="gradient_norm"),))

    def work(rank):
        with warnings.catch_warnings():
            ExperimentManager(config, tmp_path / "run").run()
        assert rank or "training.clip_norm logs their norm" in caplog.text

    assert [0, 0] == gang(2, work)


# ---------------------------------------------------------------------- signals, side effects, what is refused


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_at_the_same_step(rank, configure, tmp_path, bits):
    """They save together, leave with the signal's status, and go on as if nothing had been."""
    config, run_dir, other = configure(), tmp_path / "run", tmp_path / "other"
    assert [0, 0] == gang(2, train_until(config, other, {}))

    assert [143, 143] == gang(2, train_until(config, run_dir, {rank: Fate(4, signal.SIGTERM)}))
    stopped = open_checkpoint(run_dir / "checkpoints" / "model" / "latest").saved
    assert (4, ("SIGTERM",)) == (stopped.step, stopped.reasons)
    assert [0, 0] == gang(2, train_until(config, run_dir, {}))

    assert bits(run_dir) == bits(other)


@pytest.mark.parametrize("error", [False, True])
def test_the_threads_that_speak_with_others_end_before_python_does(error, config_file, tmp_path):
    """One that still held a tensor then would abort a process that has done its work; after an error, too."""
    settings = ["--set", "optimizer.options.lr=1e30"] if error else []
    words = ["train", str(config_file()), "--run-dir", str(tmp_path / "run"), *settings]

    def work(_):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert int(error) == (ended.value.code or 0)
        assert not any("gloo" in one.read_text() for one in Path("/proc/self/task").glob("*/comm"))

    assert [0, 0] == gang(2, work)


def test_one_process_writes_and_tells(configure, tmp_path, watcher):
    """The journal has each line once, and who watches hears from rank 0 only."""
    run_dir, heard = tmp_path / "run", tmp_path / "heard"

    def work(rank):
        def note(*_):
            with heard.open("a", encoding="utf-8") as file:
                file.write(f"{rank} ")

        ExperimentManager(configure(), run_dir, observers=[watcher(epoch_ended=note)]).run()

    assert [0, 0] == gang(2, work)
    assert "0 0 0 " == heard.read_text(encoding="utf-8")
    lines = read_journal(run_dir / "metrics.jsonl")
    assert [1, 2, 3] == [one["epoch"] for one in lines if one["event"] == "epoch"]
    assert 1 == sum(one["event"] == "started" for one in lines)


@pytest.mark.parametrize(
    ("tables", "part"),
    [
        ({"training": {"save_on_error": True}}, "the others would wait"),
        ({"checkpoints": {"asynchronous": True}}, "checkpoints.asynchronous does not go"),
        (
            {"loss": {"preset": None, "config": {"type": "lovasz", "batch": True}}},
            "cannot add up what several processes hold",
        ),
        ({"training": {"parallel": "fsdp", "precision": "fp16"}}, "take 'bf16'"),
        ({"training": {"parallel": "fsdp", "shard_blocks": ["Conv2D"]}}, "Did you mean 'Conv2d'"),
        (
            {
                "loss": {
                    "preset": "default_segmentation",
                    "config": {"scheduler": {"type": "adaptive", "params": {"method": "uncertainty"}}},
                }
            },
            "weights of the loss that are learnt",
        ),
    ],
)
def test_what_several_processes_cannot_have_is_refused_before_work_starts(tables, part, configure, tmp_path):
    """By all of them, with a way out."""

    def work(rank):
        with pytest.raises(ConfigError, match=part):
            ExperimentManager(configure(**tables), tmp_path / "run").setup()

    assert [0, 0] == gang(2, work)
    assert not (tmp_path / "run").exists()


def test_an_error_of_rank_0_ends_all(trained_copy, configure):
    """The run has checkpoints already; the others do not wait for what never comes."""
    expected = {0: (RunError, "holds checkpoints already"), 1: (RunError, "holds checkpoints already")}

    def work(rank):
        kind, words = expected[rank]
        with pytest.raises(kind, match=words):
            ExperimentManager(configure(), trained_copy).run()

    assert [0, 0] == gang(2, work)


def test_a_run_that_another_process_trains_is_busy_for_all(configure, tmp_path, watcher):
    """Rank 0 says why; the others say that rank 0 failed."""
    run_dir = tmp_path / "run"

    def intrude(*_):
        def work(rank):
            with pytest.raises(RankError if rank else RunBusyError, match="another process is training"):
                ExperimentManager(configure(), run_dir).run()

        assert [0, 0] == gang(2, work)

    ExperimentManager(configure(), run_dir, observers=[watcher(run_started=intrude)]).run()


def test_processes_that_cannot_be_found_are_told(configure, tmp_path, monkeypatch):
    """WORLD_SIZE is set, and nothing else that torchrun sets."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="start them with torchrun, or unset WORLD_SIZE"):
        ExperimentManager(configure(), tmp_path / "run").setup()
    with pytest.raises(ConfigError, match="start them with torchrun, or unset WORLD_SIZE"):
        TrainingManager(tmp_path / "owned", "net")


@pytest.mark.slow
def test_torchrun_starts_dead_processes_again(tmp_path, config_file, configure, bits):
    """`torchrun --max-restarts 1 … mlc train --auto-resume`: one is killed, all start again, and no bit differs."""
    command = Path(sys.executable).with_name("mlc")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(LAB), *sys.path])}
    config = config_file(
        checkpoints=FREQUENT, data={"factory": "tiny:Fatal", "options": {"mark": str(tmp_path / "mark")}}
    )
    run_dir = tmp_path / "run"
    words = ["--max-restarts", "1", "--no-python", command, "train", config, "--run-dir", run_dir, "--auto-resume"]
    done = subprocess.run([*torchrun, *words], env=environment, capture_output=True, text=True, timeout=120)
    assert 0 == done.returncode, done.stderr

    assert (tmp_path / "mark").exists()
    assert 1 == done.stdout.count("After the last epoch")
    undisturbed = tmp_path / "undisturbed"
    assert [0, 0] == gang(2, train_until(configure(checkpoints=FREQUENT), undisturbed, {}))
    assert bits(undisturbed)[1:] == bits(run_dir)[1:]
    for name, tensor in weights_of(undisturbed).items():
        assert torch.equal(weights_of(run_dir)[name], tensor)
