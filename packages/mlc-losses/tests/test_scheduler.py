"""A scheduler moves the weights of a loss in training, and goes on where it stopped."""

import copy
import io
import json
import math

import numpy as np
import pytest
import ranks_scheduled
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from torch import multiprocessing, nn

from mlc_hooks import UnknownNameError, hookimpl
from mlc_losses import (
    DeepSupervisionLoss,
    DiceLoss,
    LossConfigError,
    LossInputError,
    LossManager,
    LossScheduler,
    get_preset_loss_config,
    loss_schedules,
)
from mlc_losses.schedules.told import Heard

TOLD = {"dice_loss": 0.8, "bce_loss": 0.2}


def make(**changes):
    """Return the default preset with changes."""
    return LossManager.create_loss_function({**get_preset_loss_config("default_segmentation"), **changes})


def schedule(loss, kind="adaptive", **params):
    """Return a scheduler of *loss*."""
    return LossManager.create_loss_scheduler(loss, {"type": kind, "params": params})


def draw(seed, size=6):
    """Return logits that learn and their target."""
    generator = torch.Generator().manual_seed(seed)
    pred = torch.randn(2, 1, size, size, generator=generator)
    return pred.requires_grad_(), (torch.rand(2, 1, size, size, generator=generator) < 0.4).float()


def travel(state, *, by_json):
    """Return *state* as it comes back from a file."""
    if by_json:
        return json.loads(json.dumps(state, allow_nan=False))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_documents_example():
    """The loop of the documents works as it stands: nothing but a validation metric is handed over."""
    loss_function = make()
    scheduler_config = {"type": "adaptive", "params": {}}
    loss_scheduler = LossManager.create_loss_scheduler(loss_function, scheduler_config)

    for epoch in range(3):
        for batch in range(4):
            loss_function(*draw(10 * epoch + batch)).backward()
        val_metrics = {"val_dice": 0.5 + 0.1 * epoch}
        weights = loss_scheduler.step(epoch, val_metrics)

    assert isinstance(loss_scheduler, LossScheduler)
    assert weights == loss_function.weights
    assert weights != {"dice": 0.7, "bce": 0.3}
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["adaptive", "cosine", "performance"])
def test_each_type_works_without_params(kind):
    """Documents name the types without options; all that can guess theirs do."""
    loss = make()
    scheduler = LossManager.create_loss_scheduler(loss, {"type": kind})
    loss(*draw(1)).backward()

    assert set(scheduler.step(0, {"val_loss": 1.0})) == {"dice", "bce"}


def test_recorded_losses_are_the_means_of_what_was_trained_on():
    """What the loss saw in training weighs as the means of its components would."""
    loss, told = make(), make()
    ours, theirs = schedule(loss), schedule(told)
    batches = [draw(seed) for seed in range(5)]
    for pred, target in batches:
        loss(pred, target).backward()
    found = [told.get_loss_components(*batch) for batch in batches]
    theirs.loss.record().clear()
    means = {name: sum(one[name].double().item() for one in found) / 5 for name in TOLD}

    assert ours.step(0) == pytest.approx(theirs.step(0, means), rel=1e-12)


def test_only_training_is_recorded():
    """Validation without gradient or in evaluation mode, and batches that are not finite, leave no trace."""
    loss, clean = make(check_inputs=False), make()
    ours, theirs = schedule(loss), schedule(clean)
    for one in (loss, clean):
        one(*draw(1)).backward()
    with torch.no_grad():
        loss(*draw(2))
    loss.eval()
    loss(*draw(3))
    loss.train()
    pred, target = draw(4)
    loss(pred * float("nan"), target)

    assert ours.state_dict()["recorded"]["left_out"] == 1
    assert ours.step() == theirs.step()
    assert ours.skipped == 0


def test_epochs_of_nothing_finite_are_skipped_and_counted():
    """When every batch failed, weights stay, the step is counted as skipped, and the next one works."""
    loss = make(check_inputs=False)
    scheduler = schedule(loss)
    pred, target = draw(4)
    loss(pred * float("nan"), target)

    assert scheduler.step(0) == {"dice": 0.7, "bce": 0.3}
    assert scheduler.skipped == scheduler.state_dict()["skipped"] == 1
    loss(pred, target)
    assert scheduler.step(1) != {"dice": 0.7, "bce": 0.3}


def test_metrics_come_before_the_record():
    """Where all components are in the metrics, under the prefix that was said, those count."""
    loss = make()
    by_metrics = schedule(make(), rho=0, eps=1e-300).step(0, TOLD)
    scheduler = LossManager.create_loss_scheduler(
        loss, {"type": "adaptive", "params": {"rho": 0, "eps": 1e-300}, "prefix": "val_"}
    )
    loss(*draw(1))

    assert by_metrics["dice"] * 0.8 / (by_metrics["bce"] * 0.2) == pytest.approx(7 / 3)
    assert by_metrics == scheduler.step(
        0, {"val_dice_loss": torch.tensor(0.8, dtype=torch.float64), "val_bce_loss": 0.2}
    )


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({}, r"there are none.*no 'dice_loss' or 'bce_loss'.*Train before"),
        ({"dice_loss": 1.0}, r"metrics have \['dice_loss'\] but not \['bce_loss'\]"),
        ({"dice_loss": 1.0, "bce_loss": "low"}, r"but not \['bce_loss'\]"),
        ([1.0], r"give numbers by name"),
    ],
)
def test_missing_losses_are_told(metrics, says):
    """When nobody knows the values of the components, the way out is named, and nothing has moved."""
    scheduler = schedule(make())
    before = scheduler.state_dict()

    with pytest.raises(LossInputError, match=says):
        scheduler.step(0, metrics)
    assert before == scheduler.state_dict()


