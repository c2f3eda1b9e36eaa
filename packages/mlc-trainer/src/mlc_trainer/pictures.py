"""Pictures of a run that a person can look at: curves, and predictions beside the truth. Needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_trainer.errors import ConfigError
from mlc_trainer.runs import names_of
from mlc_trainer.timeline import curves

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from mlc_trainer.runs import Run

__all__ = ["draw_curves", "draw_predictions", "draw_runs", "draw_samples", "first_samples"]

TRUTH, FOUND = "#2a9d4a", "#d1495b"


def draw_curves(journal: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss and metrics over epochs from the lines of a *journal*, with the places where the run was resumed."""
    figure = _figure((10, 4))
    epochs = [line for line in journal if line["event"] == "epoch"]
    resumed = [line for line in journal if line["event"] == "resumed"]
    per_epoch = epochs[0]["step"] if epochs else 1
    numbers = [line["epoch"] for line in epochs]
    losses = [name for name in ("train_loss", "val_loss") if epochs and name in epochs[0]]
    names = epochs[0] if epochs else {}
    metrics = [name for name in names if name.startswith("val_") and not name.endswith("loss")]
    for place, (title, shown) in enumerate((("loss", losses), ("on validation data", metrics))):
        axes = figure.add_subplot(1, 2, place + 1)
        for name in shown:
            axes.plot(numbers, [line[name] for line in epochs], label=name.replace("_", " "), marker=".", markersize=4)
        for line in resumed:
            axes.axvline(line["step"] / per_epoch, color="0.4", linestyle=":", linewidth=1.2)
            axes.text(
                line["step"] / per_epoch,
                0.98,
                " killed, resumed",
                fontsize=8,
                color="0.3",
                va="top",
                transform=axes.get_xaxis_transform(),
            )
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.grid(alpha=0.25)
        axes.legend(loc="best", fontsize=8)
    _save(figure, path)


def draw_runs(runs: Sequence[Run], metric: str, path: Path) -> None:
    """Draw *metric* of several *runs* over epochs in one picture, PNG or SVG, with the places where they were resumed.

    Raises:
        ConfigError: If matplotlib is missing.
    """
    figure = _figure((8, 4.5))
    axes = figure.add_subplot()
    for number, (run, name) in enumerate(zip(runs, names_of(runs), strict=True)):
        colour = f"C{number % 10}"
        (curve,) = curves(run.timeline, [metric])
        places = [place for place, _ in curve.points]
        values = [float("nan") if value is None else value for _, value in curve.points]
        axes.plot(places, values, label=_unread(name), marker=".", markersize=4, color=colour)
        for restart in run.timeline.restarts:
            axes.axvline(restart.place, color=colour, linestyle=":", linewidth=1.2)
    if any(run.timeline.restarts for run in runs):
        axes.plot([], [], color="0.4", linestyle=":", label="resumed")
    axes.set_xlabel("epoch")
    axes.set_title(_unread(metric))
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=8)
    _save(figure, path)


def draw_predictions(
    images: Tensor, truth: Tensor, prediction: Tensor, path: Path, *, classes: Sequence[str], title: str = ""
) -> None:
    """Draw a row for each image: the image, and for each class the truth, the prediction and where they differ.

    Args:
        images: `(N, 1, H, W)`.
        truth: `(N, C, H, W)`, 0 and 1.
        prediction: `(N, C, H, W)`, logits.
        path: Where to write the PNG.
        classes: A name for each channel.
        title: Above everything.
    """
    found = prediction > 0
    columns = 1 + 3 * len(classes)
    figure = _figure((1.7 * columns, 1.75 * len(images) + 0.7))
    figure.suptitle(f"{title}  (wrong: green was missed, red was invented)".strip(), fontsize=11)
    for row in range(len(images)):
        panels: list[tuple[str, Tensor, str | None]] = [("image", images[row, 0], "gray")]
        for channel, name in enumerate(classes):
            real, predicted = truth[row, channel] > 0.5, found[row, channel]
            panels += [(f"{name}: truth", real, "gray"), (f"{name}: predicted", predicted, "gray")]
            panels += [(f"{name}: wrong", _errors(real, predicted), None)]
        for column, (name, picture, colours) in enumerate(panels):
            axes = figure.add_subplot(len(images), columns, row * columns + column + 1)
            whole = {} if column == 0 else {"vmin": 0, "vmax": 1}  # a mask of ones only is white, as any other one is
            axes.imshow(picture.numpy().swapaxes(0, 1)[::-1], cmap=colours, **whole)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("0.6")  # a frame, or what is all white would not be seen
            if row == 0:
                axes.set_title(name, fontsize=9)
    _save(figure, path)


