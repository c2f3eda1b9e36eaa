"""The order of data and everything random are pure functions."""

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from mlc_trainer.data import Batches, BatchPlan, epoch_order
from mlc_trainer.data.batches import SeededDataset
from mlc_trainer.data.drawing import may_draw
from mlc_trainer.randomness import DATA_ORDER, MEASURE, MODEL, SAMPLE, STEP, mix, seed_generators

seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 10**6)


@given(seed=seeds, epoch=epochs, length=st.integers(0, 200))
def test_order_is_a_permutation_and_a_function(seed, epoch, length):
    """Every sample once, and the same whenever it is asked for, whatever the global generator does."""
    order = epoch_order(seed, epoch, length)
    torch.rand(1)

    assert list(range(length)) == sorted(order)
    assert order == epoch_order(seed, epoch, length)


@given(seed=seeds, epoch=epochs, other=epochs)
def test_order_differs_by_epoch_and_seed(seed, epoch, other):
    """A hundred samples have enough orders."""
    order = epoch_order(seed, epoch, 100)

    assert (epoch == other) == (order == epoch_order(seed, other, 100))
    assert order != epoch_order(seed ^ 1, epoch, 100)


small = st.integers(0, 100) | seeds


@given(one=st.lists(small, max_size=4), other=st.lists(small, max_size=4))
def test_mix_collides_nowhere_near(one, other):
    """Different numbers, or the same in another order, give different seeds; so does one number more."""
    assert (one == other) == (mix(*one) == mix(*other))
    assert 0 <= mix(*one) < 2**64


def test_mix_of_what_a_run_asks_for_is_distinct():
    """All uses, seeds, epochs and indices of a small run: no two share a seed, nor one of NumPy's 32 bits, by rule."""
    uses = (MODEL, STEP, SAMPLE, DATA_ORDER, MEASURE)
    found = [mix(use, *rest) for use in uses for rest in itertools.product(range(3), range(30), range(30))]

    assert len(found) == len(set(found))
    assert len({one & 0xFFFFFFFF for one in found}) > 0.999 * len(found)
    assert 5 == len(set(uses))


def test_mix_stays_as_it_is():
    """Another mix would be another order of data: runs of the last version could not be resumed."""
    assert [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1] == [mix(0), mix(1)]


