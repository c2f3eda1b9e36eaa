"""HTML and SVG from plain values: whatever is a text is escaped, so that no name of a model can become markup."""

from __future__ import annotations

import re
from html import escape

import attrs

__all__ = ["Markup", "plain", "tag"]

EMPTY = {"br", "col", "hr", "img", "link", "meta", "wbr"}
UNSAYABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@attrs.frozen
class Markup:
    """A text that is markup already."""

    text: str


Part = Markup | str | float | None


def plain(value: Part) -> str:
    """Return *value* as it stands in a document."""
    if isinstance(value, Markup):
        return value.text
    return "" if value is None else escape(UNSAYABLE.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def tag(name: str, /, *content: Part, **attributes: Part | bool) -> Markup:
    """Return the element *name* with its *content*.

    An attribute that is a word of Python ends with an underscore, and other underscores are hyphens: `class_`,
    `stroke_width`. None and False leave it out, True leaves out its value.
    """
    said = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        said.append(f" {word}" if value is True else f' {word}="{plain(value)}"')
    opening = f"<{name}{''.join(said)}>"
    return Markup(opening if name in EMPTY else f"{opening}{''.join(map(plain, content))}</{name}>")
