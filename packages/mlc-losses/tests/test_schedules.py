"""Each schedule follows its formula: checked at places where it is known, and against someone else's."""

import copy
import hashlib
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mlc_hooks import UnknownNameError
from mlc_losses import LossConfigError, LossMoment, loss_schedules
from mlc_losses.schedules.weights import Bounds, project

make = loss_schedules().make
BASE = {"dice": 0.7, "bce": 0.3}
THREE = {"a": 0.5, "b": 0.3, "c": 0.2}
sizes = st.floats(0, 1e6)
losses = st.floats(1e-3, 10)


def weigh(schedule, steps, *, base=BASE):
    """Return the weights after each of *steps*, which are dictionaries of losses, metrics, or a number of them."""
    schedule.start(base)
    weights, found = dict(base), []
    for step, told in enumerate([{}] * steps if isinstance(steps, int) else steps, start=1):
        given_losses = told if schedule.needs_losses else None
        metrics = {} if schedule.needs_losses else told
        moment = LossMoment(step=step, base=base, weights=weights, losses=given_losses, metrics=metrics)
        weights = schedule.decide(moment)
        found.append(weights)
    return found


@st.composite
def vessels(draw):
    """Draw weights, a sum, and bounds within which it can be reached."""
    count = draw(st.integers(1, 5))
    weights = {str(number): draw(sizes) for number in range(count)}
    total = draw(st.floats(0.1, 10))
    share = total / count
    return weights, total, Bounds(low=draw(st.floats(0, share)), high=draw(st.one_of(st.none(), st.floats(share, 20))))


@given(vessels())
def test_projection_keeps_sum_and_bounds(vessel):
    """What comes of any weights adds up and is within bounds, and doing it again changes no bit."""
    weights, total, bounds = vessel
    found = project(weights, total, bounds)
    high = math.inf if bounds.high is None else bounds.high

    assert math.isclose(math.fsum(found.values()), total, rel_tol=1e-9)
    assert all(bounds.low * (1 - 1e-12) <= one <= high * (1 + 1e-12) for one in found.values())
    assert project(found, total, bounds) == found


@given(vessels())
def test_projection_is_one_factor_between_bounds(vessel):
    """Weights that no bound holds are in the ratio they were in, and bounds hold those that would be beyond them."""
    weights, total, bounds = vessel
    assume(all(one > 1e-3 for one in weights.values()))
    found = project(weights, total, bounds)
    high = min(total, math.inf if bounds.high is None else bounds.high)
    factors = {name: one / weights[name] for name, one in found.items()}
    free = [factors[name] for name, one in found.items() if bounds.low < one < high]

    for factor in free:
        assert math.isclose(factor, free[0], rel_tol=1e-6)
        assert all(factors[name] >= factor * (1 - 1e-6) for name, one in found.items() if one <= bounds.low)
        assert all(factors[name] <= factor * (1 + 1e-6) for name, one in found.items() if one >= high)


def test_projection_of_nothing_is_equal():
    """Where nobody has a weight, or numbers are beyond sums, there is still an answer."""
    assert project({"a": 0.0, "b": 0.0}, 1.0, Bounds()) == {"a": 0.5, "b": 0.5}
    assert project({"a": 1e308, "b": 1e308}, 1.0, Bounds()) == {"a": 0.5, "b": 0.5}
    assert project({"a": 5e-324, "b": 0.0}, 1.0, Bounds(high=0.75)) == {"a": 0.75, "b": 0.25}


@given(steps=st.integers(1, 50), warmup=st.integers(0, 20), part=st.floats(0, 1))
def test_cosine_is_exact_where_it_is_known(steps, warmup, part):
    """At 0 it is the base, half way the middle, from the end on the end, each to the bit."""
    assume(abs(part - 0.7) > 1e-6)
    end = {"dice": part, "bce": 1 - part}
    found = weigh(make("cosine", steps=2 * steps, warmup=warmup, end=end), warmup + 2 * steps + 3)

    assert found[:warmup] == [BASE] * warmup
    assert found[warmup + steps - 1] == {name: (BASE[name] + end[name]) / 2 for name in BASE} or all(
        math.isclose(found[warmup + steps - 1][name], (BASE[name] + end[name]) / 2, rel_tol=1e-15) for name in BASE
    )
    assert found[warmup + 2 * steps - 1 :] == [end] * 4