@given(seed=seeds)
def test_seeding_starts_all_generators(seed):
    """Python's, NumPy's and torch's."""
    draws = []
    for _ in range(2):
        seed_generators(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002 - the global one

    assert draws[0] == draws[1]


def test_seeding_a_cuda_device_starts_its_generator(monkeypatch):
    """That of the device, or of the first one where no number is said."""
    generators = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    seed_generators(7, torch.device("cuda:1"))
    seed_generators(8, torch.device("cuda"))

    assert [8, 7] == [one.initial_seed() for one in generators]


plans = st.fixed_dictionaries(
    {
        "length": st.integers(0, 40),
        "batch_size": st.integers(1, 9),
        "seed": seeds,
        "shuffle": st.booleans(),
        "drop_last": st.booleans(),
        "epoch": st.integers(0, 5),
    }
)


@given(facts=plans, first=st.integers(0, 50))
def test_skipping_is_slicing(facts, first):
    """From batch *first* on there comes what would have come."""
    whole = list(BatchPlan(**facts))

    assert whole[first:] == list(BatchPlan(**facts, first=first))
    assert len(whole) == len(BatchPlan(**facts, first=first))


@given(facts=plans)
def test_plan_has_every_sample_once(facts):
    """In batches of the size, the last one smaller or left out."""
    batches = list(BatchPlan(**facts))
    tokens = [token for batch in batches for token in batch]
    rest = facts["length"] % facts["batch_size"] if facts["drop_last"] else 0

    assert facts["length"] - rest == len(tokens) == len(set(tokens))
    assert {facts["epoch"]} >= {epoch for epoch, _ in tokens}
    assert all(len(batch) == facts["batch_size"] for batch in batches[:-1])
    if not facts["shuffle"]:
        assert sorted(tokens) == tokens


class Counted:
    """Draws, and counts how often it is asked."""

    def __init__(self, length):
        self.length, self.asked = length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.asked.append(index)
        return torch.tensor(index), torch.rand(1) + random.random() + np.random.rand()  # noqa: NPY002 - the global ones


def test_skipped_samples_are_not_loaded():
    """To get to the last batch of a million images costs one batch."""
    data = Counted(12)
    batches = Batches(data, seed=1, batch_size=4, shuffle=True)
    list(batches.epoch(0, first=2))

    assert 4 == len(data.asked)


def test_sample_depends_on_seed_epoch_and_index_only():
    """Not on what was loaded before."""
    data = SeededDataset(Counted(5), seed=3)
    first = data[2, 4]
    data[2, 1]
    random.random()

    assert first[1] == data[2, 4][1]
    assert first[1] != data[3, 4][1]
    assert first[1] != SeededDataset(Counted(5), seed=4)[2, 4][1]
    assert 5 == len(data)


def test_two_epochs_walked_through_at_once_are_two_epochs():
    """An iterator keeps the epoch and the position that it was asked for."""
    batches = Batches(Counted(6), seed=1, batch_size=2, shuffle=True)
    one, other = batches.epoch(0), batches.epoch(1, first=1)
    found = [[index.tolist() for index, _ in side] for side in (one, other)]

    assert found[0] == [index.tolist() for index, _ in batches.epoch(0)]
    assert found[1] == [index.tolist() for index, _ in batches.epoch(1)][1:]


@pytest.mark.parametrize("shuffle", [True, False])
def test_workers_give_the_same_batches(shuffle):
    """In every epoch, after an epoch that was left in its middle, and from any batch on."""
    alone = Batches(Counted(10), seed=5, batch_size=3, shuffle=shuffle)
    helped = Batches(Counted(10), seed=5, batch_size=3, shuffle=shuffle, workers=2)
    next(helped.epoch(7))
    for epoch, first in ((0, 0), (1, 2), (1, 0)):
        left, right = list(alone.epoch(epoch, first=first)), list(helped.epoch(epoch, first=first))

        assert 4 - first == len(left) == len(right)
        assert all(torch.equal(a, b) for pair in zip(left, right, strict=True) for a, b in zip(*pair, strict=True))


def test_walking_through_batches_draws_nothing():
    """The stream that dropout draws from is not touched by iterating."""
    batches = Batches(torch.zeros(6, 1), seed=1, batch_size=2, shuffle=True)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    iter(batches.epoch(0))

    assert torch.equal(before, torch.get_rng_state())


class Jittered(TensorDataset):
    """Rows with noise."""

    def __getitem__(self, index):
        return tuple(one + torch.rand(1) for one in super().__getitem__(index))


ROWS, NOISY = TensorDataset(torch.arange(6.0), torch.arange(6.0)), Jittered(torch.arange(6.0), torch.arange(6.0))


@pytest.mark.parametrize(
    ("dataset", "draws"),
    [
        (ROWS, False),
        (NOISY, True),
        (Subset(ROWS, [0, 1]), False),
        (Subset(NOISY, [0, 1]), True),
        (ConcatDataset([ROWS, Subset(ROWS, [2])]), False),
        (ConcatDataset([ROWS, NOISY]), True),
        ([(1, 2)], True),
    ],
    ids=["rows", "noisy", "part of rows", "part of noisy", "chain of rows", "chain with noisy", "list"],
)
def test_only_what_cannot_draw_is_not_seeded_for(dataset, draws):
    """Its samples move no generator; all others have theirs started for each sample, alone or in a batch."""
    seeded = SeededDataset(dataset, 1)
    before = torch.manual_seed(99).get_state()
    together = seeded.__getitems__([(0, 0)])

    assert draws == may_draw(dataset)
    assert draws == (not torch.equal(before, torch.get_rng_state()))
    assert [seeded[0, 0]] == together