def test_missing_metric_is_told():
    """A schedule that watches a metric says which, what is close, and what there is."""
    scheduler = schedule(make(), "performance", monitor="val_dice")

    with pytest.raises(LossConfigError, match=r"'val_dice'.*Did you mean 'val_dise'\? There are: val_dise"):
        scheduler.step(0, {"val_dise": 0.3})


def test_weights_are_written_without_another_trace():
    """A compiled loss is one graph, records as a plain one does, and is traced once for all weights."""
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    plain, traced = make(check_inputs=False), make(check_inputs=False)
    compiled = torch.compile(traced, fullgraph=True, backend=count)
    ours, theirs = schedule(compiled), schedule(plain)
    for epoch in range(3):
        for seed in range(3):
            compiled(*draw(seed)).backward()
            plain(*draw(seed)).backward()

        assert ours.step(epoch) == pytest.approx(theirs.step(epoch), rel=1e-6)
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own imports
def test_generated_code_records_too():
    """What the default compiler makes of recording has the sums of the plain loss."""
    loss = make(check_inputs=False)
    scheduler, compiled = schedule(loss), torch.compile(loss, fullgraph=True)
    for seed in range(3):
        compiled(*draw(seed)).backward()
    traced = scheduler.state_dict()["recorded"]
    loss.record().clear()
    for seed in range(3):
        loss(*draw(seed)).backward()

    assert traced["added"] == 3
    assert traced["sums"] == pytest.approx(scheduler.state_dict()["recorded"]["sums"], rel=1e-6)


def test_numbers_in_files_are_the_same_options():
    """An option of 1 is one of 1.0, and a NumPy number one of Python's."""
    state = schedule(make(), "cosine", steps=np.int64(4), cycles=2, period_multiplier=2).state_dict()
    scheduler = schedule(make(), "cosine", steps=4, cycles=2, period_multiplier=2.0)
    scheduler.load_state_dict(state)

    assert scheduler.state_dict() == state


def test_halved_losses_keep_their_sums_wide():
    """A loss that follows its model to half precision does not add up in it."""
    loss = make()
    scheduler = schedule(loss)
    loss.half()
    for seed in range(3):
        loss(*draw(seed))

    assert loss.record().sums.dtype == torch.float32
    assert scheduler.step()["dice"] > 0


def test_a_new_scheduler_begins_afresh():
    """What the loss saw for an earlier scheduler does not count for the next."""
    loss = make()
    schedule(loss)
    loss(*draw(1))

    assert schedule(loss).state_dict()["recorded"]["added"] == 0


def test_no_schedule_no_cost():
    """Nothing is recorded for schedules that go by time, and a loss has no more state for being scheduled."""
    loss = make()
    scheduler = schedule(loss, "cosine")
    loss(*draw(1))

    assert scheduler.state_dict()["recorded"] is None
    assert set(loss.state_dict()) == {"dice_weight", "bce_weight"}
    schedule(loss)
    assert set(loss.state_dict()) == {"dice_weight", "bce_weight"}


def test_deep_supervision_counts_outputs_as_the_loss_does():
    """Each output counts its share, so what is recorded is what `get_loss_components` says."""
    loss = DeepSupervisionLoss(make(), weights=[3, 1])
    scheduler = schedule(loss)
    pred, target = draw(1, size=8)
    coarse = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(8)).requires_grad_()
    loss([pred, coarse], target).backward()
    found = loss.get_loss_components([pred.detach(), coarse.detach()], target)
    recorded = scheduler.state_dict()["recorded"]

    assert recorded["added"] == pytest.approx(1)
    assert recorded["sums"] == pytest.approx({"dice": found["dice_loss"].item(), "bce": found["bce_loss"].item()})
    assert scheduler.step() == loss.loss.weights


def test_one_number_for_each_sample_is_recorded_as_their_mean():
    """With reduction='sample' the record holds the mean over samples."""
    loss = make(reduction="sample")
    scheduler = schedule(loss)
    pred, target = draw(1)
    loss(pred, target).mean().backward()

    assert scheduler.state_dict()["recorded"]["sums"]["dice"] == pytest.approx(
        DiceLoss(reduction="sample")(pred, target).mean().item(), abs=1e-5
    )


