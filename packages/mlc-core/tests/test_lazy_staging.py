"""Staging that takes no time: the copy runs beside the next step, and is of the moment of the call all the same."""

import signal
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn, optim  # noqa: E402

from mlc_core import CheckpointManager, CheckpointWarning, ConfigurationError  # noqa: E402
from mlc_core.image import Image  # noqa: E402
from mlc_core.retention import KeepAll, KeepLatest  # noqa: E402

LONG = 60  # seconds; nobody waits for them unless something hangs
OPTIMIZERS = {
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True),
    "adamw in groups": lambda parameters: optim.AdamW([{"params": [one], "lr": 0.1} for one in parameters]),
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9),
    "lbfgs": lambda parameters: optim.LBFGS(parameters, max_iter=2),
}


class Net(nn.Module):
    """A model with a batch norm, a tied weight, a frozen part, a scalar and something empty."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(9, 9)
        self.norm = nn.BatchNorm1d(9)
        self.frozen = nn.Linear(9, 9).requires_grad_(False)
        self.decoder = nn.Linear(9, 9)
        self.decoder.weight = self.encoder.weight
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("nothing", torch.empty(0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        """Return something that depends on all of it."""
        self.seen += len(x)
        return self.decoder(torch.relu(self.norm(self.frozen(self.encoder(x))))) * self.scale


def make(optimizer="adam", seed=0):
    """Return a model and its optimizer, trained for one step."""
    torch.manual_seed(seed)
    model = Net()
    made = OPTIMIZERS[optimizer](one for one in model.parameters() if one.requires_grad)
    step(model, made)
    return model, made


def forward(model):
    """Run the part of a step that changes buffers and gradients only."""
    loss = model(torch.randn(8, 9)).square().mean()
    loss.backward()
    return loss


def step(model, optimizer):
    """Train one step."""

    def closure():
        optimizer.zero_grad()
        return forward(model)

    optimizer.step(closure)


def copy_of(*objects):
    """Return the states of *objects* in memory of their own."""
    return [copied(one.state_dict()) for one in objects]


def copied(value):
    """Return *value* with every tensor cloned."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [copied(part) for part in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def is_same(one, other):
    """Say whether two states are equal in structure and every bit."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def check(manager, name, states):
    """Hold a checkpoint against the states of model and optimizer."""
    found = manager.load_checkpoint(name).state
    assert is_same(states, [found["model"], found["optimizer"]])


def manage(place, **options):
    """Open a manager that keeps everything."""
    return CheckpointManager(place, "net", **{"retention": KeepAll(), **options})


class Copies:
    """Copies into an image that do not begin until they are let go, or fail."""

    def __init__(self):
        self.go, self.error, self.real = threading.Event(), None, Image.copy

    def copy(self, image, left):
        """Wait, fail, or do it."""
        assert self.go.wait(LONG)
        if self.error is not None:
            raise self.error
        self.real(image, left)


@pytest.fixture
def copies(monkeypatch):
    """Copies that wait until `go` is set."""
    found = Copies()
    monkeypatch.setattr(Image, "copy", lambda image, left: found.copy(image, left))
    yield found
    found.go.set()


@pytest.fixture(scope="module", params=["thread", "process"])
def manager(request, tmp_path_factory):
    """A manager that saves in the background, in either way."""
    with manage(tmp_path_factory.mktemp("lazy"), background=request.param, retention=KeepLatest()) as found:
        yield found


@given(st.sampled_from(sorted(OPTIMIZERS)), st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=4))
@settings(max_examples=20)
def test_what_is_loaded_is_the_state_of_the_call(manager, optimizer, saves):
    """However many steps were trained while it was written, lazily staged or not."""
    model, optimizer = make(optimizer)
    for lazy, steps in [*saves, (True, 1)]:
        states = copy_of(model, optimizer)
        saving = manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=lazy)
        for _ in range(steps):
            step(model, optimizer)
        check(manager, saving.durable.result(LONG), states)


def test_step_waits_for_the_copy(tmp_path, copies):
    """Forward and backward do not; then the state is that of the call."""
    model, optimizer = make()
    with manage(tmp_path) as manager:
        states = copy_of(model, optimizer)
        saving = manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
        optimizer.zero_grad()
        forward(model)
        stepping = threading.Thread(target=optimizer.step)
        stepping.start()
        stepping.join(0.2)
        waited = stepping.is_alive() and not saving.staged.done()
        unchanged = is_same(states[0]["encoder.weight"], model.encoder.weight.detach())
        copies.go.set()
        stepping.join(LONG)
        manager.wait()

        assert (True, True) == (waited, unchanged)
        assert not is_same(states, copy_of(model, optimizer))
        check(manager, "epoch_1", states)


def test_step_that_was_interrupted_waits_again(tmp_path, copies):
    """Ctrl-C in a notebook, and the cell is run once more."""
    model, optimizer = make()
    with manage(tmp_path) as manager:
        states = copy_of(model, optimizer)
        manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
        optimizer.zero_grad()
        forward(model)
        interrupt = (threading.main_thread().ident, signal.SIGINT)
        threading.Timer(0.1, signal.pthread_kill, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            optimizer.step()
        stepping = threading.Thread(target=optimizer.step)
        stepping.start()
        stepping.join(0.2)
        waited = stepping.is_alive()
        copies.go.set()
        stepping.join(LONG)
        manager.wait()

        assert waited
        check(manager, "epoch_1", states)


def test_buffers_are_those_of_the_call(tmp_path, copies):
    """The forward pass changes them, and it does not wait."""
    model, optimizer = make()
    with manage(tmp_path) as manager:
        states = copy_of(model, optimizer)
        manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
        for _ in range(3):
            forward(model)
        changed = {name for name, one in model.state_dict().items() if not is_same(states[0][name], one)}
        copies.go.set()
        manager.wait()

        assert {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "seen"} == changed
        check(manager, "epoch_1", states)


def test_other_items_are_copied_at_once(tmp_path, copies):
    """A moving average may be updated before the step that waits."""
    model, optimizer = make()
    average = nn.Linear(300, 300)
    with manage(tmp_path) as manager:
        before = copied(average.state_dict())
        manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True, items={"average": average})
        nn.init.zeros_(average.weight)
        copies.go.set()
        manager.wait()

        assert is_same(before, manager.load_checkpoint().state["average"])


def test_learning_rate_that_is_a_tensor_is_that_of_the_call(tmp_path, copies):
    """A scheduler changes it, and not the optimizer's step."""
    model, _ = make()
    optimizer = optim.AdamW(model.parameters(), lr=torch.tensor(0.1))
    step(model, optimizer)
    with manage(tmp_path) as manager:
        states = copy_of(model, optimizer)
        manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
        optimizer.param_groups[0]["lr"].fill_(7)
        copies.go.set()
        manager.wait()

        check(manager, "epoch_1", states)