def first_samples(batches: Iterable[Sequence[Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of the first *count* samples.

    Raises:
        ConfigError: If there is none.
    """
    import torch

    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for some, truths in batches:
        inputs.extend(some)
        targets.extend(truths)
        if len(inputs) >= count:
            break
    if not inputs or count < 1:
        msg = f"there is nothing to draw: num_samples = {count}, and the data have {len(inputs)} samples"
        raise ConfigError(msg)
    return torch.stack(inputs[:count]), torch.stack(targets[:count])


def draw_samples(
    images: Tensor, truth: Tensor, prediction: Tensor, path: Path, *, classes: Sequence[str] | None = None
) -> None:
    """Draw what `draw_predictions` does, of anything that is segmented.

    Args:
        images: `(N, C, *spatial)`; the first channel is drawn.
        truth: `(N, K, *spatial)`, 0 and 1, or labels, `(N, *spatial)` or `(N, 1, *spatial)`.
        prediction: `(N, K, *spatial)`, logits.
        path: Where to write the PNG.
        classes: A name for each of the K channels; they are counted from 1 unless said.

    Raises:
        ConfigError: If prediction and truth do not fit, or there are not two or three dimensions of space.
    """
    import torch

    channels, space = prediction.shape[1], tuple(prediction.shape[2:])
    if len(space) not in {2, 3} or tuple(images.shape[2:]) != space or tuple(truth.shape[-len(space) :]) != space:
        msg = (
            f"images {tuple(images.shape)}, truth {tuple(truth.shape)} and prediction {tuple(prediction.shape)} must "
            "have the same two or three dimensions of space"
        )
        raise ConfigError(msg)
    if truth.ndim < prediction.ndim or truth.shape[1] < channels:  # labels: one class for each voxel
        labels = truth.reshape(len(truth), *space).long()
        lowest, highest = int(labels.min()), max(int(labels.max()), 1)
        if lowest < 0 or highest >= channels:
            msg = f"the truth has labels from {lowest} to {highest}, and the prediction has {channels} classes"
            raise ConfigError(msg)
        truth = torch.nn.functional.one_hot(labels, channels).movedim(-1, 1)
        prediction = torch.nn.functional.one_hot(prediction.argmax(1), channels).movedim(-1, 1) - 0.5
    if len(space) == 3:
        fullest = (truth > 0.5).sum((1, 3, 4)).argmax(1)
        images, truth, prediction = (
            torch.stack([one[:, place] for one, place in zip(part, fullest.tolist(), strict=True)])
            for part in (images, truth, prediction)
        )
    names = [str(number + 1) for number in range(channels)] if classes is None else classes
    draw_predictions(images[:, :1], truth, prediction, path, classes=names)


def _errors(real: Tensor, predicted: Tensor) -> Tensor:
    """Return a picture `(H, W, 3)`: grey where both agree on the class, one colour for missed, one for invented."""
    import torch

    colours = {"missed": TRUTH, "invented": FOUND}
    picture = torch.zeros(*real.shape, 3)
    picture[real & predicted] = 0.35
    for name, where in (("missed", real & ~predicted), ("invented", predicted & ~real)):
        red, green, blue = (int(colours[name][i : i + 2], 16) / 255 for i in (1, 3, 5))
        picture[where] = torch.tensor([red, green, blue])
    return picture


def _unread(name: str) -> str:
    """Return *name* such that no sign of it is taken for a formula, and no underscore for a line to leave out."""
    shown = name.replace("\\", "").replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, no global state
    except ImportError as error:
        msg = "pictures need matplotlib: pip install 'mlc-trainer[plots]'"
        raise ConfigError(msg) from error
    return Figure(figsize=size, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    if path.suffix.lower() not in {".png", ".svg", ".pdf", ".jpg", ".jpeg"}:
        msg = f"{path} is no picture; let it end in .png, .svg, .pdf or .jpg"
        raise ConfigError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
