"""Configuration dictionaries make the losses that they describe, or say why not."""

import inspect

import pytest
import torch

from mlc_hooks import UnknownNameError
from mlc_losses import (
    BCELoss,
    CombinedLoss,
    CrossEntropyLoss,
    DeepSupervisionLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    LossConfigError,
    LossInputError,
    LossManager,
    LovaszLoss,
    TverskyLoss,
    get_preset_loss_config,
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
        ({"type": "log_dice", "smooth": 1}, DiceLoss(log=True, smooth=1)),
        ({"type": "tversky"}, TverskyLoss()),
        ({"type": "focal_tversky"}, TverskyLoss(gamma=0.75)),
        ({"type": "focal_tversky", "gamma": 0.5, "alpha": 0.5}, TverskyLoss(gamma=0.5, alpha=0.5)),
        ({"type": "generalized_dice", "mode": "multiclass"}, GeneralizedDiceLoss(mode="multiclass")),
        ({"type": "lovasz", "empty": "skip"}, LovaszLoss(empty="skip")),
        ({"type": "cross_entropy"}, CrossEntropyLoss()),
        (
            {"type": "cross_entropy", "mode": "multiclass", "class_weights": [1, 2]},
            CrossEntropyLoss(class_weights=[1, 2]),
        ),
        ({"type": "focal_cross_entropy"}, CrossEntropyLoss(gamma=2)),
        ({"type": "dice", "deep_supervision": True}, DeepSupervisionLoss(DiceLoss())),
        ({"type": "dice", "deep_supervision": [4, 1]}, DeepSupervisionLoss(DiceLoss(), weights=[4, 1])),
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


def test_facts_about_the_tensors_are_said_once():
    """Mode, from_logits and ignore_index of a combination hold for all components; check_inputs is its own."""
    loss = create(
        {
            "type": "combined",
            "mode": "multilabel",
            "from_logits": False,
            "ignore_index": 255,
            "check_inputs": False,
            "dice_weight": 1,
            "bce_weight": 1,
        }
    )
    facts = [(one.mode, one.from_logits, one.ignore_index) for one in (loss, *loss.components.values())]

    assert [("multilabel", False, 255)] * 3 == facts
    assert not loss.check_inputs
    with pytest.raises(LossInputError, match="probabilities"):
        create({"type": "combined", "from_logits": False, "dice_weight": 1})(
            torch.ones(1, 1, 2) * 3, torch.ones(1, 1, 2)
        )


def test_options_of_all_components_are_said_once_or_apart():
    """Label smoothing, reduction and distributed are for all components, or for those that have them."""
    both = create({"type": "combined", "label_smoothing": 0.1, "reduction": "sum", "dice_weight": 1, "bce_weight": 1})
    one = create({"type": "combined", "dice_weight": 1, "bce_weight": 1, "bce_config": {"label_smoothing": 0.1}})

    assert [0.1, 0.1] == [loss.term.smoothing for loss in both.components.values()]
    assert ["sum", "sum"] == [loss.reduction for loss in both.components.values()]
    assert [0, 0.1] == [loss.term.smoothing for loss in one.components.values()]


def test_nobody_looks_where_checks_are_off():
    """`check_inputs` of a combination holds for what its components look at beside it, too."""
    config = {"type": "combined", "lovasz_weight": 1}
    pred, soft = torch.randn(2, 1, 8), torch.rand(2, 1, 8)

    assert torch.isfinite(create({**config, "check_inputs": False})(pred, soft))
    with pytest.raises(LossInputError, match="holds fractions"):
        create(config)(pred, soft)


def test_component_may_have_another_name():
    """Two components of one type are told apart by their names."""
    loss = create(
        {
            "type": "combined",
            "dice_weight": 1,
            "coarse_weight": 0.5,
            "coarse_config": {"type": "dice", "batch": True},
        }
    )
    pred, target = torch.randn(2, 1, 9), torch.ones(2, 1, 9)

    assert list(loss.get_loss_components(pred, target))[::4] == ["dice_loss", "coarse_loss", "total"]
    torch.testing.assert_close(loss(pred, target), DiceLoss()(pred, target) + 0.5 * DiceLoss(batch=True)(pred, target))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("mode", ["binary", "multilabel", "multiclass"])
def test_presets_are_for_every_mode(name, mode):
    """A preset is the same mixture in every mode; of classes the voxel by voxel half is cross entropy."""
    config = get_preset_loss_config(name, mode=mode)
    channels = 1 if mode == "binary" else 3
    pred = torch.randn(2, channels, 6, 6)
    target = torch.randint(0, 3, (2, 6, 6)) if mode == "multiclass" else torch.ones(2, channels, 6, 6)
    loss = create(config)
    weights = list(loss.weights.values())

    assert torch.isfinite(loss(pred, target))
    assert loss.mode == mode
    assert weights == [PRESETS[name]["dice_weight"], PRESETS[name]["bce_weight"]]
    assert loss.components[list(loss.weights)[1]].term.gamma == PRESETS[name].get("bce_config", {}).get("gamma", 0)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, r"'type' is None. Known: bce, combined, cross_entropy, dice"),
        ({"typ": "dice"}, r"'type' is None. Write 'type' in the place of 'typ'. Known"),
        ({"type": "combined", "combined_weight": 1}, "combined_config names none of its components; name them there"),
        ({"type": 3}, "'type' is 3"),
        ("dice", "is a dictionary such as"),
        ({"type": "dice", 3: 4}, "names for keys, not 3"),
        ({"type": "dice", "smoth": 1}, "loss 'dice' does not take 'smoth'. Did you mean 'smooth'. It takes: batch"),
        ({"type": "jaccard", "jaccard": True}, "loss 'jaccard' does not take 'jaccard'"),
        ({"type": "dice", "smooth": "x"}, "smooth is 'x'"),
        ({"type": "combined"}, "needs components"),
        ({"type": "combined", "dice_wieght": 0.7}, "Did you mean 'dice_weight'"),
        ({"type": "combined", "dice_weight": 0.7, "bce_weigth": 0.3}, "Did you mean 'bce_weight'"),
        ({"type": "combined", "dice_weight": 1, "dice_conf": {}}, "Did you mean 'dice_config'"),
        ({"type": "combined", "dice_weight": 1, "smooth": 1}, "'smooth' is an option of .* say it in dice_config"),
        (
            {"type": "combined", "dice_weight": 1, "smooooth": 1},
            "does not take 'smooooth'. Here it takes: check_inputs",
        ),
        (
            {"type": "combined", "dice_weight": 1, "bce_weight": 1, "include_background": False},
            "say it in dice_config or bce_config",
        ),
        (
            {"type": "combined", "reduction": "sum", "dice_weight": 1, "dice_config": {"reduction": "sum"}},
            "dice_config has 'reduction', and so has the combination for all components; say it once",
        ),
        (
            {"type": "combined", "label_smoothing": 0.1, "lovasz_weight": 1},
            "'lovasz' does not take 'label_smoothing', which the combination has for all",
        ),
        ({"type": "combined", "dice_weight": 1, "dice_config": {"ignore_index": 3}}, "say it beside dice_weight"),
        (
            {"type": "combined", "dice_weight": 1, "dice_config": {"deep_supervision": True}},
            "say it beside dice_weight",
        ),
        ({"type": "combined", "mode": "multiclass", "dice_weight": 1, "bce_weight": 1}, "give cross_entropy"),
        ({"type": "combined", "mode": "binary", "cross_entropy_weight": 1}, "wants bce"),
        ({"type": "dice", "deep_supervision": "yes"}, "deep_supervision is 'yes'; give True, or a list"),
        ({"type": "dice", "deep_supervision": [0, 0]}, "one above 0"),
        ({"type": "dice", "deep_supervision": [1, -1]}, r"weights\[1\] is -1"),
        ({"type": "dice", "reduction": "none", "deep_supervision": True}, "reduction='none' gives maps"),
        ({"type": "combined", "dice_weight": 1, "bce_config": {}}, "'bce_config' would be unused, .* no bce_weight"),
        ({"type": "combined", "dice_weight": 1, "dice_config": 3}, "dice_config is 3; give a dictionary"),
        ({"type": "combined", "dice_weight": 1, "dice_config": {"gamma": 2}}, "loss 'dice' does not take 'gamma'"),
        ({"type": "combined", "dice_weight": 1, "dice_config": {"mode": "binary"}}, "say it beside dice_weight"),
        ({"type": "combined", "dice_weight": "0.7"}, "dice_weight is '0.7'"),
        (
            {"type": "combined", "dice_weight": 1, "scheduler": {"type": "cosine"}},
            r"nothing would step; .*create_loss_scheduler\(loss, config\['scheduler'\]\)",
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


def test_offers_take_what_the_classes_take():
    """A factory knows the options of its class and of the classes that it derives from, and what it decides itself."""
    options = inspect.signature(losses().factory("jaccard")).parameters
    focal = inspect.signature(losses().factory("focal")).parameters

    assert {"smooth", "log", "mode", "reduction", "check_inputs", "include_background"} <= set(options)
    assert "jaccard" not in options
    assert (2.0, 0.25) == (focal["gamma"].default, focal["alpha"].default)


def test_catalog_lists_the_losses():
    """The names are those of the documentation, and each says what it is."""
    names = {
        "bce",
        "combined",
        "cross_entropy",
        "dice",
        "focal",
        "focal_cross_entropy",
        "focal_tversky",
        "generalized_dice",
        "jaccard",
        "log_dice",
        "lovasz",
        "tversky",
    }

    assert names <= set(losses().names())
    assert [] == [name for name in names if not losses().factory(name).__doc__]
