"""Models, optimizers and schedulers: a run that goes on from a checkpoint is bit by bit the run that never stopped."""

import sys

import pytest

torch = pytest.importorskip("torch")

from torch import nn, optim  # noqa: E402
from torch.optim import lr_scheduler as lr  # noqa: E402

from mlc_core import (  # noqa: E402
    CheckpointManager,
    CheckpointNotFoundError,
    CheckpointWarning,
    ConfigurationError,
    MismatchError,
    open_checkpoint,
)
from mlc_core.restore import fit_model, restore_model  # noqa: E402


class Tied(nn.Module):
    """A small model with a buffer, a batch norm, and one weight under two names."""

    def __init__(self, width=6):
        super().__init__()
        self.encoder = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.decoder = nn.Linear(width, width)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("scale", torch.full((), 0.5))

    def forward(self, x):
        """Return something that depends on all of it."""
        return self.decoder(torch.relu(self.norm(self.encoder(x)))) * self.scale


def make(optimizer, scheduler, seed):
    """Return a model with its optimizer and scheduler."""
    torch.manual_seed(seed)
    model = Tied()
    made = optimizer(model.parameters())
    return model, made, scheduler(made)


def train(model, optimizer, scheduler, steps):
    """Train on data that depends on the number of the step only."""
    for step in steps:
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(scheduler, lr.ReduceLROnPlateau):
            scheduler.step(loss.detach())
        else:
            scheduler.step()


