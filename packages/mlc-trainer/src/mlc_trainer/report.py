"""One page about one run: a file of HTML that is complete by itself, to be sent, printed and kept."""

from __future__ import annotations

import base64
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING

from mlc_hooks.console import human_size
from mlc_trainer.files import replace_file
from mlc_trainer.markup import Markup, plain, tag
from mlc_trainer.report_charts import charts_of
from mlc_trainer.runs import read_environment
from mlc_trainer.settings import Setting, settings_of
from mlc_trainer.words import duration, moment, number, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlc_trainer.markup import Part
    from mlc_trainer.runs import Run

__all__ = ["render_report", "write_report"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # whatever got in, it could load nothing
MANY_EPOCHS = 40
LARGEST_PICTURE = 8 << 20  # bytes
PNG = b"\x89PNG\r\n\x1a\n"


def write_report(run: Run, path: Path) -> None:
    """Write the page about *run* to *path*, all of it or nothing.

    Raises:
        DiskFullError, StorageError: If it cannot be written.
    """
    replace_file(path, render_report(run))


def render_report(run: Run) -> str:
    """Return the page about *run*."""
    style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", content=POLICY, **{"http-equiv": "Content-Security-Policy"}),
        tag("title", f"{run.model_name}: {run.name}"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        *_headline(run),
        *_section("Curves", _charts(run)),
        *_section("Predictions", *_pictures(run)),
        *_section("Epochs", _epochs(run)),
        *_section("Checkpoints", _checkpoints(run)),
        *_section("Configuration", *_configuration(run)),
        *_section("Environment", _environment(run)),
        tag("footer", f"Written by mlc runs report; run {run.id or 'without an id'}. Times are UTC."),
    )
    return "<!DOCTYPE html>\n" + plain(tag("html", head, body, lang="en")) + "\n"


def _section(title: str, *content: Markup | None) -> Iterator[Markup]:
    shown = [one for one in content if one is not None]
    if shown:
        yield tag("section", tag("h2", title), *shown)


def _headline(run: Run) -> Iterator[Markup]:
    timeline = run.timeline
    yield tag("h1", f"{run.model_name}: {run.name} ", tag("span", run.state, class_=f"state {run.state}"))
    times = f", {moment(timeline.began_at)} to {moment(timeline.told_at)} UTC" if timeline.told_at else ""
    yield tag("div", f"{run.path}{times}", class_="where")
    yield from (tag("p", problem, class_="problem") for problem in run.problems)
    if timeline.error is not None:
        epoch, step = timeline.latest
        yield tag("p", f"Stopped in epoch {epoch}, at step {step}: {timeline.error}", class_="problem")
    facts: list[tuple[str, str, str]] = []
    if run.monitor is not None:
        name, best = run.monitor.metric, run.best
        value = None if best is None else best.metrics.get(name)
        facts.append((f"best {name}", number(value), f"epoch {best.number}" if best else "not measured yet"))
        if run.last is not None:
            facts.append((f"last {name}", number(run.last.metrics.get(name)), f"epoch {run.last.number}"))
    facts.append(("epochs", str(run.done), f"of {run.planned}" if run.planned else ""))
    each = f"{duration(timeline.seconds_per_epoch)} an epoch" if timeline.seconds_per_epoch is not None else ""
    facts.append(("trained for", duration(timeline.seconds), each))
    where = ", ".join(f"in {one.where}" for one in timeline.restarts[-3:])
    facts.append(("restarts", str(len(timeline.restarts)), where))
    size = human_size(sum(one.size for one in run.checkpoints)) if run.checkpoints else ""
    facts.append(("checkpoints kept", str(len(run.checkpoints)), size))
    items = [tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in facts]
    yield tag("dl", *items, class_="facts")


def _charts(run: Run) -> Markup | None:
    charts = charts_of(run)
    in_two = " two" if len(charts) in {2, 4} else ""
    return tag("div", *[chart.draw() for chart in charts], class_=f"charts{in_two}") if charts else None


def _table(heads: Sequence[tuple[str, str]], rows: Sequence[tuple[str | None, Sequence[Part]]]) -> Markup:
    """Return a table whose columns are called and look as *heads* say, in a frame that scrolls."""
    first = tag("tr", *[tag("th", *_foldable(name), class_=look or None, scope="col") for name, look in heads])
    body = [
        tag(
            "tr",
            *[tag("td", cell, class_=look or None) for cell, (_, look) in zip(cells, heads, strict=True)],
            class_=of,
        )
        for of, cells in rows
    ]
    return tag("div", tag("table", tag("thead", first), tag("tbody", *body)), class_="scroll")


def _foldable(name: str) -> Sequence[Part]:
    """Return *name* such that a narrow column may break it at its underscores."""
    first, *rest = name.split("_")
    return [first, *(part for word in rest for part in ("_", tag("wbr"), word))]


def _epochs(run: Run) -> Markup | None:
    epochs, names = run.timeline.epochs, run.timeline.metrics
    if not epochs:
        return None
    best = run.best
    heads = [("epoch", "fixed"), ("took", "number"), *[(name, "number") for name in names], ("ended (UTC)", "fixed")]
    rows = [
        (
            "best" if best is epoch else None,
            (
                f"{epoch.number} ★ best" if best is epoch else epoch.number,
                duration(epoch.seconds),
                *[number(epoch.metrics.get(name)) for name in names],
                moment(epoch.at),
            ),
        )
        for epoch in epochs
    ]
    if len(rows) <= MANY_EPOCHS:
        return _table(heads, rows)
    shown = [row for row in rows if row[0]] + rows[-5:]
    every = tag("details", tag("summary", f"all {len(rows)} epochs"), _table(heads, rows))
    return tag("div", tag("p", "The best and the last five:"), _table(heads, shown), every)


def _checkpoints(run: Run) -> Markup | None:
    if not run.checkpoints:
        return None
    leading: dict[str, list[str]] = {}
    for link, entry in run.links.items():
        leading.setdefault(entry, []).append(link)
    monitored = run.monitor.metric if run.monitor else None
    measured = [(monitored, "number")] if monitored else []
    heads = [("name", "fixed"), ("links", "fixed"), ("epoch", "number"), ("step", "number"), *measured]
    heads += [("size", "number"), ("saved", "fixed"), ("why", "long")]
    rows = [
        (
            "best" if "best" in leading.get(one.name, []) else None,
            (
                one.name,
                ", ".join(sorted(leading.get(one.name, []))),
                one.epoch,
                one.step,
                *([number(one.metrics.get(monitored))] if monitored else []),
                human_size(one.size),
                moment(one.created_at),
                "; ".join(one.reasons),
            ),
        )
        for one in run.checkpoints
    ]
    return _table(heads, rows)


def _configuration(run: Run) -> Iterator[Markup]:
    if run.config is None:
        return
    yield tag("p", "Marked is what was chosen; the rest is what it is if nobody says anything.", class_="soft")
    sections = []
    for name, members in groupby(settings_of(run.config), key=lambda one: one.name.partition(".")[0]):
        rows = [_setting(one, name) for one in members]
        sections.append(tag("section", tag("h3", name), tag("table", tag("tbody", *rows))))
    yield tag("div", *sections, class_="settings")


def _setting(one: Setting, table: str) -> Markup:
    name = one.name.removeprefix(f"{table}.")
    hint = f"default: {setting(one.default)}" if one.chosen and one.has_default else None
    return tag(
        "tr", tag("td", name), tag("td", setting(one.value), title=hint), class_="chosen" if one.chosen else None
    )


def _environment(run: Run) -> Markup | None:
    found, restarts = read_environment(run), run.timeline.restarts
    parts = []
    if found:
        rows = [tag("tr", tag("td", name), tag("td", _said(value))) for name, value in found.items()]
        newest = "As the newest checkpoint has it."
        parts.append(tag("div", tag("p", newest, class_="soft"), tag("table", tag("tbody", *rows))))
    told = []
    for one in restarts:
        at = f", {moment(one.at)} UTC" if one.at else ""
        changes = [tag("li", change) for change in one.differences]
        what = tag("ul", *changes) if changes else tag("p", "Everything was as before.", class_="soft")
        details = [("restored", *row) for row in one.restored.items()]
        details += [("not restored", *row) for row in one.not_restored.items()]
        told.append(
            tag(
                "div",
                tag("h3", f"Resumed from {one.source} in {one.where}, at step {one.step}{at}"),
                what,
                tag("p", f"The rest: {one.verdict}.") if one.verdict else "",
                tag("details", tag("summary", "What was restored"), _plain_table(details)) if details else "",
            )
        )
    if told:
        parts.append(tag("div", *told))
    return tag("div", *parts, class_="aside") if parts else None


def _plain_table(rows: Sequence[Sequence[str]]) -> Markup:
    return tag("table", tag("tbody", *[tag("tr", *[tag("td", cell) for cell in row]) for row in rows]))


def _said(value: object) -> str:
    """Return what an environment says, a text as it is."""
    return value if isinstance(value, str) else setting(value)


def _pictures(run: Run) -> Iterator[Markup]:
    for path in sorted(run.path.glob("*prediction*.png")):
        try:
            content = path.read_bytes() if path.stat().st_size <= LARGEST_PICTURE else b""
        except OSError:
            continue
        if content.startswith(PNG):
            data = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
            words = f"{path.name}: the image, the truth, what was predicted, and where they differ"
            yield tag("figure", tag("img", src=data, alt=words), tag("figcaption", path.name), class_="picture")