@pytest.mark.parametrize("by_json", [True, False])
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("adaptive", {}),
        ("adaptive", {"method": "softadapt"}),
        ("adaptive", {"method": "dwa"}),
        ("adaptive", {"method": "relobralo", "lookback": 0.5}),
        ("cosine", {"steps": 3}),
        ("step", {"step_size": 1, "gamma": {"dice": 0.5, "bce": 1}}),
        ("performance", {"patience": 0}),
    ],
)
def test_training_resumes_to_the_bit(kind, params, by_json):
    """A run that stops within an epoch and goes on has the losses and weights of one that never stopped."""

    def train(loss, scheduler, batches):
        for batch in batches:
            loss(*draw(batch)).backward()
            if batch % 4 == 3:
                scheduler.step(batch // 4, {"val_loss": 1.0})
        return scheduler.state_dict()

    loss, stopped, resumed = make(), make(), make()
    expected = train(loss, schedule(loss, kind, **params), range(16))
    first = schedule(stopped, kind, **params)
    state = travel(train(stopped, first, range(6)), by_json=by_json)
    weights = travel({name: one.item() for name, one in stopped.state_dict().items()}, by_json=by_json)
    resumed.load_state_dict({name: torch.tensor(one).double() for name, one in weights.items()})
    second = schedule(resumed, kind, **params)
    second.load_state_dict(state)

    assert train(resumed, second, range(6, 16)) == expected
    assert resumed.weights == loss.weights


def learn(loss, *, steps=50, rate=1.0):
    """Return the values of components that do not change, after their weights are learnt."""
    pred, target = draw(1)
    scheduler = schedule(loss, method="uncertainty")
    optimizer = torch.optim.SGD([pred], lr=0.0)
    scheduler.train_with(optimizer)
    optimizer.param_groups[-1]["lr"] = rate
    for _ in range(steps):
        optimizer.zero_grad()
        loss(pred, target).backward()
        optimizer.step()
    return scheduler, loss.get_loss_components(pred, target)


def test_learnt_weights_find_their_losses():
    """At the optimum e^s is the loss, so the weight is half its inverse, and `step` reports that in the buffers."""
    loss = make()
    scheduler, found = learn(loss)
    weights = scheduler.step(0)

    for name in ("dice", "bce"):
        assert loss.learnt[name].exp().item() == pytest.approx(found[f"{name}_loss"].item(), rel=1e-6)
        assert weights[name] == pytest.approx(0.5 / found[f"{name}_loss"].item(), rel=1e-6)
        assert loss.get_buffer(f"{name}_weight").item() == weights[name] == loss.weights[name]


def test_learnt_totals_are_the_loss_to_the_bit():
    """The loss is its formula, and what is logged is what is trained on, terms of s included."""
    loss = make()
    learn(loss, steps=3)
    pred, target = draw(2)
    found, parts = loss.get_loss_components(pred, target), loss.break_down(pred, target).parts
    expected = sum(found[f"{name}_loss"].double() * torch.exp(-one) / 2 + one / 2 for name, one in loss.learnt.items())

    assert torch.equal(found["total"], loss(pred, target))
    assert all(torch.equal(part.weighted, part.weight.to(part.value.dtype) * part.value) for part in parts)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert f"exp(-s)/2·loss + s/2), s learnt for each component, now {loss.weights['dice']:g}·dice" in loss.explain()
    torch.testing.assert_close(found["total"].double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sum(part.weighted for part in parts) + found["regulariser"], found["total"].detach())


def test_learnt_weights_start_at_the_base():
    """Nothing jumps when weights begin to be learnt, and a second scheduler goes on with the same parameters."""
    loss = make()
    first = schedule(loss, method="uncertainty")
    parameters = dict(loss.learnt)
    schedule(loss, method="uncertainty")

    assert first.weights == pytest.approx({"dice": 0.7, "bce": 0.3})
    assert all(loss.learnt[name] is one for name, one in parameters.items())
    with pytest.raises(LossConfigError, match="learnt, so schedule 'cosine' cannot"):
        schedule(loss, "cosine")


def test_learnt_weights_resume():
    """The parameters are in the scheduler's state, and in the loss's."""
    loss, other = make(), make()
    scheduler, _ = learn(loss, steps=3)
    resumed = schedule(other, method="uncertainty")
    resumed.load_state_dict(travel(scheduler.state_dict(), by_json=True))

    assert resumed.weights == scheduler.weights
    assert all(torch.equal(other.learnt[name], one) for name, one in loss.learnt.items())


def test_learnt_weights_need_an_optimizer():
    """A schedule of learnt weights that nobody moves is told at the first step, and others want no optimizer."""
    loss, optimizer = make(), torch.optim.Adam([torch.zeros(1, requires_grad=True)], weight_decay=0.1)
    scheduler = schedule(loss, method="uncertainty")

    with pytest.raises(LossConfigError, match=r"train_with\(optimizer\).*dice_log_variance"):
        scheduler.step(0)
    scheduler.train_with(optimizer)
    scheduler.train_with(optimizer)
    scheduler.step(0)

    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    assert optimizer.param_groups[1]["weight_decay"] == 0
    with pytest.raises(LossConfigError, match="nothing for an optimizer"):
        schedule(make(), "cosine").train_with(optimizer)


def test_learnt_weights_trace_once():
    """Learnt weights are one graph, with their gradient."""
    loss = make(check_inputs=False)
    schedule(loss, method="uncertainty")
    torch.compile(loss, fullgraph=True, backend="eager")(*draw(1)).backward()

    assert all(one.grad is not None for one in loss.learnt.values())


def test_states_of_other_runs_are_refused():
    """A state of other components, options, types or formats is refused, both sides named, and nothing changes."""
    scheduler = schedule(make(), "cosine", steps=10)
    other = LossManager.create_loss_function({"type": "combined", "focal_weight": 0.3, "dice_weight": 0.7})
    before = scheduler.state_dict()
    for state, says in (
        (schedule(make(), "cosine", steps=20).state_dict(), r"\(\w{16}, here \w{16}\).*steps 20, here 10"),
        (schedule(other, "cosine", steps=10).state_dict(), r"\['dice', 'focal'\].*\['bce', 'dice'\]"),
        (schedule(make(), "performance").state_dict(), "type 'performance', but this scheduler 'cosine'"),
        ({**before, "format": 99}, "format 99, but this scheduler 1"),
        ({**before, "more": 1}, r"has \['more'\], where \[\] is remembered"),
        ({"t": 3}, "load what its state_dict returned"),
        (3, "load what its state_dict returned"),
    ):
        with pytest.raises(LossConfigError, match=says):
            scheduler.load_state_dict(state)
    assert before == scheduler.state_dict()


NONSENSE = [
    (dict.fromkeys([key], value), key if says is None else says)
    for key, value, says in [
        ("t", "3", "t is '3'"),
        ("t", -1, "t is -1"),
        ("t", True, "t is True"),
        ("skipped", 1.5, None),
        ("skipped", 7, "skipped is 7 of 2 steps"),
        ("time", 1, "skipped is 0 of 2 steps .* in 1 epochs"),
        ("time", None, "time is None"),
        ("w", {"dice": math.nan, "bce": 1.0}, r"w\['dice'\] is nan"),
        ("w", {"dice": -1.0, "bce": 1.0}, r"w\['dice'\] is -1"),
        ("w", {"dice": 1.0}, r"w is for \['dice'\]"),
        ("w", None, "w is for None"),
        ("w0", {"dice": "0.7", "bce": "0.3"}, r"w0\['dice'\] is '0.7'"),
        ("w0", 3, "w0 is 3"),
        ("config", None, "config is None"),
        ("recorded", {}, "recorded is {}"),
        ("recorded", None, "recorded is None"),
        ("recorded", {"sums": {}, "added": 1, "left_out": 0}, "recorded sums is for"),
        ("recorded", {"sums": {"dice": 1, "bce": "x"}, "added": 1, "left_out": 0}, r"recorded sums\['bce'\] is 'x'"),
        ("recorded", {"sums": {"dice": 1, "bce": 1}, "added": -1, "left_out": 0}, "recorded added is -1"),
        ("s", {"dice": 0.0}, "s is for"),
        ("s", None, "s is for None"),
        ("ema", {}, "ema is for"),
        ("ema", {"dice": 0.1, "bce": math.inf}, r"ema\['bce'\] is inf"),
        ("prev", 3, "prev is for 3"),
        ("first", None, "first is for None"),
        ("rng", "many", "rng is 'many'"),
        ("rng", 0, "ema is .*no step was counted"),
    ]
]


@pytest.mark.parametrize(("change", "says"), NONSENSE, ids=str)
def test_nonsense_in_a_state_changes_nothing(change, says):
    """A state with a value that `state_dict` never returns is refused by its key, and nothing of it is loaded."""
    loss = make()
    scheduler = schedule(loss)
    scheduler.step(0, TOLD)
    loss(*draw(1)).backward()
    before, buffers = scheduler.state_dict(), dict(loss.weights)
    other = schedule(make())
    for told in (TOLD, {"dice_loss": 0.1, "bce_loss": 0.9}):
        other.step(metrics=told)

    with pytest.raises(LossConfigError, match=f"the state's {says}"):
        scheduler.load_state_dict({**other.state_dict(), **change})
    assert scheduler.state_dict() == before
    assert loss.weights == buffers


@pytest.mark.parametrize(
    "change", [{"best": "low"}, {"best": math.nan}, {"bad": -1}, {"cooldown": 0.5}, {"moves": None}]
)
def test_nonsense_about_metrics_changes_nothing(change):
    """What a schedule that watches a metric remembers is checked as well."""
    scheduler = schedule(make(), "performance")
    before = scheduler.state_dict()

    with pytest.raises(LossConfigError, match=f"the state's {next(iter(change))} is"):
        scheduler.load_state_dict({**before, "t": 5, "time": 5, **change})
    assert scheduler.state_dict() == before


@pytest.mark.parametrize("params", [{}, {"method": "uncertainty"}])
def test_states_that_lack_a_key_change_nothing(params):
    """A state without any one of its keys is refused, the key is named, and nothing of the rest is loaded."""
    scheduler = schedule(make(), **params)
    before = scheduler.state_dict()
    other = {**before, "t": 7, "time": 7}

    for key in before:
        with pytest.raises(LossConfigError, match=f"'{key}'"):
            scheduler.load_state_dict({name: one for name, one in other.items() if name != key})
        assert scheduler.state_dict() == before


def test_learnt_nonsense_changes_nothing():
    """Log variances that are no numbers are refused before a parameter changes."""
    scheduler = schedule(make(), method="uncertainty")
    before = scheduler.state_dict()

    with pytest.raises(LossConfigError, match=r"the state's s\['bce'\] is nan"):
        scheduler.load_state_dict({**before, "s": {"dice": 1.0, "bce": math.nan}})
    assert scheduler.state_dict() == before


def test_a_schedule_that_trips_over_a_state_changes_nothing():
    """Whatever a third party's schedule raises for a state is told as what it is, with the cause, and nothing moved."""

    class Tripping(Alternate):
        seen = 0

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = 99
            self.seen = state["seen"]["deeper"]

    scheduler = LossScheduler(make(), Tripping())
    before = scheduler.state_dict()

    with pytest.raises(LossConfigError, match=r"'alternate' cannot take over \{'seen': 0\} \(TypeError"):
        scheduler.load_state_dict({**before, "t": 5, "time": 5})
    assert scheduler.state_dict() == before


def test_a_schedule_for_two_losses_is_two():
    """Schedulers that are made with one schedule share nothing, and a used one starts afresh."""
    one = loss_schedules().make("adaptive")
    first, second = LossScheduler(make(), one), LossScheduler(make(), one)
    alone = schedule(make())
    first.step(0, {"dice_loss": 0.1, "bce_loss": 0.9})
    third = LossScheduler(make(), first.schedule)

    assert second.step(0, TOLD) == third.step(0, TOLD) == alone.step(0, TOLD)
    assert second.state_dict() == third.state_dict() == alone.state_dict()


def test_configurations_may_change_afterwards():
    """What happens to a configuration after the scheduler was made changes no weight, and no state becomes another."""
    config = {"type": "step", "params": {"milestones": {2: {"dice": 0.5, "bce": 0.5}}}}
    scheduler = LossManager.create_loss_scheduler(make(), config)
    state = scheduler.state_dict()
    config["params"]["milestones"][2]["dice"] = 0.9

    assert [scheduler.step(), scheduler.step()] == [{"dice": 0.7, "bce": 0.3}, {"dice": 0.5, "bce": 0.5}]
    scheduler.load_state_dict(state)
    assert scheduler.state_dict() == state


def test_plugins_get_copies_of_their_options(mlc_plugins, monkeypatch):
    """A plugin's schedule that keeps its options keeps its own."""

    class Keeping(Alternate):
        def __init__(self, *, table):
            super().__init__()
            self.table = table

    class Offer:
        @hookimpl
        def mlc_loss_schedules(self):
            return {"keeping": Keeping}

    mlc_plugins.register(Offer(), "acme")
    monkeypatch.setattr("mlc_losses.catalogs.shared", lambda: mlc_plugins)
    table = {"a": [1, {"b": 2}]}
    scheduler = schedule(make(), "keeping", table=table)
    table["a"][1]["b"] = 3

    assert scheduler.schedule.table == {"a": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("cosine", {"steps": 2}),
        ("step", {"milestones": {1: {"dice": 0.5, "bce": 0.5}}}),
        ("performance", {"patience": 0, "eta": 1.0}),
    ],
)
def test_a_run_at_the_end_of_its_way_resumes(kind, params):
    """A loss that is loaded first may have the weights that its schedule ends with: the state knows the base."""
    loss, other = make(), make()
    scheduler = schedule(loss, kind, **params)
    for epoch in range(3):
        scheduler.step(epoch, {"val_loss": 1.0})
    other.load_state_dict(loss.state_dict())
    resumed = schedule(other, kind, **params)
    resumed.load_state_dict(scheduler.state_dict())

    assert loss.weights == {"dice": 0.5, "bce": 0.5}
    assert resumed.step(3, {"val_loss": 1.0}) == scheduler.step(3, {"val_loss": 1.0})