def is_same(one, other):
    """Say whether two states are equal in type, structure and every bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


OPTIMIZERS = {
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True),
    "adamw in groups": lambda parameters: optim.AdamW(
        [{"params": (parameters := list(parameters))[:2], "lr": 0.02}, {"params": parameters[2:]}], lr=0.01
    ),
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda parameters: optim.RMSprop(parameters, lr=0.01, centered=True),
}
SCHEDULERS = {
    "one cycle": lambda optimizer: lr.OneCycleLR(optimizer, max_lr=0.1, total_steps=30),
    "multi step": lambda optimizer: lr.MultiStepLR(optimizer, milestones=[3, 5, 8], gamma=0.5),
    "plateau": lambda optimizer: lr.ReduceLROnPlateau(optimizer, patience=1, factor=0.5),
    "sequential": lambda optimizer: lr.SequentialLR(
        optimizer,
        [lr.LinearLR(optimizer, 0.1, total_iters=3), lr.CosineAnnealingWarmRestarts(optimizer, 4)],
        milestones=[4],
    ),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_run_is_the_run_that_never_stopped(tmp_path, optimizer, scheduler):
    """Weights, buffers, momenta and learning rates, bit by bit, after a restart in the middle."""
    whole = make(OPTIMIZERS[optimizer], SCHEDULERS[scheduler], 0)
    train(*whole, range(5))
    manager = CheckpointManager(tmp_path, "tied")
    manager.save_checkpoint(*whole, epoch=1)
    resumed = make(OPTIMIZERS[optimizer], SCHEDULERS[scheduler], 1)
    found = CheckpointManager(tmp_path, "tied").load_checkpoint("latest", *resumed)
    train(*whole, range(5, 12))
    train(*resumed, range(5, 12))

    assert found.fit.is_exact
    ours, theirs = ([one.state_dict() for one in objects] for objects in (whole, resumed))
    assert is_same(ours, theirs)


def test_tied_weights_are_one_weight_again(tmp_path):
    """Saved once, loaded under both names, tied as before."""
    model, other = Tied(), Tied()
    manager = CheckpointManager(tmp_path, "tied")
    path = manager.save_checkpoint(model, epoch=1)
    manager.load_checkpoint(model=other)

    assert "decoder.weight" not in open_checkpoint(path).tensors("model")
    assert torch.equal(model.encoder.weight, other.decoder.weight)
    assert other.encoder.weight is other.decoder.weight


@pytest.mark.filterwarnings("ignore")  # what the compiler imports warns of itself
def test_compiled_model_and_plain_model_are_one(tmp_path):
    """`torch.compile` puts a word before every name; it is neither saved nor asked for, on any level."""
    plain, other = Tied(), Tied()
    compiled = torch.compile(Tied(), backend="eager")
    nested = Tied()
    nested.encoder = torch.compile(nested.encoder, backend="eager")
    manager = CheckpointManager(tmp_path, "tied")
    path = manager.save_checkpoint(torch.compile(plain, backend="eager"), epoch=1)
    for model in (other, compiled, nested):
        assert manager.load_checkpoint(model=model).fit.is_exact

    assert set(plain.state_dict()) >= set(open_checkpoint(path).tensors("model"))
    for model in (other, compiled, nested):
        assert all(
            torch.equal(a, b) for a, b in zip(plain.state_dict().values(), model.state_dict().values(), strict=True)
        )


def test_misfit_tells_every_kind_and_changes_nothing(tmp_path):
    """Missing, unexpected, of another shape, each with names and numbers."""
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), epoch=1)
    model = nn.Sequential(nn.Linear(4, 3), nn.Identity(), nn.Linear(3, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    message = (
        r"epoch_1 does not fit the model: 2 missing: 2\.weight, 2\.bias; 2 unexpected: 1\.weight, 1\.bias; "
        r"1 of another shape: 0\.weight saved as \(3, 2\), the model has \(3, 4\)\. Build the model it was saved from, "
        r"or pass strict=False"
    )
    with pytest.raises(MismatchError, match=message):
        manager.load_checkpoint(model=model)
    assert is_same(before, dict(model.state_dict()))


def test_what_fits_is_loaded_when_not_strict(tmp_path):
    """And the rest is reported, shapes included, which torch itself would refuse."""
    saved = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(saved, epoch=1)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(1, 1))
    fit = manager.load_checkpoint(model=model, strict=False).fit

    assert (("2.weight", "2.bias"), ()) == (fit.missing, fit.unexpected)
    assert ("0.weight saved as (3, 2), the model has (3, 4)",) == fit.mismatched
    assert torch.equal(saved[0].bias, model[0].bias)
    assert torch.equal(saved[1].weight, model[1].weight)
    assert not fit.is_exact
    assert str(fit).startswith("2 missing: 2.weight, 2.bias; 1 of another shape")


def test_state_can_be_fitted_by_hand():
    """The two halves of loading, for whoever has a state already."""
    model, state = nn.Linear(2, 1), {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}

    assert fit_model(model, state).is_exact
    assert restore_model(model, state, strict=True, where="here").is_exact
    assert 2 == model.weight.sum()
    with pytest.raises(MismatchError, match="here does not fit the model: 1 missing: bias"):
        restore_model(model, {"weight": torch.zeros(1, 2)}, strict=True, where="here")
    assert 2 == model.weight.sum()


def stepped(model, kind, **options):
    """Return an optimizer of *model* that has made a step."""
    optimizer = kind(model.parameters(), **{"lr": 0.1, **options})
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda model: optim.Adam(list(model.parameters())[:1]),
            r"an optimizer with \[2\] parameters in its groups and this",
        ),
        (
            lambda model: optim.SGD(model.parameters(), lr=1, momentum=0.9),
            "another optimizer: one with .*betas.*; this one has",
        ),
        (lambda model: optim.Adam([{"params": [one]} for one in model.parameters()]), r"and this one has \[1, 1\]"),
    ],
)
def test_optimizer_that_does_not_fit_leaves_the_model_unchanged(tmp_path, other, message):
    """The number of its parameters, their groups, and whether it is of the same kind."""
    manager = CheckpointManager(tmp_path, "m")
    saved = nn.Linear(2, 1)
    manager.save_checkpoint(saved, stepped(saved, optim.Adam), epoch=1)
    model = nn.Linear(2, 1)
    before = model.weight.clone()

    with pytest.raises(MismatchError, match=message):
        manager.load_checkpoint(None, model, other(model))
    assert torch.equal(before, model.weight)


def test_optimizer_that_became_another_version_of_itself_fits(tmp_path):
    """A newer version knows more options than were saved, and a scheduler leaves its own marks."""
    model = nn.Linear(2, 1)
    optimizer = stepped(model, optim.SGD, momentum=0.9)
    lr.StepLR(optimizer, 1)
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(model, optimizer, epoch=1)
    newer = optim.SGD(model.parameters(), lr=1, momentum=0.5)
    newer.param_groups[0]["invented_later"] = True
    manager.load_checkpoint(None, model, newer)

    assert 0.9 == newer.param_groups[0]["momentum"]


@pytest.mark.parametrize(
    "state",
    [
        {"a": 1},
        {"param_groups": 3},
        {"param_groups": [{"lr": 1}]},
        {"param_groups": [{"params": [0, 1]}], "state": [1]},
        {"param_groups": [{"params": [0, 1]}], "state": {0: torch.ones(1)}},
    ],
    ids=str,
)
def test_state_that_is_no_optimizers_is_a_mismatch(tmp_path, state):
    """Not a KeyError."""
    model = nn.Linear(2, 1)
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(model, state, epoch=1)

    with pytest.raises(MismatchError, match="something else than an optimizer's state"):
        manager.load_checkpoint(None, model, optim.Adam(model.parameters()))


def test_arguments_in_the_wrong_place_are_refused(tmp_path):
    """An epoch where a scheduler belongs would be lost."""
    model = nn.Linear(2, 1)

    with pytest.raises(ConfigurationError, match=r"scheduler=5 has no state_dict\(\); name the arguments"):
        CheckpointManager(tmp_path, "m").save_checkpoint(model, optim.Adam(model.parameters()), 5)


def test_scheduler_of_another_kind_is_refused_first(tmp_path):
    """Model and optimizer are as they were."""
    model = nn.Linear(2, 1)
    optimizer = stepped(model, optim.SGD)
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(model, optimizer, lr.StepLR(optimizer, 1), epoch=1)
    other = nn.Linear(2, 1)
    before, fresh = other.weight.clone(), optim.SGD(other.parameters(), lr=7)

    with pytest.raises(
        MismatchError, match="another scheduler: one with step_size, gamma; this one has T_max, eta_min"
    ):
        manager.load_checkpoint(None, other, fresh, lr.CosineAnnealingLR(fresh, 5))
    assert torch.equal(before, other.weight)
    assert 7 == fresh.param_groups[0]["lr"]


def test_leaving_out_the_optimizer(tmp_path):
    """Smaller checkpoints, and a plain answer when one is asked for."""
    model = nn.Linear(2, 1)
    optimizer = stepped(model, optim.SGD)
    manager = CheckpointManager(tmp_path, "m", save_optimizer=False, save_scheduler=False)
    path = manager.save_checkpoint(model, optimizer, lr.StepLR(optimizer, 1), epoch=1)

    assert ["manifest.json", "model.safetensors", "state.json"] == sorted(one.name for one in path.iterdir())
    with pytest.raises(CheckpointNotFoundError, match="holds no optimizer, scheduler; it holds model"):
        manager.load_checkpoint(None, model, optimizer, lr.StepLR(optimizer, 1))


def test_loading_runs_nobodys_code(tmp_path, monkeypatch):
    """Nothing is unpickled, whatever is in the directory."""
    model = nn.Linear(2, 1)
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(model, stepped(model, optim.Adam), epoch=1)

    def refuse(*_, **__):
        pytest.fail("something was unpickled")

    monkeypatch.setattr("torch.load", refuse)
    for module in ("pickle", "_pickle"):
        for name in ("load", "loads", "Unpickler"):
            monkeypatch.setattr(sys.modules[module], name, refuse)
    assert manager.load_checkpoint(model=model).fit.is_exact


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_one_flipped_bit_in_any_file_is_passed_over(tmp_path, file):
    """The checkpoint before is loaded into the objects, and said to be."""
    model = nn.Linear(2, 1)
    optimizer = stepped(model, optim.Adam)
    manager = CheckpointManager(tmp_path, "m")
    manager.save_checkpoint(model, optimizer, epoch=1)
    first = model.weight.clone()
    nn.init.zeros_(model.weight)
    path = manager.save_checkpoint(model, optimizer, epoch=2) / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.warns(CheckpointWarning, match=f"epoch_2/{file} was changed after it was committed"):
        found = manager.load_checkpoint(None, model, optimizer)
    assert torch.equal(first, model.weight)
    assert ("epoch_1", 1) == (found.saved.name, len(found.passed_over))
