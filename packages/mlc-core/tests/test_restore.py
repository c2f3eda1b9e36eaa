"""State into models: what fits is loaded, what does not is told before anything is changed."""

import pytest

torch = pytest.importorskip("torch")

from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from mlc_core import (  # noqa: E402
    CheckpointManager,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    MismatchError,
    open_checkpoint,
)
from mlc_core.restore import fit_model, restore_model, restore_part  # noqa: E402
from mlc_core.state import frameworks  # noqa: E402
from mlc_core.state.items import match_names, model_state  # noqa: E402

DTYPES = [getattr(torch, name) for name in frameworks.TORCH_DTYPES.values() if hasattr(torch, name)]
PARTS = st.text("ab", min_size=1, max_size=2) | st.sampled_from(["module", "weight"])
NAMES = st.lists(PARTS, min_size=1, max_size=3).map(".".join)
PREFIXES = st.sampled_from(["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])


def bits(tensor):
    """Return the bytes of *tensor*."""
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())


class Holder(nn.Module):
    """A model of any tensors, by names without dots."""

    def __init__(self, tensors):
        super().__init__()
        for name, value in tensors.items():
            self.register_buffer(name, value)


def random_bits(dtype, seed, count=64):
    """Return *count* elements of any bits of *dtype*."""
    made = torch.Generator().manual_seed(seed)
    limit = 2 if dtype is torch.bool else 256
    return torch.randint(0, limit, (count * dtype.itemsize,), dtype=torch.uint8, generator=made).view(dtype)


# ---------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("saved", DTYPES, ids=str)
@given(here=st.sampled_from(DTYPES), seed=st.integers(0, 2**16))
@settings(max_examples=40)
def test_conversion_that_strict_allows_loses_nothing(saved, here, seed):
    """What was saved can be had back from what was loaded, every number of it; the same dtype is told as nothing."""
    values = random_bits(saved, seed)
    model = Holder({"w": torch.zeros(64, dtype=here)})
    fit = fit_model(model, {"w": values})

    assert fit.is_exact is (saved == here)
    if not fit.is_lossless:
        assert (("w saved as", 1), ()) == ((fit.rounded[0][:10], len(fit.rounded)), fit.converted)
        with pytest.raises(MismatchError, match="does not fit the model: 1 that would be rounded: w saved as"):
            restore_model(model, {"w": values}, strict=True, where="here")
        assert not any(bits(model.w))
        return
    restore_model(model, {"w": values}, strict=True, where="here")
    back = model.w.to(saved)
    if saved == here:
        assert bits(values) == bits(back)
    else:
        wide = torch.complex128 if saved.is_complex else torch.float64 if saved.is_floating_point else torch.int64
        same = values.to(wide) == back.to(wide)
        assert bool((same | values.to(wide).isnan()).all())


def test_narrow_checkpoint_is_loaded_into_a_wide_model_and_told():
    """As bfloat16 weights into a float32 model: nothing is lost."""
    model = nn.Linear(2, 1)
    state = {"weight": torch.ones(1, 2, dtype=torch.bfloat16), "bias": torch.zeros(1, dtype=torch.bfloat16)}
    fit = restore_model(model, state, strict=True, where="here")

    assert (torch.float32, 2.0) == (model.weight.dtype, model.weight.sum().item())
    assert ("weight saved as torch.bfloat16, the model has torch.float32", 2) == (fit.converted[0], len(fit.converted))
    assert fit.is_lossless
    assert not fit.is_exact
    assert str(fit).startswith("2 of another dtype that loses nothing: weight saved as")


def test_wide_checkpoint_is_rounded_only_when_asked():
    """The message says both ways out."""
    model, state = nn.Linear(2, 1).bfloat16(), nn.Linear(2, 1).state_dict()
    before = bits(model.weight)
    with pytest.raises(MismatchError, match=r"strict=False; a model of the saved dtype can be converted once it is"):
        restore_model(model, state, strict=True, where="here")
    assert before == bits(model.weight)

    fit = restore_model(model, state, strict=False, where="here")
    assert (2, ()) == (len(fit.rounded), fit.mismatched)
    assert torch.equal(state["weight"].bfloat16(), model.weight)


# ---------------------------------------------------------------------- names


@given(names=st.sets(NAMES, min_size=1, max_size=5), saved=PREFIXES, here=PREFIXES)
@example(names={"module.weight"}, saved="", here="")
@example(names={"module.weight"}, saved="module.", here="")
@example(names={"module.weight", "weight"}, saved="", here="")
def test_wrappers_on_either_side_do_not_matter(names, saved, here):
    """Each name is found again, unless the model's own names say that the prefix is a part of it."""
    own = {f"{here}{name}".replace("_orig_mod.", "") for name in names}
    matched = match_names(own, {f"{saved}{name}" for name in names})

    if any(f"{saved}{name}".replace("_orig_mod.", "") in own for name in names):
        assert {f"{saved}{name}".replace("_orig_mod.", "") for name in names} == set(matched.values())
    else:
        assert own == set(matched.values())


@pytest.mark.filterwarnings("ignore")  # what the compiler imports warns of itself
@pytest.mark.parametrize("load", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    ],
    ids=["parallel", "compiled", "compiled parallel", "parallel compiled"],
)
def test_wrapped_model_is_the_model(tmp_path, wrap, load):
    """Saved with a wrapper and loaded without, and the reverse; files hold plain names."""
    plain, other = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
    one, two = (plain, wrap(other)) if load else (wrap(plain), other)
    manager = CheckpointManager(tmp_path, "m")
    path = manager.save_checkpoint(one, epoch=1)

    assert manager.load_checkpoint(model=two).fit.is_exact
    assert torch.equal(plain[0].weight, other[0].weight)
    assert {"0.weight", "0.bias"} == set(open_checkpoint(path).tensors())


