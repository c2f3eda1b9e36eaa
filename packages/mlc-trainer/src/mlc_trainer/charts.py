"""Charts as SVG, drawn by hand: lines with gaps, marks for restarts, and nothing that needs a script."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import attrs

from mlc_trainer.markup import Markup, tag
from mlc_trainer.words import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_trainer.timeline import Curve

__all__ = ["Chart", "Line", "ticks"]

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 36
COLOURS = 8
LARGEST = sys.float_info.max
MOST_DOTS = 80
"""Points with a word about each; more of them would be a band."""


@attrs.frozen(kw_only=True)
class Line:
    """A curve, and how it looks."""

    curve: Curve
    label: str
    colour: int = 0
    """The number of a colour; there are eight."""
    dashed: bool = False


@attrs.frozen(kw_only=True)
class Chart:
    """Some lines over one axis."""

    title: str
    lines: Sequence[Line]
    across: str = "epoch"
    """What the horizontal axis says."""
    marks: Sequence[tuple[float, str]] = ()
    """Places on it, with a word about each."""
    best: tuple[float, float, str] | None = None
    """A point to look at, with a word about it."""

    def draw(self) -> Markup:
        """Return the chart as a figure, with a title and a legend."""
        caption = [tag("b", self.title)]
        if len(self.lines) > 1:
            caption += [_key(tag("line", x1=1, y1=5, x2=21, y2=5, class_=_look(one)), one.label) for one in self.lines]
        if self.best is not None:
            ring = tag("circle", cx=11, cy=5, r=4, class_="best")
            caption.append(_key(ring, self.best[2]))
        if self._shown_marks():
            caption.append(_key(tag("path", d="M7 2h8l-4 7z", class_="restart-sign"), "resumed"))
        return tag("figure", tag("figcaption", *caption), self._picture(), class_="chart")

    def _shown_marks(self) -> Sequence[tuple[float, str]]:
        """Return the marks that lie where the lines do."""
        places = [place for line in self.lines for place, _ in line.curve.points]
        if not any(line.curve.numbers for line in self.lines):
            return []
        level = _Axis.exactly(places, LEFT, WIDTH - RIGHT)
        return [(place, word) for place, word in self.marks if level.low <= place <= level.high]

    def _picture(self) -> Markup:
        numbers = [value for line in self.lines for value in line.curve.numbers]
        places = [place for line in self.lines for place, _ in line.curve.points]
        if not numbers:
            return tag("p", "no numbers yet", class_="empty")
        upright, level = _Axis.around(numbers, HEIGHT - BOTTOM, TOP), _Axis.exactly(places, LEFT, WIDTH - RIGHT)
        parts = [*self._grid(upright, level), *self._marks(level)]
        for line in self.lines:
            parts += _line(line, level, upright)
        if self.best is not None:
            place, value, word = self.best
            where = {"cx": _round(level.at(place)), "cy": _round(upright.at(value))}
            parts.append(tag("circle", tag("title", word), r=5.5, class_="best", **where))
        names = ", ".join(line.label for line in self.lines)
        said = f"{self.title}: {names} over {self.across}"
        return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said)

    def _grid(self, upright: _Axis, level: _Axis) -> Sequence[Markup]:
        parts = []
        values = ticks(upright.low, upright.high, 5)
        for value in values:
            y = _round(upright.at(value))
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
            word = _scale(value, values[1] - values[0] if len(values) > 1 else None)
            parts.append(tag("text", word, x=LEFT - 7, y=y + 4, class_="scale end"))
        whole = [one for one in ticks(level.low, level.high, 7) if one == int(one)] or [level.low]
        for place in whole:
            x = _round(level.at(place))
            parts.append(tag("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
            parts.append(tag("text", f"{place:g}", x=x, y=HEIGHT - BOTTOM + 17, class_="scale middle"))
        bottom = HEIGHT - BOTTOM
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"))
        parts.append(tag("text", self.across, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, class_="scale middle"))
        return parts

    def _marks(self, level: _Axis) -> Sequence[Markup]:
        parts = []
        for place, word in self._shown_marks():
            x = _round(level.at(place))
            line = tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="restart")
            sign = tag("path", d=f"M{x - 4} {TOP - 4}h8l-4 7z", class_="restart-sign")
            parts.append(tag("g", tag("title", word), line, sign))
        return parts


@attrs.frozen
class _Axis:
    low: float
    high: float
    first: float
    last: float

    @classmethod
    def exactly(cls, numbers: Sequence[float], first: float, last: float) -> _Axis:
        low, high = min(numbers), max(numbers)
        return cls(low, high, first, last) if low < high else cls(low - 0.5, high + 0.5, first, last)

    @classmethod
    def around(cls, numbers: Sequence[float], first: float, last: float) -> _Axis:
        low, high = min(numbers), max(numbers)
        room = 0.05 * (high / 2 - low / 2) * 2 or abs(high) * 0.1 or 1.0
        return cls(max(low - room, -LARGEST), min(high + room, LARGEST), first, last)

    def at(self, value: float) -> float:
        span = self.high / 2 - self.low / 2  # the whole of it may be more than a number can be
        return self.first + (value / 2 - self.low / 2) / span * (self.last - self.first)


def ticks(low: float, high: float, count: int) -> Sequence[float]:
    """Return about *count* round numbers between *low* and *high*."""
    raw = (high / 2 - low / 2) / max(count, 1) * 2
    if not math.isfinite(raw) or raw < 1e-300 or low + raw == low or high + raw == high:
        return [low, high]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((size * power for size in (1, 2, 5, 10) if size * power >= raw * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    places = ((first + i) * step for i in range(4 * count))
    return [float(f"{one:.12g}") for one in places if math.isfinite(one) and one <= high + 1e-9 * step]


def _scale(value: float, step: float | None) -> str:
    """Return *value* with the decimals that the *step* of its scale needs."""
    if value == 0:
        return "0"
    if step is not None and step < 1e-3 and abs(value) < 1e-2:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    if step is not None and step >= 1e-4 and abs(value) < 1e5:
        return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
    return number(value)


def _key(sign: Markup, word: str) -> Markup:
    picture = tag("svg", sign, viewBox="0 0 22 10", class_="swatch", aria_hidden="true")
    return tag("span", picture, word, class_="key")


def _line(line: Line, level: _Axis, upright: _Axis) -> list[Markup]:
    parts = []
    for segment in line.curve.segments:
        points = [(_round(level.at(place)), _round(upright.at(value))) for place, value in segment]
        if len(points) > 1:
            path = "M" + "L".join(f"{x} {y}" for x, y in points)
            parts.append(tag("path", d=path, class_=_look(line)))
        few = len(line.curve.points) <= MOST_DOTS
        for (x, y), (place, value) in zip(points, segment, strict=True):
            if few or len(points) == 1:
                word = f"{line.label} {number(value)} at {place:.4g}"
                parts.append(
                    tag("circle", tag("title", word), cx=x, cy=y, r=2.2, class_=f"dot c{line.colour % COLOURS}")
                )
    return parts


def _look(line: Line) -> str:
    return f"line c{line.colour % COLOURS}{' dashed' if line.dashed else ''}"


def _round(value: float) -> float:
    return round(value, 1)