@pytest.mark.parametrize("kind", ["cosine", "performance"])
def test_defaults_that_move_nothing_are_refused(kind):
    """The balanced preset has the weights that the defaults go to, and the first step says so, whatever it is told."""
    loss = LossManager.create_loss_function(get_preset_loss_config("balanced_segmentation"))

    with pytest.raises(LossConfigError, match="the same weight for all"):
        schedule(loss, kind).step()


@pytest.mark.parametrize(
    "number",
    [np.array(0.5), np.array([0.5]), np.float32(0.5), torch.tensor(0.5), torch.tensor([[0.5]]), 0.5],
    ids=repr,
)
def test_numbers_in_arrays_are_numbers(number):
    """A metric may be an array or a tensor of one number, of any shape."""
    expected = schedule(make()).step(0, {"dice_loss": 0.5, "bce_loss": 0.2})

    assert schedule(make()).step(0, {"dice_loss": number, "bce_loss": 0.2}) == expected


@pytest.mark.parametrize(
    "thing",
    [np.array([0.5, 0.5]), np.array("low"), np.array(True), torch.tensor(True), "low", None, [0.5]],
    ids=repr,
)
def test_what_is_no_number_is_none(thing):
    """A metric that is not one number does not count."""
    with pytest.raises(LossInputError, match=r"but not \['dice_loss'\]"):
        schedule(make()).step(0, {"dice_loss": thing, "bce_loss": 0.2})