@given(period=st.integers(1, 6), multiplier=st.integers(1, 3))
def test_cosine_cycles_are_those_of_warm_restarts(period, multiplier):
    """With cycles it follows PyTorch's annealing with warm restarts."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.7)
    other = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, period, multiplier, eta_min=0.5)
    found = weigh(make("cosine", steps=period, cycles=None, period_multiplier=multiplier), 30)
    expected = []
    for _ in range(30):
        optimizer.step()
        other.step()
        expected.append(other.get_last_lr()[0])

    assert [one["dice"] for one in found] == pytest.approx(expected, rel=1e-12)


def test_cosine_ends_after_its_cycles():
    """The last cycle stays at the end, the others go back at once."""
    found = [one["dice"] for one in weigh(make("cosine", steps=2, cycles=2, end={"dice": 0.1, "bce": 0.9}), 6)]

    assert found == pytest.approx([0.4, 0.7, 0.4, 0.1, 0.1, 0.1])
    assert found[1] == 0.7


@given(st.sets(st.integers(1, 20), min_size=1, max_size=5))
def test_a_milestone_counts_from_its_own_step(at):
    """Weights are those of the last milestone that is not later than the step."""
    table = {str(step): {"dice": 1 / (step + 1), "bce": 1 - 1 / (step + 1)} for step in at}
    found = weigh(make("step", milestones=table), 22)

    for step, weights in enumerate(found, start=1):
        passed = [one for one in at if one <= step]
        assert weights == (table[str(max(passed))] if passed else BASE)


@given(size=st.integers(1, 5), dice=st.floats(0.1, 2), bce=st.floats(0.1, 2))
def test_factors_are_powers_with_the_sum_restored(size, dice, bce):
    """After k sizes the ratio of two weights is the old one times the ratio of factors to the power of k."""
    assume(dice != bce)
    for step, weights in enumerate(weigh(make("step", step_size=size, gamma={"dice": dice, "bce": bce}), 11), start=1):
        times = step // size

        assert weights["dice"] * 0.3 * bce**times == pytest.approx(weights["bce"] * 0.7 * dice**times, rel=1e-9)


@given(
    values=st.lists(st.integers(-4, 4).map(float), max_size=40),
    mode=st.sampled_from(["min", "max"]),
    kind=st.sampled_from(["rel", "abs"]),
    threshold=st.sampled_from([0.0, 1e-4, 0.3, 0.9]),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
)
def test_performance_moves_when_rates_would(values, mode, kind, threshold, patience, cooldown):
    """It moves at the steps at which PyTorch's `ReduceLROnPlateau` reduces, and factors are as rates."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.9, patience, threshold=threshold, threshold_mode=kind, cooldown=cooldown, eps=0
    )
    schedule = make(
        "performance",
        mode=mode,
        threshold=threshold,
        threshold_mode=kind,
        patience=patience,
        cooldown=cooldown,
        factors={"dice": 0.9, "bce": 1.0},
        min_delta=0,
    )
    found = weigh(schedule, [{"val_loss": one} for one in values])
    for value, weights in zip(values, found, strict=True):
        rates.step(value)
        rate = optimizer.param_groups[0]["lr"]

        assert weights["dice"] / weights["bce"] == pytest.approx(rate * 0.7 / 0.3, rel=1e-9)


def test_performance_goes_towards_its_target_at_most_so_often():
    """Each move goes part of what is left, until the moves are used up or too small."""
    same = [{"val_loss": 1.0}] * 9
    found = weigh(make("performance", patience=0, eta=0.5, target={"dice": 0.1, "bce": 0.9}, max_moves=2), same)
    small = weigh(make("performance", patience=0, eta=0.5, target={"dice": 0.1, "bce": 0.9}, min_delta=0.1), same)

    assert [one["dice"] for one in found] == pytest.approx([0.7, 0.4, 0.25, *[0.25] * 6])
    assert [one["dice"] for one in small] == pytest.approx([0.7, 0.4, 0.25, *[0.25] * 6])


