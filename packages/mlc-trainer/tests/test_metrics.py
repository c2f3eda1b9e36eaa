"""What is measured, held against counting by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlc_losses import LossManager
from mlc_trainer import ConfigError
from mlc_trainer.measure import bind_loss, measure
from mlc_trainer.metrics import DiceScore


def test_dice_of_an_example_made_by_hand():
    """Two voxels in common, three found, four true: 2·2 / (3+4); the empty channel is found empty and scores 1."""
    found = torch.tensor([[[1.0, 2.0, 3.0, -1.0, -2.0, 0.0]], [[-1.0] * 6]]).transpose(0, 1)
    truth = torch.tensor([[[1.0, 1.0, 0.0, 1.0, 1.0, 0.0]], [[0.0] * 6]]).transpose(0, 1)
    score = DiceScore(["one", "none"])
    score.update(found, truth)

    assert {"dice": (4 / 7 + 1) / 2, "dice_one": 4 / 7, "dice_none": 1.0} == score.compute()


def test_dice_of_what_is_missed_or_invented():
    """Nothing in common is 0."""
    score = DiceScore(["missed", "invented"])
    score.update(torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[[1.0], [0.0]]]))

    assert {"dice": 0.0, "dice_missed": 0.0, "dice_invented": 0.0} == score.compute()


masks = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=6, max_size=6)


@given(batches=st.lists(st.tuples(masks, masks), min_size=1, max_size=4), order=st.randoms(use_true_random=False))
def test_dice_is_what_counting_gives_in_any_order(batches, order):
    """Voxel by voxel in plain Python, over all batches; shuffling them changes no bit."""

    def score(pairs):
        metric = DiceScore(["a", "b"])
        for found, truth in pairs:
            logits = torch.tensor(found).float().T.reshape(1, 2, 2, 3) * 2 - 1
            metric.update(logits, torch.tensor(truth).float().T.reshape(1, 2, 2, 3))
        return metric.compute()

    expected = {}
    for channel, name in enumerate("ab"):
        found = [voxel[channel] for batch, _ in batches for voxel in batch]
        truth = [voxel[channel] for _, batch in batches for voxel in batch]
        both = sum(one and other for one, other in zip(found, truth, strict=True))
        either = sum(found) + sum(truth)
        expected[f"dice_{name}"] = 2 * both / either if either else 1.0
    expected["dice"] = (expected["dice_a"] + expected["dice_b"]) / 2
    shuffled = list(batches)
    order.shuffle(shuffled)

    assert expected == score(batches) == score(shuffled)


@pytest.mark.parametrize("shapes", [((1, 2, 4), (1, 2, 5)), ((1, 3, 4), (1, 3, 4)), ((4,), (4,))])
def test_dice_of_what_does_not_agree_is_refused(shapes):
    """With both shapes and the classes."""
    with pytest.raises(ConfigError, match=r"must agree, with a channel for each of 2 classes \(grey, white\)"):
        DiceScore(["grey", "white"]).update(*map(torch.zeros, shapes))


@pytest.mark.parametrize("classes", [[], ["a", "a"]])
def test_dice_needs_names(classes):
    """One or more, each once."""
    with pytest.raises(ConfigError, match="must be one or more names, each once"):
        DiceScore(classes)


def test_components_come_with_the_loss():
    """From the same pass; a loss of one part has none."""
    inputs, truth = torch.randn(1, 1, 4), torch.ones(1, 1, 4)
    combined = LossManager.create_loss_function({"type": "combined", "dice_weight": 0.5, "bce_weight": 0.5})
    single = LossManager.create_loss_function({"type": "bce"})

    assert {"loss", "dice_loss", "bce_loss"} == set(bind_loss(combined)(inputs, truth))
    assert torch.equal(bind_loss(combined)(inputs, truth)["loss"], combined(inputs, truth))
    assert {"loss"} == set(bind_loss(single)(inputs, truth))


def test_measuring_leaves_no_trace():
    """Mode, weights and gradients are as before; the mean is over samples, not over batches."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).train()
    model(torch.randn(4, 2)).sum().backward()
    before = [one.clone() for one in [*model.state_dict().values(), *(one.grad for one in model.parameters())]]

    class Mean:
        """The mean of the target."""

        def __call__(self, prediction, target):
            return target.mean()

    batches = [(torch.zeros(3, 2), torch.full((3, 2), 1.0)), (torch.zeros(1, 2), torch.full((1, 2), 5.0))]
    found = measure(model, batches, loss=Mean(), metric=None, device=torch.device("cpu"), seed=0)

    assert {"val_loss": 2.0} == found
    assert model.training
    after = [*model.state_dict().values(), *(one.grad for one in model.parameters())]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_metric_that_says_tensors():
    """They become numbers."""

    class Constant:
        """Always the same."""

        def update(self, prediction, target):
            """Take nothing."""

        def compute(self):
            """Return a tensor."""
            return {"one": torch.tensor(1)}

    batch = (torch.zeros(1, 1), torch.zeros(1, 1))
    loss = torch.nn.functional.mse_loss
    found = measure(torch.nn.Identity(), [batch], loss=loss, metric=Constant(), device=torch.device("cpu"), seed=0)

    assert ({"val_one": 1.0, "val_loss": 0.0}, float) == (found, type(found["val_one"]))
