"""Processes that train together train as one process with the whole batch would."""

import pytest
import ranks
import torch
from torch import distributed, multiprocessing

from mlc_losses import BCELoss, DiceLoss, LossConfigError, LossManager, LovaszLoss

WORLD = 2

pytestmark = [
    pytest.mark.skipif(not distributed.is_available(), reason="this torch has no distributed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def agree(one, other):
    """Return whether a value and gradients are the same but for the order of additions."""
    pairs = zip((one[0], *one[1]), (other[0], *other[1]), strict=True)
    return all(torch.allclose(a, b, rtol=1e-11, atol=1e-13) for a, b in pairs)


def test_several_processes_are_one(tmp_path):
    """Value and averaged gradients are those of one process, however samples and masks are spread; so are second ones.

    A second derivative goes through the loss alone, so nobody has averaged it: it is that of the sum over processes.
    """
    multiprocessing.spawn(ranks.run, args=(WORLD, str(tmp_path)), nprocs=WORLD)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    twice = torch.cat([each.pop("twice") for each in found])
    wrong = [
        case
        for case in ranks.CASES
        for each in found
        if not agree(each[case], ranks.train(case[0], case[2], slice(0, 4), together=False))
    ]

    assert [] == wrong
    torch.testing.assert_close(twice, WORLD * ranks.differentiate_twice(slice(0, 4), together=False))


@pytest.mark.parametrize("name", ranks.LOSSES)
def test_one_process_is_as_before(name):
    """Without a group, to be distributed changes no bit."""
    plain = ranks.train(name, "some", slice(0, 4), together=False)
    options = {**ranks.LOSSES[name], "distributed": True}
    loss = LossManager.create_loss_function(options)
    model = ranks.Model(levels=2 if name == "deeply supervised" else 1)
    images, target, what_counts = ranks.make_batch(name, "some")
    value = loss(model(images), target, **what_counts)
    value.backward()

    assert torch.equal(plain[0], value)
    assert all(torch.equal(one, two.grad) for one, two in zip(plain[1], model.parameters(), strict=True))


@pytest.mark.parametrize("reduction", ["sample", "none"])
@pytest.mark.parametrize("kind", [BCELoss, DiceLoss, LovaszLoss])
def test_what_is_kept_apart_is_not_added_up(kind, reduction):
    """A loss for each sample has nothing to do with other processes, so asking for both is refused."""
    with pytest.raises(LossConfigError, match="distributed=True"):
        kind(reduction=reduction, distributed=True)


def test_what_would_be_sorted_over_processes_is_refused():
    """Lovász of the whole batch follows from the order of all its errors, which no process knows."""
    with pytest.raises(LossConfigError, match="distributed=True with batch=True would sort"):
        LovaszLoss(batch=True, distributed=True)