@given(a=losses, b=losses, c=losses)
def test_inverse_makes_contributions_those_of_the_base(a, b, c):
    """Weight times loss is in the ratio of the base weights."""
    told = {"a": a, "b": b, "c": c}
    (weights,) = weigh(make("adaptive", rho=0, eps=1e-300), [told], base=THREE)
    shares = [weights[name] * told[name] / THREE[name] for name in THREE]

    assert shares == pytest.approx([shares[0]] * 3, rel=1e-9)


@given(st.lists(losses, min_size=1, max_size=10))
def test_averages_are_the_corrected_ones(values):
    """The average is that of the exponential weights, which add up to 1 from the first step on."""
    schedule = make("adaptive", ema=0.8, rho=0, eps=1e-300)
    weights = weigh(schedule, [{"dice": one, "bce": 1.0} for one in values])[-1]
    powers = [0.8**age for age in reversed(range(len(values)))]
    average = sum(power * one for power, one in zip(powers, values, strict=True)) / sum(powers)

    assert weights["dice"] / weights["bce"] == pytest.approx(0.7 / average / 0.3, rel=1e-9)


def test_smoothing_and_holding():
    """With rho the old weights stay in part, and with hold the base weights stay for so many steps."""
    told = [{"dice": 7.0, "bce": 3.0}] * 3
    found = weigh(make("adaptive", rho=0.5, eps=1e-300), told)
    held = weigh(make("adaptive", rho=0.5, hold=2, eps=1e-300), told)

    assert [one["dice"] for one in found] == pytest.approx([0.6, 0.55, 0.525])
    assert [one["dice"] for one in held] == pytest.approx([0.7, 0.7, 0.6])


def test_nothing_left_to_multiply_changes_nothing():
    """Where factors leave no weight at all, the old ones stay."""
    base = {"dice": 1.0, "bce": 0.0}
    by_step = make("step", step_size=1, gamma={"dice": 1e-9, "bce": 1.0})
    by_metric = make("performance", patience=0, factors={"dice": 0, "bce": 1})

    assert weigh(by_step, 60, base=base)[-1] == base
    assert weigh(by_metric, [{"val_loss": 1.0}] * 3, base=base)[-1] == base


def test_a_weight_of_0_stays():
    """A component that is switched off stays off where the method multiplies base weights."""
    base, told = {"dice": 1.0, "bce": 0.0}, [{"dice": 0.5, "bce": 1e-9}] * 3

    for method in ("inverse", "softadapt"):
        assert weigh(make("adaptive", method=method), told, base=base)[-1] == base


histories = st.lists(st.fixed_dictionaries(dict.fromkeys(THREE, losses)), min_size=1, max_size=8)


@given(histories, st.floats(0.1, 3))
def test_dwa_is_that_of_its_paper(told, temperature):
    """Weights are K exp(r / T) / sum exp(r / T), as tensors compute it, and the base while two losses are gathered."""
    found = weigh(make("adaptive", method="dwa", temperature=temperature), told, base=THREE)

    assert found[0] == THREE
    for last, now, weights in zip(told, told[1:], found[1:], strict=False):
        rates = torch.tensor([now[n] / last[n] for n in THREE], dtype=torch.float64)

        assert [weights[n] for n in THREE] == pytest.approx(torch.softmax(rates / temperature, 0).tolist(), abs=1e-9)


@given(histories, st.floats(0.1, 5), st.booleans())
def test_softadapt_is_that_of_its_paper(told, beta, loss_weighted):
    """Weights are the softmax of slopes, times losses in one form, times base weights."""
    schedule = make("adaptive", method="softadapt", beta=beta, loss_weighted=loss_weighted)
    found = weigh(schedule, told, base=THREE)
    base = torch.tensor(list(THREE.values()), dtype=torch.float64)
    rows = [torch.tensor([one[n] for n in THREE], dtype=torch.float64) for one in told]

    assert found[0] == THREE
    for last, now, weights in zip(rows, rows[1:], found[1:], strict=False):
        expected = base * torch.exp(beta * (now - last)) * (now if loss_weighted else 1)

        assert [weights[n] for n in THREE] == pytest.approx((expected / expected.sum()).tolist(), rel=1e-7)


