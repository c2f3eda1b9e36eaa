"""How training may be told to compute: averaged, recomputed, fused, more or less exactly, compiled."""

import copy

import pytest
import torch
from torch.optim.swa_utils import update_bn

from mlc_trainer import ConfigError, ExperimentManager, ModelManager
from mlc_trainer.arithmetic import multiplying
from mlc_trainer.averaging import MeanOfEpochs
from mlc_trainer.fusing import with_fused
from mlc_trainer.recomputing import recompute_blocks

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FREQUENT = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}}

# ---------------------------------------------------------------------- means of epochs


@pytest.fixture
def averaged(configure, watcher, tmp_path):
    """Train for four epochs, averaged from the second; return the experiment and the weights at the ends of epochs."""
    weights = []

    def note(*_):
        weights.append({name: one.clone() for name, one in experiment.engine.model.named_parameters()})

    config = configure(
        model={"factory": "tiny:Net", "options": {"dropout": 0.0}}, training={"num_epochs": 4, "swa_start": 2}
    )
    experiment = ExperimentManager(config, tmp_path / "run", observers=[watcher(epoch_ended=note)])
    experiment.run()
    return experiment, weights


def test_mean_of_epochs_is_that_of_their_last_weights(averaged):
    """Each counts the same, and those before the first do not."""
    experiment, weights = averaged

    for name, one in experiment.engine.measured.named_parameters():
        expected = torch.stack([each[name] for each in weights[1:]]).mean(0)
        torch.testing.assert_close(one, expected)


def test_statistics_of_the_mean_are_those_of_update_bn(averaged):
    """Over the batches of the epoch that ended."""
    experiment, _ = averaged
    expected = copy.deepcopy(experiment.engine.measured)
    update_bn((inputs for inputs, _ in experiment.training_batches.epoch(3)), expected)

    for name, one in experiment.engine.measured.named_buffers():
        assert torch.equal(dict(expected.named_buffers())[name], one)
    assert not torch.equal(experiment.engine.model.layers[1].running_mean, expected.layers[1].running_mean)


def test_checkpoints_before_the_mean_begins_are_measured_as_they_are(averaged):
    """What a checkpoint alone measures is what was measured when it was saved, before and after."""
    experiment, _ = averaged
    for name in ("epoch_1", "epoch_3"):
        manager = ModelManager.from_checkpoint(experiment.directory.checkpoints / "model" / name)
        assert manager.evaluate()["val_loss"] == manager.saved.metrics["val_loss"]


def test_two_averages_or_one_that_never_begins_are_refused(configure):
    """Before anything is trained."""
    with pytest.raises(ConfigError, match=r"swa_start = 2 and ema_decay = 0.9 are two averages; leave one out"):
        configure(training={"swa_start": 2, "ema_decay": 0.9})
    with pytest.raises(ConfigError, match="swa_start = 4 is after the last epoch, 3"):
        configure(training={"swa_start": 4})


def test_interrupted_mean_is_as_it_was_and_no_epoch_counts_twice():
    """A signal may come while statistics are renewed, or before the checkpoint."""

    def interrupted():
        yield torch.randn(4, 3)
        raise KeyboardInterrupt

    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    mean = MeanOfEpochs(model, start=1, seed=0)
    before = copy.deepcopy(mean.model.state_dict())
    with pytest.raises(KeyboardInterrupt):
        mean.add(model, 1, interrupted(), lambda one, inputs: one(inputs))
    assert all(torch.equal(one, before[name]) for name, one in mean.model.state_dict().items())
    mean.add(model, 1, [torch.randn(4, 3)], lambda one, inputs: one(inputs))
    after = copy.deepcopy(mean.model.state_dict())
    mean.add(model, 1, interrupted(), lambda one, inputs: one(inputs))

    assert 1 == int(mean.model.n_averaged)
    assert all(torch.equal(one, after[name]) for name, one in mean.model.state_dict().items())


def test_without_batch_normalisation_nothing_is_loaded_once_more():
    """There would be nothing to renew."""
    model = torch.nn.Linear(3, 3)
    mean = MeanOfEpochs(model, start=1, seed=0)
    mean.add(model, 1, (pytest.fail("loaded") for _ in range(1)), lambda one, inputs: one(inputs))

    assert mean.begun


# ---------------------------------------------------------------------- recomputed activations


@pytest.mark.parametrize("training", [{}, {"precision": "bf16", "accumulate": 2}, {"swa_start": 1}], ids=str)
def test_recomputing_changes_no_bit(training, configure, tmp_path, bits):
    """Not with dropout, not with draws from Python and NumPy, and nothing is counted twice."""
    for name, more in (("kept", {}), ("recomputed", {"gradient_checkpointing": True})):
        table = {"num_epochs": 2, **training, **more}
        ExperimentManager(configure(model={"factory": "tiny:Stack"}, training=table), tmp_path / name).run()
    (left, *kept), (right, *recomputed) = bits(tmp_path / "kept"), bits(tmp_path / "recomputed")

    assert kept == recomputed
    assert [] == [name for name in left if name.endswith(".safetensors") and left[name] != right[name]]


def test_blocks_are_computed_twice_in_training_only():
    """Or no memory would be saved; in a copy as well, with its own weights."""
    calls = []
    block = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh())
    block[0].register_forward_hook(lambda *_: calls.append(1))
    model = recompute_blocks(torch.nn.Sequential(block, torch.nn.ReLU()))
    model(torch.ones(1, 2)).sum().backward()
    assert 2 == len(calls)
    twin = copy.deepcopy(model)
    twin(torch.ones(1, 2)).sum().backward()
    assert 4 == len(calls)
    assert torch.equal(twin[0][0].weight.grad, model[0][0].weight.grad)
    model.eval()(torch.ones(1, 2))
    assert 5 == len(calls)
    assert isinstance(model[0], torch.nn.Sequential)
    assert ["0.0.weight", "0.0.bias"] == list(model.state_dict())