@pytest.mark.filterwarnings("ignore")
def test_model_of_several_processes_is_the_model(tmp_path):
    """What DistributedDataParallel wraps, in a group of one process."""
    distributed = pytest.importorskip("torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model, other = nn.Linear(2, 2), nn.Linear(2, 2)
        wrapped = nn.parallel.DistributedDataParallel(model)
        manager = CheckpointManager(tmp_path, "m")
        manager.save_checkpoint(wrapped, epoch=1)
        assert manager.load_checkpoint(model=other).fit.is_exact
        assert torch.equal(model.weight, other.weight)
        nn.init.zeros_(model.weight)
        assert manager.load_checkpoint(model=wrapped).fit.is_exact
        assert torch.equal(model.weight, other.weight)
    finally:
        distributed.destroy_process_group()


class Shell(nn.Module):
    """A model that really has a part called `module`."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 2)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_part_called_module_is_no_wrapper(prefix):
    """Its names stay what they are, and a wrapper around it is taken off once."""
    model, saved = Shell(), Shell()
    state = {f"{prefix}{name}": value for name, value in model_state(saved).items()}

    assert restore_model(model, state, strict=True, where="here").is_exact
    assert torch.equal(model.module.weight, saved.module.weight)


def test_prefix_that_only_some_names_have_stays():
    """A model with a part called `module` and another one, loaded into a model without, is another model."""
    with pytest.raises(MismatchError, match=r"2 missing: weight, bias; 3 unexpected: module\.weight, module\.bias, x"):
        restore_model(nn.Linear(2, 2), {**model_state(Shell()), "x": torch.ones(1)}, strict=True, where="here")


# ---------------------------------------------------------------------- what does not fit

CHANGES = st.sampled_from(["drop", "add", "reshape", "plain number", "wider"])


@given(changes=st.lists(st.tuples(CHANGES, st.integers(0, 3)), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_misfit_changes_nothing_and_the_rest_can_be_loaded(changes, seed):
    """Whatever is wrong: strict leaves every bit; not strict loads all that fits and reports what does not."""
    torch.manual_seed(seed)
    model, saved = (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)) for _ in range(2))
    state, names = dict(saved.state_dict()), list(saved.state_dict())
    touched = set()
    for change, position in changes:
        name = names[position]
        touched.add(name)
        if change == "drop":
            state.pop(name, None)
        elif change == "add":
            state[f"{name}.more"] = torch.ones(1)
        elif change == "reshape":
            state[name] = torch.ones(7)
        elif change == "plain number":
            state[name] = 3
        else:
            state[name] = torch.ones(saved.state_dict()[name].shape, dtype=torch.float64)
    before = {name: bits(value) for name, value in model.state_dict().items()}

    with pytest.raises(MismatchError, match="does not fit the model"):
        restore_model(model, state, strict=True, where="here")
    assert before == {name: bits(value) for name, value in model.state_dict().items()}
    fit = restore_model(model, state, strict=False, where="here")
    told = " ".join((*fit.missing, *fit.unexpected, *fit.mismatched, *fit.rounded))
    for name, value in model.state_dict().items():
        assert name in told or name not in touched
        if name in fit.missing or any(one.startswith(f"{name} saved") for one in fit.mismatched):
            assert before[name] == bits(value)
        else:
            assert torch.equal(state[name].to(value.dtype), value)


def test_model_without_memory_is_refused():
    """Torch would load nothing into it, with a warning at most."""
    with pytest.raises(MismatchError, match=r"no memory for weight, bias: .* meta device; .*to_empty\(device=…\)"):
        restore_model(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2).state_dict(), strict=False, where="here")


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_model_gets_its_shapes_from_the_checkpoint():
    """As from a first batch."""
    model, saved = nn.LazyLinear(3), nn.Linear(2, 3)

    assert restore_model(model, saved.state_dict(), strict=True, where="here").is_exact
    assert torch.equal(model.weight, saved.weight)


class Extra(nn.Module):
    """A model with a state that is no tensor."""

    def __init__(self, note):
        super().__init__()
        self.note = note

    def get_extra_state(self):
        """Return it."""
        return self.note

    def set_extra_state(self, state):
        """Take it as it is."""
        self.note = state


def test_extra_state_comes_back_as_ones_own(place):
    """Lists and tensors in it are not shared with the state that was loaded."""
    manager = CheckpointManager(place, "m")
    manager.save_checkpoint(Extra({"seen": [1], "mean": torch.ones(2)}), epoch=1)
    model = Extra(None)
    state = manager.load_checkpoint(model=model).state["model"]["_extra_state"]
    model.note["seen"].append(2)
    model.note["mean"].zero_()

    assert ([1], 2) == (state["seen"], state["mean"].sum())


# ---------------------------------------------------------------------- parts


@pytest.fixture
def pretrained(tmp_path):
    """The checkpoint of a model with an encoder and a head."""
    model = nn.Sequential()
    model.encoder, model.head = nn.Linear(2, 3), nn.Linear(3, 5)
    path = CheckpointManager(tmp_path, "m").save_checkpoint(model, epoch=1, items={"ema": model, "note": "x"})
    return model, path


def test_one_part_of_a_checkpoint_into_one_part_of_a_model(pretrained):
    """The encoder alone, held against the encoder alone."""
    model, path = pretrained
    encoder = nn.Linear(2, 3)

    assert restore_part(open_checkpoint(path), encoder, prefix="encoder.").is_exact
    assert torch.equal(model.encoder.weight, encoder.weight)
    restore_part(open_checkpoint(path), encoder, prefix="encoder.", item="ema")
    with pytest.raises(MismatchError, match=r"1 of another shape: weight saved as \(3, 2\), the model has \(2, 2\)"):
        restore_part(open_checkpoint(path), nn.Linear(2, 2, bias=False), prefix="encoder.")
    fit = restore_part(open_checkpoint(path), nn.Linear(2, 3, bias=False), prefix="encoder.", strict=False)
    assert (("bias",), ()) == (fit.unexpected, fit.missing)


def test_part_that_is_not_there_is_said(pretrained):
    """Nothing below the prefix, no such item, no tensors in it, changed on disk."""
    _, path = pretrained
    with pytest.raises(CheckpointNotFoundError, match=r"holds nothing below 'decoder\.' in its model; it holds enc"):
        restore_part(open_checkpoint(path), nn.Linear(2, 3), prefix="decoder.")
    with pytest.raises(CheckpointNotFoundError, match="holds no swa; it holds model"):
        restore_part(open_checkpoint(path), nn.Linear(2, 3), item="swa")
    with pytest.raises(MismatchError, match="holds a str as its note"):
        restore_part(open_checkpoint(path), nn.Linear(2, 3), item="note")
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match="was changed after it was committed"):
        restore_part(open_checkpoint(path), nn.Linear(2, 3), prefix="encoder.")