@given(histories, st.floats(0, 1), st.floats(0, 1), st.integers(-3, 3))
def test_relobralo_is_that_of_its_paper(told, alpha, lookback, seed):
    """Weights follow the recursion of the paper, with random numbers that anyone can compute."""
    assume(alpha < 1 or lookback < 1)
    schedule = make("adaptive", method="relobralo", alpha=alpha, lookback=lookback, temperature=0.7, seed=seed)
    found = weigh(schedule, told, base=THREE)
    rows = [torch.tensor([one[n] for n in THREE], dtype=torch.float64) for one in told]
    weights = torch.tensor(list(THREE.values()), dtype=torch.float64)

    assert found[0] == THREE
    for step in range(1, len(rows)):
        drawn = int(hashlib.sha256(f"{seed}:{step + 1}".encode()).hexdigest()[:12], 16) / 16**12
        first, last = (torch.softmax(rows[step] / (0.7 * rows[then]), 0) for then in (0, step - 1))
        weights = alpha * (weights if drawn < lookback else first) + (1 - alpha) * last

        assert [found[step][n] for n in THREE] == pytest.approx(weights.tolist(), abs=1e-9)


def test_random_numbers_are_spread():
    """The numbers behind the lookback are from 0 to 1, and as many below a quarter as there should be."""
    from mlc_losses.schedules.adaptive.trail import draw

    drawn = [draw(5, count) for count in range(4000)]

    assert 0 <= min(drawn) < max(drawn) < 1
    assert sum(one < 0.25 for one in drawn) / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("cosine", {"steps": 0}, "steps is 0; give an integer of at least 1"),
        ("cosine", {"warmup": True}, "warmup is True"),
        ("cosine", {"cycles": 0}, "cycles is 0"),
        ("cosine", {"period_multiplier": 0.5}, "period_multiplier is 0.5"),
        ("cosine", {"end": {"dice": 1.0}}, r"end is for \['dice'\], but the loss has the components \['bce', 'dice'\]"),
        ("cosine", {"end": 3}, "end is for 3"),
        ("cosine", {"end": {"dice": 2, "bce": 3}}, "end adds up to 5 but the base weights to 1.*keep_sum=False"),
        ("cosine", {"end": {"dice": 0, "bce": 0}, "keep_sum": False}, "nothing would be learnt"),
        ("step", {}, "give milestones, or both step_size and gamma"),
        ("step", {"step_size": 3}, "give milestones, or both"),
        ("step", {"step_size": 3, "gamma": BASE, "milestones": {1: BASE}}, "give milestones, or both"),
        ("step", {"step_size": 0, "gamma": BASE}, "step_size is 0"),
        ("step", {"step_size": 3, "gamma": {"dice": 1}}, "gamma is for"),
        ("step", {"milestones": {}}, "milestones is {}"),
        ("step", {"milestones": {0: BASE}}, "a milestone is at 0"),
        ("step", {"milestones": {"soon": BASE}}, "a milestone is 'soon'"),
        ("step", {"milestones": {"1": BASE, 1: BASE}}, "one of them twice"),
        ("step", {"milestones": {1: BASE}, "min_weight": 0.1}, "leave them out"),
        ("step", {"milestones": {3: {"dice": 1, "bce": 1}}}, r"milestones\[3\] adds up to 2"),
        ("performance", {"monitor": 3}, "monitor is 3"),
        ("performance", {"mode": "maximum"}, "mode is 'maximum'"),
        ("performance", {"eta": 2}, "eta is 2"),
        ("performance", {"target": BASE, "factors": BASE}, "give one of the two"),
        ("performance", {"min_weight": 0.6, "max_weight": 0.5}, "max_weight is 0.5, below min_weight 0.6"),
        ("performance", {"min_weight": 0.4}, "the loss has 0.3 for 'bce', outside min_weight=0.4"),
        ("performance", {"max_moves": -1}, "max_moves is -1"),
        ("performance", {"max_moves": 0}, "max_moves is 0; give an integer of at least 1"),
        ("performance", {"eta": 0}, "eta is 0, with which no weight moves; give more"),
        ("performance", {"eta": 0.5, "factors": {"dice": 1, "bce": 2}}, "eta is 0.5, but it is for a target"),
        ("performance", {"factors": {"dice": 2, "bce": 2}}, "factors is the same for all components.*one that differs"),
        ("performance", {"target": {"dice": 0.9, "bce": 0.1}, "min_weight": 0.2}, "target has 0.1 for 'bce', outside"),
        ("performance", {"min_weight": 0.5}, "the loss has 0.3 for 'bce', outside"),
        ("cosine", {"keep_sum": False}, "there is no end.*give end, or leave keep_sum out"),
        ("cosine", {"period_multiplier": 3}, "period_multiplier is 3, but cycles is 1.*give more cycles"),
        ("step", {"step_size": 3, "gamma": {"dice": 1, "bce": 2}, "keep_sum": False}, "leave keep_sum out"),
        ("step", {"step_size": 3, "gamma": {"dice": 0.5, "bce": 0.5}}, "gamma is the same for all components"),
        ("step", {"step_size": 3, "gamma": {"dice": 1, "bce": 2}, "min_weight": 0.5}, "in one way only.*wider bounds"),
        ("adaptive", {"method": "relobralo", "alpha": 1, "lookback": 1}, "alpha and lookback are both 1.*give less"),
        ("step", {"step_size": 1, "gamma": BASE, "min_weight": 0.6}, "cannot have the sum 1"),
        ("adaptive", {"method": "inverted"}, "method is 'inverted'. Did you mean 'inverse'"),
        ("adaptive", {"beta": 1}, "adaptive method 'inverse' does not take 'beta'"),
        ("adaptive", {"method": "dwa", "temprature": 1}, "Did you mean 'temperature'"),
        ("adaptive", {"method": "relobralo", "rho": 0.5}, "does not take 'rho'"),
        ("adaptive", {"method": "relobralo", "seed": 0.5}, "seed is 0.5"),
        ("adaptive", {"method": "uncertainty", "ema": 0.5}, "does not take 'ema'"),
        ("adaptive", {"method": "softadapt", "beta": 0}, "beta is 0"),
        ("adaptive", {"rho": 1}, "nothing would ever change"),
        ("adaptive", {"hold": -1}, "hold is -1"),
    ],
)
def test_nonsense_is_refused(name, options, says):
    """An option that cannot be followed is an error before the first step, and says what can be."""
    with pytest.raises(LossConfigError, match=says):
        make(name, **options).start(BASE)


