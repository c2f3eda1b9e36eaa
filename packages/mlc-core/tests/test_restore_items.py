"""State into optimizers, schedulers and all the rest: each round trip is exact, each misfit changes nothing."""

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn, optim  # noqa: E402
from torch.optim import lr_scheduler as lr  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

from mlc_core import (  # noqa: E402
    CheckpointManager,
    CheckpointNotFoundError,
    ConfigurationError,
    MismatchError,
    open_checkpoint,
)
from mlc_core.restore import restore  # noqa: E402


def is_same(one, other):
    """Say whether two states are equal in type, structure and every bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, torch.Tensor):
        return (one.dtype, one.device) == (other.dtype, other.device) and torch.equal(one, other)
    return type(one) is type(other) and one == other


def load(path, model=None, optimizer=None, scheduler=None, *, strict=True, **items):
    """Load the checkpoint at *path* into objects, and return the state that was read."""
    reader = open_checkpoint(path)
    state = reader.load()
    restore(reader, state, model=model, optimizer=optimizer, scheduler=scheduler, strict=strict, items=items)
    return state


class Words(nn.Module):
    """A model whose gradients are sparse."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 4, sparse=True)

    def forward(self, x):
        """Return something that depends on the words in *x*."""
        return self.words(x).square().sum(-1)


def dense():
    """Return a small dense model."""
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))


def make_input(model, step):
    """Return the batch of a *step*."""
    made = torch.Generator().manual_seed(step)
    if isinstance(model, Words):
        return torch.randint(0, 9, (6,), generator=made)
    return torch.randn(6, 4, generator=made)


def train(model, optimizer, steps):
    """Make *steps*, the same ones every time."""
    for step in steps:
        x = make_input(model, step)

        def closure(x=x):
            optimizer.zero_grad()
            loss = (model(x) - 1).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)


