"""Random numbers go on where they were: in this process, in another one, with torch and NumPy or without."""

import json
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import CheckpointManager, ConfigurationError, MismatchError, open_checkpoint
from mlc_core.restore import restore
from mlc_core.state import decode_document, encode_document
from mlc_core.state.items import collect
from mlc_core.state.random import RandomState
from mlc_core.state.tree import decode


def there_and_back(state):
    """Return a *state* after a journey through the bytes of a checkpoint."""
    collected = collect({"random": state})
    return decode(decode_document(encode_document(collected))["random"], collected["random"].tensors, copy=True)


def restored(path, **generators):
    """Load the checkpoint at *path* into generators."""
    reader = open_checkpoint(path)
    items = {"random": RandomState(**generators)}
    restore(reader, reader.load(), model=None, optimizer=None, scheduler=None, strict=True, items=items)


@given(seed=st.integers(), draws=st.integers(0, 700), gauss=st.booleans())
def test_python_goes_on(seed, draws, gauss):
    """Wherever in its stream it was, and with half of a pair of normal numbers drawn."""
    random.seed(seed)
    own = random.Random(seed)
    for generator in (random, own):
        _ = [generator.random() for _ in range(draws)], gauss and generator.gauss(0, 1)
    state = there_and_back(RandomState(own=own))
    expected = [(random.gauss(0, 1), own.gauss(0, 1), random.random(), own.getrandbits(40)) for _ in range(3)]
    other = random.Random(0)
    random.seed(0)
    RandomState(own=other).load_state_dict(state)

    assert expected == [
        (random.gauss(0, 1), other.gauss(0, 1), random.random(), other.getrandbits(40)) for _ in range(3)
    ]


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64", "RandomState"])
def test_numpy_goes_on(kind):
    """The global generator, and generators of every kind."""
    np = pytest.importorskip("numpy")

    def make(seed):
        made = getattr(np.random, kind)(seed)
        return made if kind == "RandomState" else np.random.Generator(made)

    def draw(generator):
        return [float(one) for one in (generator.normal(), np.random.normal(), np.random.rand())]

    generator = make(1)
    np.random.seed(2)
    draw(generator)
    state = there_and_back(RandomState(sampler=generator))
    expected = [draw(generator) for _ in range(3)]
    other = make(7)
    np.random.seed(8)
    RandomState(sampler=other).load_state_dict(state)

    assert expected == [draw(other) for _ in range(3)]


@given(seed=st.integers(0, 2**60), draws=st.integers(0, 40))
def test_torch_goes_on(seed, draws):
    """The global generator and others."""
    torch = pytest.importorskip("torch")
    own = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    torch.randn(draws), torch.randn(draws, generator=own)
    state = there_and_back(RandomState(own=own))
    expected = torch.randn(20), torch.randn(20, generator=own)
    other = torch.Generator()
    torch.manual_seed(0)
    RandomState(own=other).load_state_dict(state)

    assert torch.equal(expected[0], torch.randn(20))
    assert torch.equal(expected[1], torch.randn(20, generator=other))


DRAW = """
import json, random, sys
import numpy as np, torch
from mlc_core import CheckpointManager, open_checkpoint
from mlc_core.restore import restore
from mlc_core.state.random import RandomState
sampler, noise = torch.Generator().manual_seed(int(sys.argv[2])), np.random.default_rng(int(sys.argv[2]))
state = RandomState(sampler=sampler, noise=noise)
reader = open_checkpoint(sys.argv[1])
restore(reader, reader.load(), model=None, optimizer=None, scheduler=None, strict=True, items={"random": state})
numbers = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), torch.rand(()).item()]
numbers += [torch.rand((), generator=sampler).item(), noise.random()]
numbers += [torch.nn.functional.dropout(torch.ones(9)).tolist()]
print(json.dumps(numbers))
"""


def test_another_process_draws_the_same_numbers(tmp_path):
    """Saved by a manager, loaded by somebody who was seeded otherwise."""
    np, torch = pytest.importorskip("numpy"), pytest.importorskip("torch")
    sampler, noise = torch.Generator().manual_seed(5), np.random.default_rng(5)
    random.gauss(0, 1), np.random.normal(), torch.randn(3), torch.randn(3, generator=sampler), noise.random()
    manager = CheckpointManager(tmp_path, "m")
    path = manager.save_checkpoint(items={"random": RandomState(sampler=sampler, noise=noise)}, epoch=1)
    expected = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), torch.rand(()).item()]
    expected += [torch.rand((), generator=sampler).item(), noise.random()]
    expected += [torch.nn.functional.dropout(torch.ones(9)).tolist()]
    found = [
        json.loads(subprocess.run([sys.executable, "-c", DRAW, path, seed], check=True, capture_output=True).stdout)
        for seed in ("1", "2")
    ]

    assert [expected, expected] == found