@pytest.mark.parametrize("method", ["dwa", "relobralo", "uncertainty"])
def test_methods_that_share_among_all_refuse_a_weight_of_0(method):
    """A component that is switched off would be switched on."""
    with pytest.raises(LossConfigError, match=r"\['bce'\]"):
        make("adaptive", method=method).start({"dice": 1.0, "bce": 0.0})


def test_a_moment_without_losses_is_refused():
    """Someone who asks an adaptive schedule by hand is told what it lacks."""
    with pytest.raises(LossConfigError, match="give its losses"):
        make("adaptive").decide(LossMoment(step=1, base=BASE, weights=BASE))


def test_unknown_schedules_are_told_what_is_close():
    """A typing error is answered with the name that was meant."""
    with pytest.raises(UnknownNameError, match=r"Unknown loss schedule 'cosin'\. Did you mean 'cosine'"):
        make("cosin")


EVEN = {"dice": 0.5, "bce": 0.5}


@pytest.mark.parametrize(
    ("name", "options", "base", "says"),
    [
        ("cosine", {}, EVEN, "the default end, the same weight for all, is .*give another end"),
        ("cosine", {"end": BASE}, BASE, "^end is .*which the base weights are already"),
        ("performance", {}, EVEN, "the default target, .*give another target, or factors"),
        ("performance", {"target": BASE}, BASE, "^target is .*greater than min_delta=1e-08"),
        ("performance", {"min_delta": 0.2}, BASE, "greater than min_delta=0.2"),
        ("step", {"milestones": {2: BASE, 5: BASE}}, BASE, "as before the first, so none would move"),
    ],
)
def test_a_way_to_where_one_is_is_refused(name, options, base, says):
    """Weights that would go to what they are already are an error at the first step, and later ones never are."""
    schedule = make(name, **options)
    schedule.start(base)
    metrics = {"val_loss": 1.0}

    with pytest.raises(LossConfigError, match=says):
        schedule.decide(LossMoment(step=1, base=base, weights=base, metrics=metrics))
    assert set(schedule.decide(LossMoment(step=2, base=base, weights=base, metrics=metrics))) == set(base)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine", {"steps": 3, "end": {"dice": 0.2, "bce": 0.8}}),
        ("step", {"milestones": {2: EVEN}}),
        ("step", {"step_size": 1, "gamma": {"dice": 0.5, "bce": 1.0}}),
        ("performance", {"patience": 0}),
        ("performance", {"patience": 0, "target": {"dice": 0.2, "bce": 0.8}}),
        ("performance", {"patience": 0, "factors": {"dice": 0.5, "bce": 1.0}}),
    ],
)
def test_options_are_copies(name, options):
    """What happens to a dictionary after a schedule was made with it changes neither its options nor its weights."""
    options = copy.deepcopy(options)
    schedule, twin = make(name, **options), make(name, **copy.deepcopy(options))
    told = [{"val_loss": 1.0}] * 4
    before = schedule.options()
    for one in options.values():
        if isinstance(one, dict):
            for inner in [*one.values(), one]:
                if isinstance(inner, dict):
                    inner.clear()
            one["nonsense"] = 9

    assert schedule.options() == before
    assert weigh(schedule, told) == weigh(twin, told)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine", {"steps": 3, "end": {"dice": 0.2, "bce": 0.8}, "keep_sum": True}),
        ("step", {"milestones": {2: EVEN}}),
        ("step", {"step_size": 1, "gamma": {"dice": 0.5, "bce": 1.0}}),
        ("performance", {}),
        ("performance", {"factors": {"dice": 0.5, "bce": 1.0}}),
        ("adaptive", {"method": "relobralo", "seed": 4}),
    ],
)
def test_options_make_the_schedule_again(name, options):
    """What a schedule says that it was made with makes one that says the same."""
    said = {key: one for key, one in make(name, **options).options().items() if (key, one) != ("rho", 0.0)}

    assert make(name, **said).options() == make(name, **options).options()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine", {"steps": 3, "warmup": 1, "cycles": 2}),
        ("step", {"step_size": 2, "gamma": {"dice": 1, "bce": 2}}),
        ("performance", {"patience": 2, "cooldown": 1, "max_moves": 3}),
        ("adaptive", {"method": "relobralo", "seed": 7, "hold": 1}),
    ],
)
def test_integers_may_be_those_of_numpy(name, options):
    """Every option that is an integer takes one of NumPy, and is the same option then."""
    theirs = {key: np.int64(one) if isinstance(one, int) else one for key, one in options.items()}

    assert make(name, **theirs).options() == make(name, **options).options()
    assert json.dumps(make(name, **theirs).options()) == json.dumps(make(name, **options).options())


def test_milestones_may_be_at_numbers_of_numpy():
    """Steps of a table may be integers of NumPy."""
    assert weigh(make("step", milestones={np.int64(2): EVEN}), 2) == [BASE, EVEN]


@pytest.mark.parametrize("name", ["adaptive", "performance"])
def test_started_schedules_remember_nothing(name):
    """A schedule that is started again has forgotten what it was told before."""
    schedule = make(name, **({"patience": 0} if name == "performance" else {}))
    fresh = schedule.state_dict()
    weigh(schedule, [{"dice": 0.5, "bce": 0.1} if name == "adaptive" else {"val_loss": 1.0}] * 3)

    assert schedule.state_dict() != fresh
    schedule.start(BASE)
    assert schedule.state_dict() == fresh