def test_several_lazy_saves_before_one_step(tmp_path, copies):
    """It waits for all of them."""
    model, optimizer = make()
    with manage(tmp_path, in_flight=3) as manager:
        states = copy_of(model, optimizer)
        savings = [manager.async_save_checkpoint(model, optimizer, epoch=epoch, lazy=True) for epoch in range(3)]
        forward(model)
        threading.Timer(0.1, copies.go.set).start()
        optimizer.step()

        assert [True] * 3 == [one.staged.done() for one in savings]
        manager.wait()
        for epoch in range(3):
            found = manager.load_checkpoint(f"epoch_{epoch}").state["model"]
            assert is_same(states[0]["encoder.weight"], found["encoder.weight"])


def test_two_optimizers_take_turns(tmp_path):
    """Whichever steps next waits, and each state is that of its call."""
    pairs = [make("adam", 0), make("sgd", 1)]
    with manage(tmp_path, in_flight=2) as manager:
        expected = []
        for epoch in range(6):
            model, optimizer = pairs[epoch % 2]
            expected.append(copy_of(model, optimizer))
            manager.async_save_checkpoint(model, optimizer, epoch=epoch, lazy=True)
            for pair in pairs:
                step(*pair)
        manager.wait()
        for epoch, states in enumerate(expected):
            check(manager, f"epoch_{epoch}", states)


