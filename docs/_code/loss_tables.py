"""Tables about losses that a program can write: what there is, what presets weigh, what errors and `explain` say."""

from __future__ import annotations

import inspect
from textwrap import dedent, fill
from typing import TYPE_CHECKING, Any

import torch
from loss_simulation import STAGES, dice_of, draw, shares

from mlc_hooks import MlcError
from mlc_losses import LossManager, get_preset_loss_config, losses
from mlc_losses.options import MODES
from mlc_losses.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARED = ("mode", "from_logits", "ignore_index", "reduction", "distributed", "check_inputs")
REGIONAL = ("smooth", "smooth_nr", "smooth_dr", "squared_pred", "batch", "include_background", "class_weights", "empty")
REGIONAL = (*REGIONAL, "label_smoothing")

ERRORS = {
    "errors_options": """
        make({"type": "dice", "smoth": 1.0})
        make({"type": "dice", "smooth": "1e-6"})
        make({"type": "dice", "class_weights": [1, 2]})
        make({"type": "bce", "mode": "multiclass"})
        make({"type": "tversky", "alpha": 0, "beta": 0})
        make({"type": "combined", "dice_weight": 1.0, "bce_config": {"gamma": 2.0}})
        make({"type": "combined", "dice_weight": 1.0, "smooth": 1.0})
        make({"type": "combined", "dice_weight": 1.0, "bce_weight": 1.0, "bce_config": {"mode": "multilabel"}})
    """,
    "errors_inputs": """
        dice(logits, (mask * 255).byte())
        dice(logits, mask[:, 0])
        dice(logits.sigmoid(), mask)
        dice(torch.randn(2, 3, 16, 16), mask)
        dice(logits, mask, mask=mask)
        dice(logits, mask, weight=-mask)
        classes(scores, torch.where(labels == 2, 255, labels))
        classes(scores, labels + 1)
        classes(scores, labels.float())
        classes(scores, scores.sigmoid())
    """,
}
"""Lines that fail, by the table that shows them; see `_surroundings` for their names."""


def write_loss_tables(write: Callable[[str, str], None]) -> None:
    """Hand every table to *write*, with a name."""
    write("losses.md", _losses())
    write("preset_shares.md", _preset_shares())
    write("presets.md", _presets())
    for name, lines in ERRORS.items():
        write(f"{name}.md", _errors(dedent(lines).strip().splitlines()))
    explained = LossManager.create_loss_function(get_preset_loss_config("focal_segmentation")).explain()
    write("explain.md", f"```text\n{explained}\n```\n")


def _losses() -> str:
    lines = ["| `type` | what it is | modes | options of its own | region options |", "|" + "---|" * 5]
    catalog = losses()
    for name in catalog.names():
        factory = catalog.factory(name)
        if type(factory).__module__ != "mlc_losses.lazy_class":
            continue
        parameters = inspect.signature(factory).parameters
        own = [_option(one) for one in parameters.values() if one.name not in {*SHARED, *REGIONAL}]
        regional = [one for one in REGIONAL if one in parameters]
        told = "all" if len(regional) == len(REGIONAL) else ", ".join(f"`{one}`" for one in regional) or "none"
        modes = [mode for mode in MODES if _works(lambda mode=mode, name=name: catalog.make(name, mode=mode))]
        formula = catalog.make(name).explain().splitlines()[0].split(" = ", 1)[1].replace("|", "\\|")
        where = "all" if len(modes) == len(MODES) else ", ".join(modes)
        help_text = inspect.getdoc(factory)
        lines.append(f"| `{name}` | {help_text} `{formula}` | {where} | {', '.join(own) or 'none'} | {told} |")
    return "\n".join(lines) + "\n"


def _option(one: inspect.Parameter) -> str:
    return f"`{one.name}={one.default!r}`"


def _works(make: Callable[[], object]) -> bool:
    try:
        make()
    except MlcError:
        return False
    return True


def _presets() -> str:
    lines = ["| preset | formula |", "|---|---|"]
    for name in PRESETS:
        loss = LossManager.create_loss_function(get_preset_loss_config(name))
        parts = []
        for part, component in loss.components.items():
            told = component.explain().splitlines()[0].split(" loss = ")[0]
            parts.append(f"{loss.weights[part]:g} · {told}")
        lines.append(f"| `{name}` | {' + '.join(parts)} |")
    return "\n".join(lines) + "\n"


def _preset_shares() -> str:
    head = [f"{stage}, {what}" for stage in STAGES for what in ("value", "gradient")]
    lines = [f"| preset | {' | '.join(head)} |", "|---|" + "---:|" * len(head)]
    cases = [draw(margin, noise) for margin, noise in STAGES.values()]
    for name in PRESETS:
        found = [shares(name, *case) for case in cases]
        cells = [f"{100 * one:.0f} %" for pair in found for one in pair]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    dice = [f"{dice_of(*case):.2f}" for case in cases]
    lines.append(f"| *Dice at 0.5* | {' | '.join(f'*{one}* |' for one in dice)}")
    return "\n".join(lines) + "\n"


def _errors(lines: Sequence[str]) -> str:
    """Return what each of *lines* raises, as it was raised."""
    told = []
    for line in lines:
        try:
            eval(line, _surroundings())
        except MlcError as error:
            message = fill(f"{type(error).__name__}: {error}", 100, subsequent_indent="    ", break_on_hyphens=False)
            told.append(f"```text\n>>> {line}\n{message}\n```\n")
        else:
            msg = f"{line} was to fail"
            raise RuntimeError(msg)
    return "\n".join(told)


def _surroundings() -> dict[str, Any]:
    draw_from = torch.Generator().manual_seed(0)
    make = LossManager.create_loss_function
    return {
        "torch": torch,
        "make": make,
        "dice": make({"type": "dice"}),
        "classes": make({"type": "dice", "mode": "multiclass"}),
        "logits": torch.randn(2, 1, 16, 16, generator=draw_from),
        "mask": (torch.rand(2, 1, 16, 16, generator=draw_from) < 0.3).float(),
        "scores": torch.randn(2, 3, 16, 16, generator=draw_from),
        "labels": torch.randint(0, 3, (2, 16, 16), generator=draw_from),
    }