def test_metrics_in_place_of_the_epoch_are_told():
    """Who hands metrics over as the first argument is told where they go."""
    with pytest.raises(LossConfigError, match=r"epoch is \{'dice_loss': 1\}; metrics are the second argument"):
        schedule(make()).step({"dice_loss": 1})


def test_learnt_runs_resume_when_the_scheduler_is_made_first():
    """With the scheduler and `train_with` first, the states of loss, optimizer and scheduler go on to the bit."""

    def begin():
        loss, weight = make(), nn.Parameter(torch.ones(()))
        optimizer = torch.optim.Adam([weight], lr=0.1)
        scheduler = schedule(loss, method="uncertainty")
        scheduler.train_with(optimizer)
        return loss, weight, optimizer, scheduler

    def train(loss, weight, optimizer, scheduler, batches):
        for batch in batches:
            pred, target = draw(batch)
            optimizer.zero_grad()
            loss(weight * pred.detach(), target).backward()
            optimizer.step()
        return scheduler.step()

    whole, stopped, resumed = begin(), begin(), begin()
    train(*whole, range(3))
    train(*stopped, range(3))
    for old, new in zip((stopped[0], *stopped[2:]), (resumed[0], *resumed[2:]), strict=True):
        new.load_state_dict(old.state_dict())
    with torch.no_grad():
        resumed[1].copy_(stopped[1])

    assert train(*resumed, range(3, 6)) == train(*whole, range(3, 6))


