"""The commands that show a registry as a whole: a tree of versions, and directories."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import attrs
import click

from mlc_hooks.console import json_option, print_json, printable, say, stdout
from mlc_registry.commands.group import open_registry, root_option
from mlc_registry.errors import VersionNotFoundError
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text
    from rich.tree import Tree

    from mlc_registry.records import ModelVersion, Stage
    from mlc_registry.registry import ModelRegistry

__all__ = ["Picture", "rebuild", "tree"]

OF_ONE = 50
OF_EACH = 5


@attrs.frozen
class Picture:
    """Some versions of one model, and what is said of them."""

    model: str
    versions: Sequence[ModelVersion]
    stages: Sequence[Stage]
    latest: Version | None
    more: bool

    @property
    def next(self) -> str | None:
        """Return what those that are left out are below."""
        return str(self.versions[-1].version) if self.more else None

    def stages_of(self, version: Version) -> list[str]:
        """Return the stages that point to *version*."""
        return [one.name for one in self.stages if one.version == version]


@click.command()
@click.argument("name", required=False)
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"How many versions of a model. [default: {OF_ONE}; {OF_EACH} of each]"
)
@click.option("--below", metavar="VERSION", help="Only versions of NAME that are lower than this one.")
@root_option
@json_option
def tree(name: str | None, limit: int | None, below: str | None, root: str, *, as_json: bool) -> None:
    """Draw the versions of a model, or of all, as a tree.

    Major versions, minor versions, versions, as in: mlc registry tree brain-tissue

    The highest come first. Each says where stages point to it, whether it is a pre-release, yanked or removed, and what
    it was made from. What is left out is told at the end.
    """
    if below is not None and name is None:
        msg = "--below needs the NAME of a model"
        raise click.UsageError(msg)
    with open_registry(root) as opened:
        if name is None:
            found = [_look(opened, one.name, limit or OF_EACH, None) for one in opened.list_models()]
        else:
            found = [_look(opened, name, limit or OF_ONE, None if below is None else Version.read(below))]
    if as_json:
        print_json([_picture_facts(one) for one in found])
        return
    for one in found:
        stdout().print(_draw(one))
        if one.more:
            say(f"    older ones are left out: mlc registry tree {one.model} --below {one.next}")


@click.command()
@root_option
@json_option
def rebuild(root: str, *, as_json: bool) -> None:
    """Make the directories for people anew.

    What they show comes from the database, and what does not belong there is removed. They lie in `models`
    beside the database, or where --view says. Nothing reads them.
    """
    with open_registry(root) as opened:
        count, place = opened.view.rebuild(), opened.view.root
    if as_json:
        print_json({"versions": count, "directory": str(place)})
    else:
        say(f"{count:,} versions are shown in {place}")


def _look(opened: ModelRegistry, name: str, limit: int, below: Version | None) -> Picture:
    found = opened.list_versions(name, limit=limit + 1, below=below)
    try:
        latest = opened.resolve(name).version
    except VersionNotFoundError:
        latest = None
    return Picture(name, found[:limit], opened.stages(name), latest, len(found) > limit)


def _picture_facts(one: Picture) -> dict[str, Any]:
    listed = [
        {
            "version": str(version.version),
            "latest": version.version == one.latest,
            "stages": one.stages_of(version.version),
            "prerelease": version.version.is_prerelease,
            "yanked": version.yanked,
            "yank_reason": version.yank_reason,
            "removed": version.removed,
            "parent": _parent_text(version),
            "created_at": version.created_at.isoformat(),
            "description": version.description,
        }
        for version in one.versions
    ]
    return {"model": one.model, "versions": listed, "next": one.next}


def _draw(one: Picture) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    drawn = Tree(Text(one.model, style="bold"), guide_style="dim")
    for major, of_major in itertools.groupby(one.versions, key=lambda found: found.version.major):
        branch = drawn.add(Text(f"{major}.x"))
        for minor, of_minor in itertools.groupby(of_major, key=lambda found: found.version.minor):
            twig = branch.add(Text(f"{major}.{minor}.x"))
            for found in of_minor:
                twig.add(_label(one, found))
    return drawn


def _label(one: Picture, found: ModelVersion) -> Text:
    from rich.text import Text

    parent = _parent_text(found)
    about = found.description.strip().partition("\n")[0]
    said = [
        ("latest", "cyan") if found.version == one.latest else None,
        *[(f"@{stage}", "bold green") for stage in one.stages_of(found.version)],
        ("pre-release", "yellow") if found.version.is_prerelease else None,
        ("removed", "red") if found.removed else None,
        (f"yanked: {found.yank_reason or 'no reason was given'}", "red") if found.yanked else None,
        (f"from {parent}", "magenta") if parent else None,
        (f"{found.created_at:%Y-%m-%d}", "dim"),
        (about, "dim") if about else None,
    ]
    label = Text(str(found.version), style="bold", no_wrap=True, overflow="ellipsis")
    for part in said:
        if part is not None:
            label.append("  ").append(printable(part[0].replace("\n", " ")), style=f"not bold {part[1]}")
    return label


def _parent_text(found: ModelVersion) -> str | None:
    if found.parent is None:
        return None
    text = str(found.parent.version)
    return text if found.parent.model == found.model else f"{found.parent.model}@{text}"