OPTIMIZERS = {
    "lbfgs": (dense, lambda p: optim.LBFGS(p, lr=0.1, max_iter=3, history_size=4)),
    "sparse adam": (Words, lambda p: optim.SparseAdam(list(p), lr=0.1)),
    "capturable adam": (dense, lambda p: optim.Adam(p, lr=torch.tensor(0.01), foreach=False)),
    "fused adam": (dense, lambda p: optim.AdamW(p, lr=0.01, fused=True)),
    "foreach adam": (dense, lambda p: optim.Adam(p, lr=0.01, foreach=True, amsgrad=True)),
    "adafactor": (dense, lambda p: optim.Adafactor(p, lr=0.1)),
    "adagrad": (dense, lambda p: optim.Adagrad(p, lr=0.1)),
    "adadelta": (dense, lambda p: optim.Adadelta(p)),
    "adamax": (dense, lambda p: optim.Adamax(p)),
    "asgd": (dense, lambda p: optim.ASGD(p)),
    "nadam": (dense, lambda p: optim.NAdam(p)),
    "radam": (dense, lambda p: optim.RAdam(p)),
    "rprop": (dense, lambda p: optim.Rprop(p)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_bit_by_bit(tmp_path, name):
    """Its state is what it was, and so is every weight after some more steps."""
    make_model, make = OPTIMIZERS[name]
    torch.manual_seed(0)
    model = make_model()
    optimizer = make(model.parameters())
    train(model, optimizer, range(4))
    path = CheckpointManager(tmp_path, "m").save_checkpoint(model, optimizer, epoch=1)
    other = make_model()
    resumed = make(other.parameters())
    load(path, other, resumed)

    assert is_same(optimizer.state_dict(), resumed.state_dict())
    train(model, optimizer, range(4, 8))
    train(other, resumed, range(4, 8))
    assert is_same(dict(model.state_dict()), dict(other.state_dict()))
    assert is_same(optimizer.state_dict(), resumed.state_dict())


def make_scaler():
    """Return a scaler with options of its own."""
    return torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2, backoff_factor=0.25)


def test_scaler_average_and_plateau_come_back(tmp_path):
    """As items by name: the scale and what it counts, the average and its count, the best and the bad epochs."""
    torch.manual_seed(0)
    model = dense()

    def make(model):
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        return optimizer, {
            "scaler": make_scaler(),
            "ema": average,
            "plateau": lr.ReduceLROnPlateau(optimizer, patience=1, factor=0.5),
        }

    def go_on(model, optimizer, items, steps):
        for step in steps:
            optimizer.zero_grad()
            loss = (model(make_input(model, step)) - 1).square().mean()
            items["scaler"].scale(loss * (float("inf") if step == 2 else 1)).backward()
            items["scaler"].step(optimizer)
            items["scaler"].update()
            items["ema"].update_parameters(model)
            items["plateau"].step(float(step % 3))

    optimizer, items = make(model)
    go_on(model, optimizer, items, range(5))
    path = CheckpointManager(tmp_path, "m").save_checkpoint(model, optimizer, items=items, epoch=1)
    other = dense()
    resumed, others = make(other)
    load(path, other, resumed, **others)
    for steps in (range(0), range(5, 12)):
        go_on(model, optimizer, items, steps)
        go_on(other, resumed, others, steps)
        assert is_same(dict(model.state_dict()), dict(other.state_dict()))
        assert is_same(optimizer.state_dict(), resumed.state_dict())
        for name, item in items.items():
            assert is_same(dict(item.state_dict()), dict(others[name].state_dict()))


# ---------------------------------------------------------------------- memory


@pytest.mark.parametrize("width", [2, 300])
def test_optimizer_gets_memory_of_its_own(tmp_path, width):
    """Training on changes neither the state that was loaded, nor another optimizer loaded from it, nor the file."""
    model = nn.Linear(width, width)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    path = CheckpointManager(tmp_path, "m").save_checkpoint(model, optimizer, epoch=1)
    reader = open_checkpoint(path)
    state = reader.load(copy=False)
    pristine = copy.deepcopy(state)
    models = [nn.Linear(width, width) for _ in range(2)]
    optimizers = [optim.Adam(one.parameters(), lr=0.1) for one in models]
    for one, made in zip(models, optimizers, strict=True):
        restore(reader, state, model=one, optimizer=made, scheduler=None, strict=True)
    untouched = copy.deepcopy(optimizers[1].state_dict())
    models[0](torch.ones(1, width)).sum().backward()
    optimizers[0].step()
    optimizers[0].param_groups[0]["betas"] = (0, 0)

    assert is_same(pristine, state)
    assert is_same(untouched, optimizers[1].state_dict())
    assert is_same(pristine, reader.load())
    addresses = {one.data_ptr() for kept in state["optimizer"]["state"].values() for one in kept.values()}
    for made in optimizers:
        kept = [one.data_ptr() for values in made.state.values() for one in values.values()]
        assert not addresses & set(kept)


def test_scheduler_gets_lists_of_its_own(tmp_path):
    """Torch's schedulers take the very objects that they are given."""
    optimizer = optim.SGD(nn.Linear(1, 1).parameters(), lr=1)
    path = CheckpointManager(tmp_path, "m").save_checkpoint(scheduler=lr.MultiStepLR(optimizer, [2, 4]), epoch=1)
    scheduler = lr.MultiStepLR(optimizer, [1])
    state = load(path, scheduler=scheduler)["scheduler"]
    scheduler.milestones.clear()

    assert {2: 1, 4: 1} == dict(state["milestones"])


# ---------------------------------------------------------------------- what does not fit


@pytest.fixture
def saved(tmp_path):
    """A model with an optimizer that knows the names of its parameters, saved after a step."""
    model = dense()
    named = list(model.named_parameters())
    optimizer = optim.Adam(named, lr=0.1)
    train(model, optimizer, range(1))
    scheduler = lr.StepLR(optimizer, 3)
    manager = CheckpointManager(tmp_path, "m")
    return manager.save_checkpoint(model, optimizer, scheduler, items={"scaler": make_scaler()}, epoch=1)


def assert_refused(path, message, make, *, dtype=torch.float32, error=MismatchError, **items):
    """Fail unless the optimizer of *make* is refused and nothing at all is changed."""
    model = dense().to(dtype)
    optimizer = make(model)
    scheduler = lr.StepLR(optimizer, 5)
    objects = [model, optimizer, scheduler, *(one for one in items.values() if hasattr(one, "state_dict"))]
    before = [copy.deepcopy(one.state_dict()) for one in objects]
    with pytest.raises(error, match=message):
        load(path, model, optimizer, scheduler, strict=False, **items)
    assert all(is_same(state, one.state_dict()) for state, one in zip(before, objects, strict=True))


@pytest.mark.skipif("param_names" not in optim.SGD(nn.Linear(1, 1).named_parameters()).param_groups[0], reason="older")
def test_parameters_in_another_order_are_refused_by_name(saved):
    """Where both sides know the names; torch would give each the moments of another."""
    assert_refused(
        saved,
        r"the parameters of the optimizer in another order: 0\.weight where 2\.bias is, .*give them in the saved one",
        lambda model: optim.Adam(list(model.named_parameters())[::-1]),
    )


def test_names_of_a_wrapped_model_are_the_same_names(saved):
    """What was saved without a wrapper is loaded with one."""
    model = nn.DataParallel(dense())
    load(saved, model, optim.Adam(model.named_parameters()))


def test_moments_of_another_shape_are_refused(saved):
    """Without names, the order of parameters shows in their shapes; torch would fail at the next step."""
    message = r"holds the optimizer's exp_avg of parameter 0 as \(5, 4\), the parameter is \(1,\)"
    assert_refused(saved, message, lambda model: optim.Adam(list(model.parameters())[::-1]))


def test_moments_that_would_be_rounded_are_refused(saved):
    """Torch converts them to the dtype of the parameter without a word."""
    message = r"exp_avg of parameter 0 as torch\.float32, and torch would round it to the parameter's torch\.bfloat16"
    assert_refused(saved, message, lambda model: optim.Adam(model.parameters()), dtype=torch.bfloat16)


def test_disabled_scaler_does_not_swallow_a_state(saved):
    """It would take it without a word, and the run would go on with another scale."""
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert_refused(saved, "holds a state for the scaler, which is disabled here", adam, scaler=scaler)


def adam(model):
    """Return a fitting optimizer."""
    return optim.Adam(model.named_parameters())


def test_item_that_cannot_take_a_state_is_refused_first(saved):
    """And one that is not there."""
    assert_refused(saved, r"no load_state_dict\(\); take its state", adam, error=ConfigurationError, scaler=[])
    assert_refused(saved, "holds no ema; it holds model, optim", adam, error=CheckpointNotFoundError, ema=make_scaler())


class Stubborn:
    """Something that fails when it is loaded, and not before."""

    def __init__(self):
        self.state = {"scale": 1}

    def state_dict(self):
        """Return a state like a scaler's."""
        return {"scale": 1}

    def load_state_dict(self, state):
        """Fail, as nobody could know before."""
        if "growth_factor" in state:
            msg = "not today"
            raise ValueError(msg)


def test_failure_in_the_middle_is_undone(saved):
    """What was loaded before has its own state again, and the model comes last."""
    message = r"the scaler did not take its state \(ValueError: not today\); nothing was changed"
    assert_refused(saved, message, adam, scaler=Stubborn())


def test_optimizer_that_trained_has_its_own_moments_again(saved):
    """Undoing gives it the very values that it had."""
    model = dense()
    optimizer = adam(model)
    train(model, optimizer, range(5, 8))
    twin = copy.deepcopy((model, optimizer))
    with pytest.raises(MismatchError, match="nothing was changed"):
        load(saved, model, optimizer, scaler=Stubborn())
    for one, made in ((model, optimizer), twin):
        train(one, made, range(8, 10))

    assert is_same(dict(model.state_dict()), dict(twin[0].state_dict()))
    assert is_same(optimizer.state_dict(), twin[1].state_dict())


class Ruined(Stubborn):
    """Something that cannot even take back what it had."""

    def load_state_dict(self, state):
        """Fail."""
        msg = "never"
        raise ValueError(msg)


def test_what_cannot_be_undone_is_said(saved):
    """By name, so that nobody trains on with it."""
    with pytest.raises(MismatchError, match=r"\(ValueError: never\); scaler may hold a part of it already"):
        load(saved, scaler=Ruined())


def test_optimizer_of_parameters_elsewhere(saved):
    """What torch copies to their device need not be copied before; what stays on the CPU is its own."""
    model = dense().to("meta")
    optimizer = optim.Adam(model.parameters())
    state = load(saved, None, optimizer)["optimizer"]["state"]
    loaded = list(optimizer.state.values())

    assert {"meta"} == {one["exp_avg"].device.type for one in loaded}
    assert {"cpu"} == {one["step"].device.type for one in loaded}
    assert not {one["step"].data_ptr() for one in loaded} & {one["step"].data_ptr() for one in state.values()}
