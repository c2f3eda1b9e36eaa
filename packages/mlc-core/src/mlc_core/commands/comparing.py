"""The command that holds two checkpoints against each other: `diff`."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING

import attrs
import click

from mlc_core.commands.options import examples
from mlc_core.difference import compare
from mlc_core.reader import open_checkpoint
from mlc_hooks import MlcError
from mlc_hooks.console import json_option, print_json, print_table

if TYPE_CHECKING:
    from mlc_core.difference import Difference, ItemDifference, TensorDifference

__all__ = ["commands"]

TROUBLE = 2  # as diff and cmp say it: 0 is the same, 1 is different


@click.command(
    short_help="Hold two checkpoints against each other, tensor by tensor.",
    epilog=examples(
        "mlc checkpoints diff unet/best unet/latest",
    ),
)
@click.argument("a")
@click.argument("b")
@click.option("--brief", "-q", is_flag=True, help="Leave out the tensors: metrics and items only.")
@json_option
def diff(a: str, b: str, *, brief: bool, as_json: bool) -> None:
    """Hold the checkpoints A and B against each other: metrics, items, and every tensor. Needs no torch.

    Files of equal digest are equal and are not read. With NumPy, the largest and the mean absolute change of each
    floating-point tensor is told. The exit status is 0 if they hold the same, 1 if not, 2 if one cannot be read.
    """
    try:
        before, after = open_checkpoint(a), open_checkpoint(b)
        found = compare(before, after)
    except MlcError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(TROUBLE) from error
    if as_json:
        document = {"a": str(before.location), "b": str(after.location), "same": found.same, **attrs.asdict(found)}
        print_json(document)
    else:
        click.echo(f"A  {before.location}\nB  {after.location}")
        _print(found, brief=brief)
    if not found.same:
        raise SystemExit(1)


def _print(found: Difference, *, brief: bool) -> None:
    if found.metrics:
        metrics = [(name, _number(a), _number(b), _step(a, b)) for name, (a, b) in found.metrics.items()]
        print_table("Metrics", ("metric", "A", "B", "B - A"), metrics)
    print_table(
        "Items", ("item", "verdict", "what differs"), [(one.name, one.verdict, _words(one)) for one in found.items]
    )
    shown = [one for one in found.items if any(each.verdict != "equal" for each in one.tensors)]
    if brief or not shown:
        return
    for one in shown:
        rows = [_row(each) for each in one.tensors if each.verdict != "equal"]
        print_table(one.name, ("tensor", "verdict", "A", "B", "largest change", "mean change"), rows)
    if find_spec("numpy") is None:
        click.echo("Install numpy to be told by how much the tensors changed.")


def _words(item: ItemDifference) -> str:
    verdicts = [one.verdict for one in item.tensors]
    counted = {word: verdicts.count(word) for word in dict.fromkeys(verdicts)}
    tensors = [f"{count} {word}" for word, count in sorted(counted.items())]
    parts = [f"tensors: {', '.join(tensors)}"] if tensors and set(verdicts) != {"equal"} else []
    return "; ".join([*parts, *([] if item.values_equal else ["values that are no tensors"])])


def _row(one: TensorDifference) -> tuple[object, ...]:
    sides = [side and f"{side[0]} {' × '.join(map(str, side[1]))}".rstrip() for side in (one.before, one.after)]
    change = one.change
    return one.name, one.verdict, *sides, *((_number(change.largest), _number(change.mean)) if change else (None, None))


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def _step(a: float | None, b: float | None) -> str | None:
    return None if a is None or b is None or not math.isfinite(b - a) else f"{b - a:+.4g}"


commands: tuple[click.Command, ...] = (diff,)
