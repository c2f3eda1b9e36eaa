"""Pictures that a person can look at."""

import struct
import sys

import pytest
import torch

from mlc_trainer import ConfigError, read_journal
from mlc_trainer.pictures import draw_curves, draw_predictions


def size_of(path):
    """Return width and height of a PNG file, after looking at its marks."""
    content = path.read_bytes()
    assert b"\x89PNG\r\n\x1a\n" == content[:8]
    assert b"IEND" == content[-8:-4]
    return struct.unpack(">II", content[16:24])


def test_curves_of_a_run(trained, tmp_path):
    """Loss on the left, what is measured on the right; in a directory that is made."""
    path = tmp_path / "new" / "curves.png"
    draw_curves(read_journal(trained / "metrics.jsonl"), path)
    width, height = size_of(path)

    assert (1300, 520) == (width, height)
    assert 10_000 < path.stat().st_size < 500_000


def test_curves_of_a_run_that_was_killed_or_has_not_begun(tmp_path):
    """The place of the restart is marked; no epoch yet is an empty picture."""
    facts = {"event": "epoch", "train_loss": 1.0, "val_dice": 0.5}
    epochs = [{**facts, "epoch": epoch, "step": 3 * epoch} for epoch in (1, 2)]
    draw_curves([*epochs, {"event": "resumed", "epoch": 2, "step": 4}], tmp_path / "killed.png")
    draw_curves(epochs, tmp_path / "undisturbed.png")

    assert (tmp_path / "killed.png").read_bytes() != (tmp_path / "undisturbed.png").read_bytes()


def test_predictions_beside_the_truth(tmp_path):
    """A row for each image, and three columns for each class beside it."""
    images, truth = torch.rand(2, 1, 12, 10), torch.rand(2, 2, 12, 10) > 0.5
    path = tmp_path / "predictions.png"
    draw_predictions(
        images, truth.float(), torch.randn(2, 2, 12, 10), path, classes=("one", "two"), title="two classes"
    )
    width, height = size_of(path)

    assert width > 1000
    assert height > 300
    assert 10_000 < path.stat().st_size < 1_000_000


@pytest.mark.parametrize(("logit", "shade"), [(9.0, 1.0), (-9.0, 0.0)])
def test_a_mask_of_one_value_has_its_own_colour(logit, shade, tmp_path, monkeypatch):
    """What is found everywhere is white, and what is found nowhere is black, whatever else is in the picture."""
    figures = []
    monkeypatch.setattr("mlc_trainer.pictures._save", lambda figure, _: figures.append(figure))
    image, truth = torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    draw_predictions(image, truth, torch.full((1, 1, 4, 4), logit), tmp_path / "one.png", classes=("one",))
    _, real, found, _ = (axes.images[0] for axes in figures[0].axes)

    assert (1.0, shade) == tuple(float(one.norm(one.get_array()).max()) for one in (real, found))


def test_missing_matplotlib_is_said(tmp_path, monkeypatch):
    """With what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pictures need matplotlib: pip install 'mlc-trainer\[plots\]'"):
        draw_curves([], tmp_path / "curves.png")