def test_neither_torch_nor_numpy_comes_along():
    """Where nobody uses them, there is nothing of theirs to save."""
    code = (
        "import sys\nfrom mlc_core.state.random import RandomState\nstate = RandomState()\n"
        "found = state.state_dict()\nstate.load_state_dict(found)\n"
        "print(sorted(found), {'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "['generators', 'python'] set()" == done.stdout.strip()


class Cuda:
    """A machine with some devices."""

    def __init__(self, count):
        self.states = [object() for _ in range(count)]

    def is_initialized(self):
        """Say that they are in use."""
        return True

    def device_count(self):
        """Say how many there are."""
        return len(self.states)

    def get_rng_state_all(self):
        """Return where they are."""
        return list(self.states)

    def set_rng_state(self, state, device):
        """Take it."""
        self.states[device] = state


def test_every_device_goes_on_and_more_than_there_are_is_an_error(monkeypatch):
    """Nothing is changed when one is missing; a device that was not in use is left as it is."""
    torch = pytest.importorskip("torch")
    big, small = Cuda(3), Cuda(2)
    monkeypatch.setattr(torch, "cuda", big)
    state = RandomState().state_dict()
    saved = list(big.states)
    big.states.append("a fourth")
    big.states[:3] = "abc"
    RandomState().load_state_dict(state)
    assert [*saved, "a fourth"] == big.states

    monkeypatch.setattr(torch, "cuda", small)
    before, torch_before = list(small.states), torch.get_rng_state()
    random.seed(3)
    drawn = random.getstate()
    with pytest.raises(
        MismatchError, match=r"of 3 CUDA devices, and there are 2 here; run with as many \(see CUDA_VIS"
    ):
        RandomState().load_state_dict(state)
    assert (before, drawn) == (small.states, random.getstate())
    assert torch.equal(torch_before, torch.get_rng_state())


def test_real_devices_go_on():
    """On a machine that has some."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    own = torch.Generator("cuda").manual_seed(1)
    torch.rand(3, device="cuda"), torch.rand(3, device="cuda", generator=own)
    state = there_and_back(RandomState(own=own))
    expected = torch.rand(9, device="cuda"), torch.rand(9, device="cuda", generator=own)
    torch.cuda.manual_seed_all(0)
    other = torch.Generator("cuda")
    RandomState(own=other).load_state_dict(state)

    assert torch.equal(expected[0], torch.rand(9, device="cuda"))
    assert torch.equal(expected[1], torch.rand(9, device="cuda", generator=other))


def test_generators_must_be_the_saved_ones(tmp_path):
    """By name and by kind; nothing is changed if they are not."""
    np = pytest.importorskip("numpy")
    manager = CheckpointManager(tmp_path, "m")
    path = manager.save_checkpoint(items={"random": RandomState(data=np.random.default_rng(1))}, epoch=1)
    random.seed(9)
    before = random.getstate()

    with pytest.raises(MismatchError, match=r"holds the generators data \(numpy PCG64\), and given are none; give the"):
        restored(path)
    with pytest.raises(MismatchError, match=r"and given are data \(random\.Random\)"):
        restored(path, data=random.Random(1))
    with pytest.raises(MismatchError, match=r"and given are data \(numpy Philox\)"):
        restored(path, data=np.random.Generator(np.random.Philox(1)))
    assert before == random.getstate()
    restored(path, data=np.random.default_rng(3))


@pytest.mark.parametrize("value", [random.SystemRandom(), 3, random], ids=["system", "number", "module"])
def test_what_is_no_generator_is_refused(value):
    """At once, and not when it is saved."""
    with pytest.raises(ConfigurationError, match=r"^noise is a .*, and not a generator of Python, NumPy or torch"):
        RandomState(noise=value)


def test_another_global_generator_of_numpy_is_refused():
    """It would not take the state; nothing is changed."""
    np = pytest.importorskip("numpy")
    if not hasattr(np.random, "set_bit_generator"):
        pytest.skip("needs NumPy 1.24")
    state, usual = RandomState().state_dict(), np.random.get_bit_generator()
    before = random.getstate()
    try:
        np.random.set_bit_generator(np.random.PCG64(1))
        random.seed(5)
        drawn = random.getstate()
        with pytest.raises(MismatchError, match="NumPy's global generator was a MT19937 and is a PCG64 here"):
            RandomState().load_state_dict(state)
        assert drawn == random.getstate()
        other = there_and_back(RandomState())
        expected = np.random.normal()
        RandomState().load_state_dict(other)
        assert expected == np.random.normal()
    finally:
        np.random.set_bit_generator(usual)
        random.setstate(before)
