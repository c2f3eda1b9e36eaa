"""Configuration dictionaries make the losses that they describe, or say why not."""

import inspect

import pytest
import torch

from mlc_hooks import UnknownNameError
from mlc_losses import (
    BCELoss,
    CombinedLoss,
    DiceLoss,
    LossConfigError,
    LossInputError,
    LossManager,
    get_preset_loss_config,
    hooks,
    losses,
)
from mlc_losses.presets import PRESETS

create = LossManager.create_loss_function


@pytest.mark.parametrize(
    ("config", "same"),
    [
        ({"type": "dice"}, DiceLoss()),
        (
            {"type": "dice", "smooth": 1, "squared_pred": True, "batch": True},
            DiceLoss(smooth=1, squared_pred=True, batch=True),
        ),
        ({"type": "jaccard"}, DiceLoss(jaccard=True)),
        ({"type": "bce"}, BCELoss()),
        ({"type": "bce", "label_smoothing": 0.1}, BCELoss(label_smoothing=0.1)),
        ({"type": "focal"}, BCELoss(gamma=2.0, alpha=0.25)),
        ({"type": "focal", "gamma": 1, "alpha": None}, BCELoss(gamma=1)),
        ({"type": "mlc-losses:dice"}, DiceLoss()),
    ],
)
def test_single_losses(config, same):
    """A type with options is that loss with those options."""
    made = create(config)

    assert type(made) is type(same)
    assert made.explain() == same.explain()


def test_documented_combination():
    """Each component takes its weight and its own options."""
    loss = create(
        {
            "type": "combined",
            "dice_weight": 0.7,
            "bce_weight": 0.3,
            "dice_config": {"smooth": 1e-6, "jaccard": True},
            "bce_config": {"gamma": 2.0, "alpha": 0.25},
        }
    )
    pred, target = torch.randn(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    expected = 0.7 * DiceLoss(jaccard=True)(pred, target) + 0.3 * BCELoss(gamma=2.0, alpha=0.25)(pred, target)

    assert isinstance(loss, CombinedLoss)
    torch.testing.assert_close(loss(pred, target), expected)


def test_facts_about_the_prediction_are_said_once():
    """Mode and from_logits of a combination hold for all components; check_inputs is its own."""
    loss = create(
        {
            "type": "combined",
            "mode": "multilabel",
            "from_logits": False,
            "check_inputs": False,
            "dice_weight": 1,
            "bce_weight": 1,
        }
    )
    facts = [(one.mode, one.from_logits) for one in (loss, *loss.components.values())]

    assert [("multilabel", False)] * 3 == facts
    assert not loss.check_inputs
    with pytest.raises(LossInputError, match="probabilities"):
        create({"type": "combined", "from_logits": False, "dice_weight": 1})(
            torch.ones(1, 1, 2) * 3, torch.ones(1, 1, 2)
        )


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, r"'type' is None. Known: bce, combined, dice"),
        ({"typ": "dice"}, r"Did you mean 'typ'"),
        ({"type": 3}, "'type' is 3"),
        ("dice", "is a dictionary such as"),
        ({"type": "dice", 3: 4}, "names for keys, not 3"),
        ({"type": "dice", "smoth": 1}, "loss 'dice' does not take 'smoth'. Did you mean 'smooth'. It takes: batch"),
        ({"type": "jaccard", "jaccard": True}, "loss 'jaccard' does not take 'jaccard'"),
        ({"type": "dice", "smooth": "x"}, "smooth is 'x'"),
        ({"type": "combined"}, "needs components"),
        ({"type": "combined", "dice_wieght": 0.7}, "Did you mean 'dice_weight'"),
        ({"type": "combined", "dice_weight": 1, "dice_conf": {}}, "Did you mean 'dice_config'"),
        ({"type": "combined", "dice_weight": 1, "smooth": 1}, "does not take 'smooth'. Here it takes: check_inputs"),
        ({"type": "combined", "dice_weight": 1, "bce_config": {}}, "'bce_config' would be unused, .* no bce_weight"),
        ({"type": "combined", "dice_weight": 1, "dice_config": 3}, "dice_config is 3; give a dictionary"),
        ({"type": "combined", "dice_weight": 1, "dice_config": {"gamma": 2}}, "loss 'dice' does not take 'gamma'"),
        ({"type": "combined", "dice_weight": 1, "dice_config": {"mode": "binary"}}, "say it beside dice_weight"),
        ({"type": "combined", "dice_weight": "0.7"}, "dice_weight is '0.7'"),
        (
            {"type": "combined", "dice_weight": 1, "scheduler": {"type": "cosine"}},
            "schedules are not part of this release",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(config, says):
    """The message names the key and what is close."""
    with pytest.raises(LossConfigError, match=says):
        create(config)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "dise"}, "Unknown loss 'dise'. Did you mean 'dice'"),
        ({"type": "combined", "dise_weight": 1}, "Unknown loss 'dise'. Did you mean 'dice'"),
    ],
)
def test_unknown_types_are_named(config, says):
    """So does that for a name that nobody offers."""
    with pytest.raises(UnknownNameError, match=says):
        create(config)


def test_unknown_presets_are_named():
    """A preset that is not there is told from one that is close."""
    with pytest.raises(UnknownNameError, match=r"Did you mean 'focal_segmentation'\? Known: balanced_segmentation"):
        get_preset_loss_config("focal_segmentaton")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_fresh(name):
    """Changing a preset, deep inside too, changes it for nobody else."""
    mine = get_preset_loss_config(name)
    mine["dice_config"]["smooth"] = 1
    mine["dice_weight"] = 0

    assert get_preset_loss_config(name)["dice_config"]["smooth"] == 1e-6
    assert get_preset_loss_config(name)["dice_weight"] > 0


def test_there_are_the_documented_presets():
    """Five presets have the weights that their names promise."""
    weights = {name: (one["dice_weight"], one["bce_weight"]) for name, one in PRESETS.items()}

    assert weights == {
        "balanced_segmentation": (0.5, 0.5),
        "default_segmentation": (0.7, 0.3),
        "dice_focused": (0.8, 0.2),
        "focal_segmentation": (0.6, 0.4),
        "jaccard_based": (0.7, 0.3),
    }


@pytest.mark.parametrize(("factory", "made"), [(hooks.dice, DiceLoss), (hooks.bce, BCELoss)])
def test_offers_take_what_the_classes_take(factory, made):
    """Options and defaults by name are those of the class."""
    by_name, by_class = (inspect.signature(one).parameters for one in (factory, made))

    assert {n: p.default for n, p in by_name.items()} == {n: p.default for n, p in by_class.items()}


def test_catalog_lists_the_losses():
    """The names are those of the documentation."""
    assert {"bce", "combined", "dice", "focal", "jaccard"} <= set(losses().names())