def test_base_weights_come_from_the_state():
    """A loss that was loaded first has weights on their way, and its scheduler still knows where they began."""
    loss, other = make(), make()
    scheduler = schedule(loss, "cosine", steps=4)
    scheduler.step()
    other.load_state_dict(loss.state_dict())
    resumed = schedule(other, "cosine", steps=4)
    resumed.load_state_dict(scheduler.state_dict())

    assert [scheduler.step(), scheduler.step()] == [resumed.step(), resumed.step()]


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ("adaptive", LossConfigError, "is a dictionary such as"),
        ({}, LossConfigError, "'type' is None. Known: .*adaptive, cosine, performance, .*step"),
        ({"type": "cosin"}, UnknownNameError, "Did you mean 'cosine'"),
        ({"type": "cosine", "parms": {}}, LossConfigError, "Did you mean 'params'"),
        ({"type": "cosine", "steps": 3}, LossConfigError, "goes into 'params'"),
        ({"type": "cosine", "params": {"step": 3}}, LossConfigError, "does not take 'step'. Did you mean 'steps'"),
        ({"type": "cosine", "params": [3]}, LossConfigError, r"params is \[3\]"),
        ({"type": "cosine", "prefix": 3}, LossConfigError, "prefix is 3"),
        ({"type": "cosine", "distributed": "yes"}, LossConfigError, "distributed is 'yes'"),
    ],
)
def test_configurations_that_cannot_be_followed_are_refused(config, error, says):
    """What cannot be meant is an error when the scheduler is made, and says what is close."""
    before = copy.deepcopy(config)

    with pytest.raises(error, match=says):
        LossManager.create_loss_scheduler(make(), config)
    assert before == config


@pytest.mark.parametrize("loss", [DiceLoss(), DeepSupervisionLoss(DiceLoss()), nn.Identity(), len])
def test_losses_without_components_are_refused(loss):
    """There is nothing to weigh in a single loss."""
    with pytest.raises(LossConfigError, match="has no components to weigh"):
        schedule(loss)


def test_wrapped_losses_are_found():
    """A loss within a wrapper is the one that is scheduled."""
    loss = make()

    assert schedule(nn.DataParallel(loss), "cosine").loss is loss


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("cosine", {"steps": 40}),
        ("step", {"milestones": {30: {"dice": 0.5, "bce": 0.5}}}),
        ("step", {"step_size": 7, "gamma": {"dice": 0.5, "bce": 1}}),
    ],
)
def test_time_is_the_epoch(kind, params):
    """A step every fifth epoch, and a first one in a late epoch, have the weights of a step in every epoch."""
    every, fifth, late = (schedule(make(), kind, **params) for _ in range(3))
    weights = [every.step(epoch) for epoch in range(35)]

    assert [fifth.step(epoch) for epoch in range(4, 35, 5)] == weights[4::5]
    assert late.step(34) == weights[34] != weights[0]
    assert late.step() == every.step()


def test_milestones_are_epochs():
    """With a milestone at 30 epoch 30, counted from 0, is the first that is trained with its weights."""
    scheduler = schedule(make(), "step", milestones={30: {"dice": 0.5, "bce": 0.5}})

    assert scheduler.step(28) == {"dice": 0.7, "bce": 0.3}
    assert scheduler.step(29) == {"dice": 0.5, "bce": 0.5}