def test_loading_waits_for_what_is_being_staged(tmp_path, copies):
    """The weights go back to what they were, and the checkpoint has what was saved."""
    model, optimizer = make()
    with manage(tmp_path) as manager:
        manager.save_checkpoint(model, optimizer, epoch=1)
        step(model, optimizer)
        states = copy_of(model, optimizer)
        manager.async_save_checkpoint(model, optimizer, epoch=2, lazy=True)
        threading.Timer(0.1, copies.go.set).start()
        manager.load_checkpoint("epoch_1", model, optimizer)

        check(manager, "epoch_2", states)
        check(manager, "epoch_1", copy_of(model, optimizer))


def test_optimizer_that_is_not_saved_still_waits(tmp_path, copies):
    """It changes the model all the same."""
    model, optimizer = make()
    with manage(tmp_path, save_optimizer=False) as manager:
        before = copied(model.state_dict())
        manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
        threading.Timer(0.1, copies.go.set).start()
        step(model, optimizer)
        manager.wait()

        assert is_same(before["encoder.weight"], manager.load_checkpoint().state["model"]["encoder.weight"])


def save_and_step(manager, model, optimizer):
    """Save lazily, train a step, and wait for the end of the save, whatever it was."""
    saving = manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
    step(model, optimizer)
    manager._background.settle()
    return saving


def test_copy_that_fails_does_not_fail_the_step(tmp_path, copies):
    """Training goes on; the next moment says what happened, and the next save works."""
    model, optimizer = make()
    manager = manage(tmp_path)
    copies.error = RuntimeError("the device is lost")
    copies.go.set()
    with pytest.warns(CheckpointWarning, match="the device is lost"):
        saving = save_and_step(manager, model, optimizer)
    assert isinstance(saving.staged.exception(), RuntimeError)
    assert isinstance(saving.durable.exception(), RuntimeError)
    with pytest.raises(RuntimeError, match="the device is lost"):
        manager.due(epoch=2)
    copies.error = None
    states = copy_of(model, optimizer)
    manager.async_save_checkpoint(model, optimizer, epoch=2, lazy=True)
    step(model, optimizer)
    manager.close()

    check(manager, "epoch_2", states)


@pytest.mark.parametrize("optimizer", [None, object()], ids=["none", "of another kind"])
def test_optimizer_that_cannot_wait_is_refused(tmp_path, optimizer):
    """Before anything is staged, with the way out."""
    model, _ = make()
    with manage(tmp_path) as manager:
        with pytest.raises(ConfigurationError, match="give a torch optimizer"):
            manager.async_save_checkpoint(model, optimizer, epoch=1, lazy=True)
        assert () == manager.list_checkpoints()
        manager.async_save_checkpoint(model, epoch=2)


def test_optimizer_is_watched_once(tmp_path):
    """However often it was saved."""
    model, optimizer = make()
    with manage(tmp_path, retention=KeepLatest()) as manager:
        for epoch in range(5):
            manager.async_save_checkpoint(model, optimizer, epoch=epoch, lazy=True)
            step(model, optimizer)

    assert 1 == len(optimizer._optimizer_step_pre_hooks)
    step(model, optimizer)


def test_training_is_the_same_with_and_without_saves(tmp_path):
    """Bit by bit."""
    runs = []
    for lazy in (None, False, True):
        model, optimizer = make()
        with manage(tmp_path / str(lazy), in_flight=2) as manager:
            for epoch in range(8):
                if lazy is not None:
                    manager.async_save_checkpoint(model, optimizer, epoch=epoch, lazy=lazy)
                step(model, optimizer)
        runs.append(copy_of(model, optimizer))

    assert is_same(runs[0], runs[1])
    assert is_same(runs[0], runs[2])
