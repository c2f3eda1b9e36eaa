"""The command that finds versions of all models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlc_hooks.console import json_option, print_json, print_table, say
from mlc_registry.commands.group import open_registry, root_option
from mlc_registry.commands.shown import time_shown, version_facts
from mlc_registry.metrics import metrics_of
from mlc_registry.search import MOST, read_metric

if TYPE_CHECKING:
    from mlc_registry.records import ModelVersion

__all__ = ["search"]


@click.command()
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("--model", metavar="NAME", help="Of this model only.")
@click.option("--tag", "tags", metavar="KEY[=VALUE]", multiple=True, help="With this tag; more than once: with all.")
@click.option("--stage", help="A stage that points to the version now.")
@click.option("--metric", "metrics", metavar="COMPARISON", multiple=True, help="As in 'dice>=0.9', quoted.")
@click.option("--dataset", help="Trained on this data set, by its whole text.")
@click.option("--run", help="Of this training run.")
@click.option("--commit", help="Of this commit of the training code.")
@click.option("--checkpoint", help="Of this checkpoint.")
@click.option("--yanked", is_flag=True, help="Yanked and removed versions, too.")
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="How many at once.")
@click.option("--after", metavar="PAGE", help="Those behind a page, which its last line named.")
@click.option("--all", "all_pages", is_flag=True, help="All pages.")
@root_option
@json_option
def search(root: str, *, limit: int, after: str | None, all_pages: bool, as_json: bool, **asked: Any) -> None:
    """Find versions of all models, the last published first.

    WORDs are looked for in names, descriptions, notes, tags and data sets, whatever their case; of the last one a
    beginning will do. Every condition must hold. As in:

    mlc registry search brain --tag task=segmentation --stage production --metric 'dice>=0.9'
    """
    asked["tags"] = _read_tags(asked["tags"])
    words = asked.pop("words")
    with open_registry(root) as opened:
        page = opened.search(*words, **asked, limit=limit, after=after)
        found = list(page.versions)
        while all_pages and page.next is not None:
            page = opened.search(*words, **asked, limit=limit, after=page.next)
            found += page.versions
        stages = {name: opened.stages(name) for name in {one.model for one in found}}
    if as_json:
        print_json({"versions": [version_facts(one, stages[one.model]) for one in found], "next": page.next})
        return
    metrics = list(dict.fromkeys(read_metric(one)[0] for one in asked["metrics"]))
    rows = [
        (
            one.model,
            one.version,
            ", ".join(stage.name for stage in stages[one.model] if stage.version == one.version),
            *(metrics_of(one).get(name) for name in metrics),
            time_shown(one.created_at),
            _about(one),
        )
        for one in found
    ]
    print_table("Found", ("model", "version", "stages", *metrics, "published", "about"), rows)
    if page.next is not None:
        say(f"There are more: --after {page.next}, or --all", err=True)


def _about(one: ModelVersion) -> str:
    if one.yanked:
        return f"{'removed' if one.removed else 'yanked'}: {one.yank_reason}"
    return one.description


def _read_tags(pairs: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key in found:
            msg = f"--tag {pair!r} comes twice"
            raise click.UsageError(msg)
        found[key] = value if equals else None
    return found