@pytest.mark.parametrize("kind", ["cosine", "adaptive"])
def test_an_epoch_is_over_once(kind):
    """An epoch that comes again is refused and moves nothing, unless the state of before it was loaded."""
    scheduler = schedule(make(), kind)
    scheduler.step(np.int64(2), TOLD)
    before = scheduler.state_dict()
    scheduler.step(3, TOLD)
    after = scheduler.state_dict()

    for epoch in (3, 0):
        with pytest.raises(LossConfigError, match=f"epoch is {epoch}, but the last step left 4 epochs behind"):
            scheduler.step(epoch, TOLD)
    assert scheduler.state_dict() == after
    scheduler.load_state_dict(before)
    scheduler.step(3, TOLD)
    assert scheduler.state_dict() == after


@pytest.mark.parametrize("write", ["buffer", "state"])
def test_what_the_user_writes_is_what_counts(write):
    """The loss's buffers are the weights: who writes one is heard by the scheduler, its state and its next step."""
    loss = make()
    scheduler = schedule(loss, "performance", patience=0, eta=0.5, target={"dice": 0.5, "bce": 0.5})
    scheduler.step(0, {"val_loss": 1.0})
    if write == "buffer":
        loss.dice_weight.fill_(0.9)
        loss.bce_weight.fill_(0.1)
    else:
        loss.load_state_dict({f"{name}_weight": torch.tensor(one) for name, one in (("dice", 0.9), ("bce", 0.1))})

    assert scheduler.weights == scheduler.state_dict()["w"] == loss.weights == pytest.approx({"dice": 0.9, "bce": 0.1})
    assert scheduler.step(1, {"val_loss": 1.0}) == pytest.approx({"dice": 0.7, "bce": 0.3})


@pytest.mark.parametrize("epoch", [-1, 1.5, True, np.float64(1)])
def test_epochs_are_numbers_from_0(epoch):
    """Arguments in the wrong order are found out."""
    with pytest.raises(LossConfigError, match="epoch is"):
        schedule(make(), "cosine").step(epoch)


def test_explains_itself():
    """A reader of a log sees the formula and the weights of the moment."""
    scheduler = schedule(make(), rho=0)
    scheduler.step(0, TOLD)

    assert "w0 / (|l| + 1e-08)" in scheduler.explain()
    assert "after 1 steps: 0.368421·dice + 0.631579·bce" in scheduler.explain()


class Alternate:
    """A third party's schedule."""

    name, needs_losses, keeps_sum, learns = "alternate", False, True, False

    def __init__(self, *, every=1):
        self.every = every

    def start(self, base):
        """Do nothing."""

    def decide(self, moment):
        """Swap the base weights at times."""
        names = list(moment.base)
        swapped = moment.step // self.every % 2
        return {name: moment.base[names[-1 - i] if swapped else name] for i, name in enumerate(names)}

    def options(self):
        """Return the one there is."""
        return {"every": self.every}

    def state_dict(self):
        """Return nothing."""
        return {}

    def load_state_dict(self, state):
        """Take nothing over."""

    def explain(self):
        """Return a sentence."""
        return f"swap every {self.every}"


class Plugin:
    """A third party."""

    @hookimpl
    def mlc_loss_schedules(self):
        """Offer a schedule, and one under our name."""
        return {"alternate": Alternate, "cosine": Alternate}


def test_schedules_of_plugins_take_part(mlc_plugins, monkeypatch):
    """A plugin's schedule is had by name, and cannot take the place of ours."""
    mlc_plugins.register(Plugin(), "acme")
    monkeypatch.setattr("mlc_losses.catalogs.shared", lambda: mlc_plugins)
    scheduler = schedule(make(), "alternate", every=1)

    assert [scheduler.step(), scheduler.step()] == [{"dice": 0.3, "bce": 0.7}, {"dice": 0.7, "bce": 0.3}]
    assert {"acme:cosine", "alternate", "cosine"} <= set(loss_schedules().names())
    assert schedule(make(), "cosine").schedule.name == "cosine"
    with pytest.raises(LossConfigError, match=r"does not take 'evry'\. Did you mean 'every'"):
        schedule(make(), "alternate", evry=1)


def test_a_schedule_cannot_remember_under_our_names():
    """Names that the scheduler keeps are not a schedule's."""

    class Greedy(Alternate):
        def state_dict(self):
            return {"t": 3}

    with pytest.raises(LossConfigError, match=r"remembers \['t'\]"):
        LossScheduler(make(), Greedy()).state_dict()