def test_gradients_can_be_asked_for_more_than_once():
    """As some schedules of losses do."""
    model = recompute_blocks(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))
    loss = model(torch.randn(4, 2)).square().sum()
    weight = model[0].weight
    first, again = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for _ in range(2))

    assert torch.equal(first, again)
    assert 1 == int(model[1].num_batches_tracked)


def test_what_cannot_be_recomputed_is_refused(configure, tmp_path):
    """A model without blocks, and a compiler that decides itself."""
    single = {"factory": "torch.nn:Conv2d", "options": {"in_channels": 1, "out_channels": 1, "kernel_size": 1}}
    with pytest.raises(ConfigError, match=r"Conv2d has no blocks: children with weights of an nn.Sequential or an"):
        ExperimentManager(configure(model=single, training={"gradient_checkpointing": True}), tmp_path).setup()
    with pytest.raises(ConfigError, match="gradient_checkpointing and compile cannot be had together"):
        configure(training={"gradient_checkpointing": True, "compile": True})


# ---------------------------------------------------------------------- fused optimizers


def test_fused_optimizer_is_one(configure, tmp_path):
    """On a CPU too, and it comes to what the other does, nearly."""
    losses = []
    for fused in (True, False, "auto"):
        experiment = ExperimentManager(configure(training={"fused": fused}), tmp_path / str(fused))
        losses.append(experiment.run()["val_loss"])
        assert (fused is True) == bool(experiment.engine.optimizer.param_groups[0]["fused"])

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[1] == losses[2]


@pytest.mark.parametrize(
    ("options", "fused", "device", "expected"),
    [
        ({}, "auto", CUDA, {"fused": True}),
        ({}, "auto", CPU, {}),
        ({"foreach": True}, "auto", CUDA, {"foreach": True}),
        ({"fused": True}, "auto", CPU, {"fused": True}),
        ({}, False, CUDA, {}),
        ({"lr": 0.1}, True, CPU, {"lr": 0.1, "fused": True}),
    ],
)
def test_auto_is_fused_on_cuda_unless_options_say_how(options, fused, device, expected):
    """What is chosen in the options of the optimizer stays."""
    assert expected == with_fused(torch.optim.AdamW, options, fused, device)


def test_an_optimizer_that_has_no_fused_step_is_left_alone_or_refused():
    """By `auto`, and by true."""
    assert {} == with_fused(torch.optim.RMSprop, {}, "auto", CUDA)
    with pytest.raises(ConfigError, match="torch has no fused RMSprop; 'auto' takes it where there is one"):
        with_fused(torch.optim.RMSprop, {}, True, CUDA)
    with pytest.raises(ConfigError, match="torch has no fused AdamW on meta"):
        with_fused(torch.optim.AdamW, {}, True, torch.device("meta"))
    with pytest.raises(ConfigError, match=r"training.fused = true contradicts optimizer.options.foreach = True"):
        with_fused(torch.optim.AdamW, {"foreach": True}, True, CPU)
    with pytest.raises(ConfigError, match=r"training.fused = false and optimizer.options.fused = true contradict"):
        with_fused(torch.optim.AdamW, {"fused": True}, False, CPU)


@pytest.mark.parametrize("wrong", ["yes", 1, None])
def test_fused_is_a_switch_or_auto(wrong, configure):
    """And nothing that looks like it."""
    with pytest.raises(ConfigError, match=r"fused = .* must be 'auto', true or false"):
        configure(training={"fused": wrong})


# ---------------------------------------------------------------------- exactness


def test_matrices_are_multiplied_as_is_said(configure, tmp_path):
    """For the run, which sets up torch as it does for threads; a model alone puts it back."""
    with multiplying("highest"):
        ExperimentManager(configure(), tmp_path / "default").setup()
        assert "highest" == torch.get_float32_matmul_precision()
        ExperimentManager(configure(training={"matmul_precision": "high"}), tmp_path / "run").run()
        assert "high" == torch.get_float32_matmul_precision()
    before = torch.get_float32_matmul_precision()
    manager = ModelManager.from_experiment_dir(tmp_path / "run")
    assert manager.evaluate()["val_loss"] == manager.saved.metrics["val_loss"]
    assert before == torch.get_float32_matmul_precision()
    with pytest.raises(ConfigError, match="matmul_precision = 'low' must be 'highest' or 'high' or 'medium'"):
        configure(training={"matmul_precision": "low"})


# ---------------------------------------------------------------------- compiled


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning")
def test_compiled_run_that_was_killed_is_equal_to_the_bit(configure, tmp_path, killer, killed, bits):
    """In the middle of an epoch; code is compiled anew after it, to the same."""
    config = configure(training={"compile": True, "num_epochs": 2}, checkpoints=FREQUENT)
    ExperimentManager(config, tmp_path / "undisturbed").run()
    run_dir = tmp_path / "run"
    with pytest.raises(killed):
        ExperimentManager(config, run_dir, observers=[killer(5)]).run()
    torch._dynamo.reset()  # as a new process: nothing is left of what was compiled
    ExperimentManager.from_run(run_dir).resume_training()

    assert bits(tmp_path / "undisturbed") == bits(run_dir)