def pretend(monkeypatch, *others):
    """Make this the first of several processes; the *others* heard this, or raised it."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1 + len(others))
    monkeypatch.setattr(
        "torch.distributed.all_gather_object", lambda all_, one: all_.__setitem__(slice(9), [one, *others])
    )


def hear(losses=None, *, time=1, count=1.0, **metrics):
    """Return what a process goes by."""
    return Heard(time=time, metrics=metrics, losses=losses, count=count)


def test_several_processes_must_say_how(monkeypatch):
    """Where there are several processes, whether they are averaged must be said; then they are, or each for itself."""
    pretend(monkeypatch, hear({"dice": 0.4, "bce": 0.2}, **TOLD))
    alone, both = (
        LossManager.create_loss_scheduler(make(), {"type": "adaptive", "distributed": one}) for one in (False, True)
    )

    with pytest.raises(LossConfigError, match="there are 2 processes"):
        schedule(make()).step(0, TOLD)
    assert alone.step(0, TOLD) != both.step(0, TOLD)


def test_processes_weigh_by_what_they_saw(monkeypatch):
    """The mean over processes is that over batches, so one with three of them counts three times one with one."""
    pretend(monkeypatch, hear({"dice": 0.5, "bce": 0.1}, count=3.0))
    loss = make()
    scheduler = LossManager.create_loss_scheduler(loss, {"type": "adaptive", "distributed": True})
    found = loss.get_loss_components(*draw(1))
    mean = {f"{name}_loss": (found[f"{name}_loss"].item() + 3 * one) / 4 for name, one in (("dice", 0.5), ("bce", 0.1))}
    together = scheduler.step(0)
    monkeypatch.undo()

    assert together == pytest.approx(schedule(make()).step(0, mean))


def test_what_one_process_refuses_all_refuse(monkeypatch):
    """Where one process has nothing to go by, all raise its error, and none waits for it in vain."""
    lost = LossInputError("there are none")
    pretend(monkeypatch, lost)
    scheduler = LossManager.create_loss_scheduler(make(), {"type": "adaptive", "distributed": True})

    with pytest.raises(LossInputError, match="in process 1 of 2: there are none"):
        scheduler.step(0, TOLD)
    pretend(monkeypatch, hear())
    with pytest.raises(LossInputError, match=r"in process 0 of 2: .*there are none"):
        scheduler.step(0)
    pretend(monkeypatch, hear(time=3, **TOLD))
    with pytest.raises(LossInputError, match=r"different numbers of epochs behind them: \[1, 3\]"):
        scheduler.step(0, TOLD)


@pytest.mark.slow
def test_processes_stay_together(tmp_path):
    """Processes with batches of their own have the same weights, those of the mean of what was finite anywhere."""
    multiprocessing.spawn(ranks_scheduled.run, args=(str(tmp_path),), nprocs=ranks_scheduled.WORLD)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks_scheduled.WORLD))
    loss, scheduler = ranks_scheduled.make()
    told = [loss.get_loss_components(*ranks_scheduled.batch(seed)) for seed in (0, 1)]
    scheduler.step(0, {name: sum(one[name].item() for one in told) / 2 for name in TOLD})

    assert first == second
    assert [skipped for _, skipped in first] == [0, 0, 1]
    assert first[0][0] == pytest.approx(scheduler.weights)
    assert first[2][0] == first[1][0] != first[0][0]


def test_processes_with_other_metrics_are_refused(monkeypatch):
    """Processes that were handed numbers of different names are told so."""
    pretend(monkeypatch, hear())
    scheduler = LossManager.create_loss_scheduler(make(), {"type": "performance", "distributed": True})

    with pytest.raises(LossInputError, match=r"different names: \[\['val_loss'\], \[\]\]"):
        scheduler.step(0, {"val_loss": 1.0})


class Run(RuleBasedStateMachine):
    """A run that is trained, stepped, saved and resumed at any moment, beside one that never stops."""

    def __init__(self):
        super().__init__()
        self.whole, self.broken = make(check_inputs=False), make(check_inputs=False)
        self.first, self.second = (schedule(one, method="relobralo", lookback=0.5) for one in (self.whole, self.broken))
        self.epoch = 0

    @rule(seed=st.integers(0, 9), spoilt=st.booleans())
    def train(self, seed, spoilt):
        """See one batch."""
        for loss in (self.whole, self.broken):
            pred, target = draw(seed, size=2)
            loss(pred * (math.nan if spoilt else 1), target)

    @rule(told=st.none() | st.floats(0.1, 2))
    def step(self, told):
        """End an epoch."""
        metrics = None if told is None else {"dice_loss": told, "bce_loss": 1.0}
        recorded = self.first.state_dict()["recorded"]
        if metrics or recorded["added"] or recorded["left_out"]:
            for one in (self.first, self.second):
                one.step(self.epoch, metrics)
            self.epoch += 1

    @rule(by_json=st.booleans())
    def restart(self, by_json):
        """Save, and go on in a new process."""
        state = travel(self.second.state_dict(), by_json=by_json)
        self.broken = make(check_inputs=False)
        self.second = schedule(self.broken, method="relobralo", lookback=0.5)
        self.second.load_state_dict(state)

    @invariant()
    def agree(self):
        """Both runs are in the same place."""
        assert self.first.state_dict() == self.second.state_dict()
        assert self.whole.weights == self.broken.weights == self.first.weights


TestRun = Run.TestCase
TestRun.settings = settings(deadline=None, max_examples=15, stateful_step_count=20)
