"""Ask npm, python-semver and ourselves the same questions about versions and ranges, and print where answers differ.

    python packages/mlc-registry/tests/npm_differential.py                     as many as are worth it
    python -m nox -s npm                                                       with the newest semver, installed for it
    python packages/mlc-registry/tests/npm_differential.py --seed 7 --pairs 1000 --semver /path/to/node_modules/semver

Questions are drawn at random from a seed: ranges of every shape, broken ones too, and versions at their edges. The exit
status is 1 if any answer differs for a reason that is not documented, and 77 if there is no node or no semver here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import semver

from mlc_registry import InvalidRangeError, InvalidVersionError, Range, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ASK = Path(__file__).parent / "data" / "ask_npm.mjs"
TOGETHER = 8  # versions for each range
SKIPPED = 77
EXACT = 2**53 - 1

# What npm takes and we refuse, as `comparators.py` documents it. Nothing is documented that goes the other way.
DOCUMENTED: dict[str, Callable[[str], bool]] = {
    "two operators": lambda text: re.search(r"[~^]>?\s*[<>]", text) is not None,
    "text glued to a star": lambda text: re.search(r"[^\s|.<>=~^v][<>]?=?\s*\*|\*[^\s|.]", text) is not None,
    "a blank that is not ASCII": lambda text: any(one.isspace() and not one.isascii() for one in text),
    "a pre-release number above 2**53 - 1": lambda text: any(int(one) > EXACT for one in re.findall(r"\d{16,}", text)),
    "more than 1024 characters": lambda text: len(text) > 1024,
}

Question = list[object]


class Drawing:
    """Ranges and versions, drawn at random."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def version(self) -> str:
        """Return a version of the sort that edges are made of."""
        build = f"+{self._pick(['b', '001', 'a.b', 'exp-sha.5114f85'])}" if self._chance(0.05) else ""
        return f"{'.'.join(self._number() for _ in range(3))}{f'-{self._pre()}' if self._chance(0.45) else ''}{build}"

    def long(self) -> str:
        """Return a version with numbers of up to 15 digits: 2**53 - 1, the largest that npm and we take, has 16."""
        number = lambda: str(self._draw.randrange(10 ** self._draw.randrange(1, 16)))  # noqa: E731
        tail = f"-{self._pick(['rc.', 'a.0.', ''])}{number()}" if self._chance(0.5) else ""
        return f"{number()}.{number()}.{number()}{tail}"

    def neighbours(self) -> tuple[str, str]:
        """Return two versions that often differ in one place only."""
        one = self.version()
        if self._chance(0.3):
            return one, self.version()
        core, dash, pre = one.partition("+")[0].partition("-")
        if dash and self._chance(0.7):
            parts = pre.split(".")
            place = self._draw.randrange(len(parts))
            change = self._pick([[self._identifier()], [parts[place], self._identifier()], []])
            changed = ".".join(parts[:place] + change + parts[place + 1 :])
            return one, f"{core}-{changed}" if changed else core
        numbers = core.split(".")
        place = self._draw.randrange(3)
        numbers[place] = self._number()
        return one, ".".join(numbers) + (f"-{pre}" if dash and self._chance(0.8) else "")

    def range(self) -> str:
        """Return a range, or what is left of one."""
        if self._chance(0.02):
            return self._pick(
                ["", "*", " ", "||", "x", "latest", ">x", "<*", ">=*", "^*", "~x", "<=X", "x - 1", "1 - x"]
            )
        alternatives = [self._alternative() for _ in range(self._pick([1, 1, 1, 2, 2, 3]))]
        text = self._pick(["||", " || "]).join(alternatives)
        if self._chance(0.05):
            text = f"{self._pick([' ', '  '])}{text} "
        return self._break(text) if self._chance(0.06) else text

    def near(self, text: str) -> str:
        """Return a version at an edge of the range *text*, which tells more than one drawn blindly."""
        found = re.findall(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]*[0-9A-Za-z]))?", text, re.ASCII)
        if not found or self._chance(0.15):
            return self.version()
        *core, pre = self._pick(found)
        step = lambda: self._pick([0, 0, 0, 0, 1, -1])  # noqa: E731
        numbers = [max(0, int(one or self._draw.randrange(3)) + step()) for one in core]
        tail = self._pick(["", "", f"-{pre or '0'}", f"-{self._pre()}", "-0", "-rc.1"])
        made = f"{'.'.join(map(str, numbers))}{tail}"
        return made if max(numbers) <= EXACT and semver.Version.is_valid(made) else self.version()

    def _alternative(self) -> str:
        if self._chance(0.15):
            dash = self._pick([" - ", "  - ", " -  "])
            return f"{self._prefix()}{self._partial()}{dash}{self._prefix()}{self._partial()}"
        return self._pick([" ", " ", "  "]).join(self._comparator() for _ in range(self._pick([1, 1, 1, 2, 2, 3])))

    def _comparator(self) -> str:
        operator = self._pick(["", "", "^", "^", "^", "~", "~", "~>", ">", ">=", ">=", "<", "<", "<=", "="])
        blank = self._pick([" ", "  ", "\t"]) if self._chance(0.12) else ""
        return f"{operator}{blank}{self._prefix()}{self._partial()}"

    def _partial(self) -> str:
        if self._chance(0.5):
            return self.version()
        parts = [self._wild() if self._chance(0.06) else self._number()]
        if self._chance(0.7):
            parts.append(self._wild() if self._chance(0.15) else self._number())
            if self._chance(0.3):
                parts.append(self._wild() if self._chance(0.5) else self._number())
        text = ".".join(parts)
        if len(parts) == 3 and self._chance(0.15):
            text += f"-{self._pre()}"
        if self._chance(0.02):
            text += f"+{self._identifier()}"
        return f"{text}-{self._pre()}" if self._chance(0.01) else text

    def _break(self, text: str) -> str:
        place = self._draw.randrange(len(text) + 1)
        more = self._pick([".", "-", ">", "~", "^", "=", "x", ",", "!", "0", "é", "|", "*", " ", "", "\u00a0"])
        return text[:place] + more + text[place + self._draw.randrange(2) :]

    def _number(self) -> str:
        if self._chance(0.002):
            return str(EXACT)
        return self._pick(["0", "0", "1", "1", "2", "3", "9", "10", "11"])

    def _identifier(self) -> str:
        return self._pick(["0", "1", "2", "10", "a", "A", "alpha", "beta", "rc", "0a", "-", "x", "a-b", "-1"])

    def _pre(self) -> str:
        return ".".join(self._identifier() for _ in range(self._draw.randrange(1, 4)))

    def _prefix(self) -> str:
        return self._pick(["v", "=", "v=", "vv", "V"]) if self._chance(0.06) else ""

    def _wild(self) -> str:
        return self._pick(["x", "X", "*"])

    def _pick(self, of: Sequence):
        return self._draw.choice(of)

    def _chance(self, probability: float) -> bool:
        return self._draw.random() < probability


def find_semver() -> Path | None:
    """Return the folder of npm's semver: one that is installed, or the one that npm itself uses."""
    if shutil.which("node") is None:
        return None
    roots = [Path(one) for one in os.environ.get("NODE_PATH", "").split(os.pathsep) if one]
    if shutil.which("npm") is not None:
        asked = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            installed = Path(asked.stdout.strip())
            roots += [installed, installed / "npm" / "node_modules"]
    return next((root / "semver" for root in roots if (root / "semver" / "package.json").exists()), None)


def ask_npm(folder: Path, questions: Sequence[Question]) -> tuple[str, list]:
    """Return the version of semver, and its answers."""
    text = "".join(json.dumps(one) + "\n" for one in questions)
    command = ["node", str(ASK), str(folder.absolute())]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found, *answers = map(json.loads, done.stdout.splitlines())
    assert len(answers) == len(questions)
    return found, answers


def ask_ourselves(text: str, versions: Sequence[str], *, include_prereleases: bool) -> str | None:
    """Return 0 or 1 for each version, or None if we refuse; an index must say what the range says."""
    try:
        found = Range.parse(text, include_prereleases=include_prereleases)
    except InvalidRangeError:
        return None
    parsed = [Version.parse(one) for one in versions]
    answer = "".join("1" if one in found else "0" for one in parsed)
    by_key = "".join("1" if any(one in each for each in found.intervals) else "0" for one in parsed)
    return answer if answer == by_key else f"{answer} and, by the index, {by_key}"


def compare_ranges(questions: Sequence[Question], answers: Sequence, excused: Counter[str]) -> Iterator[str]:
    """Yield what differs; count in *excused* what is documented."""
    for (_, text, versions), expected in zip(questions, answers, strict=True):
        for include_prereleases, theirs in zip((False, True), expected, strict=True):
            ours = ask_ourselves(text, versions, include_prereleases=include_prereleases)
            if ours == theirs:
                continue
            reason = next((name for name, fits in DOCUMENTED.items() if fits(text)), None) if ours is None else None
            if reason is not None:
                excused[reason] += 1
            else:
                yield f"{text!r} with {versions}, pre-releases {include_prereleases}: npm {theirs}, we {ours}"


def compare_versions(questions: Sequence[Question], answers: Sequence) -> Iterator[str]:
    """Yield where npm, python-semver and we differ in the order of two versions, or our keys in that of theirs."""
    for (_, one, other), theirs in zip(questions, answers, strict=True):
        found = {"python-semver": semver.Version.parse(one).compare(other), **_order(one, other)}
        if theirs is not None:
            found["npm"] = theirs
        if len(set(found.values())) != 1:
            yield f"{one} and {other}: {found}"


def _order(one: str, other: str) -> dict[str, int]:
    try:
        left, right = Version.parse(one), Version.parse(other)
    except InvalidVersionError as error:
        return {f"we refuse: {error}": 2}
    return {
        "we": (left > right) - (left < right),
        "our keys": (left.key > right.key) - (left.key < right.key),
        "our equality": 0 if left == right or left.key == right.key else (left > right) - (left < right),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=400_000, help="of a range and a version, each asked twice")
    parser.add_argument("--comparisons", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--semver", type=Path, help="the folder of npm's semver; found by itself where npm is")
    options = parser.parse_args()
    folder = options.semver or find_semver()
    if folder is None:
        print("there is no node here, or no semver for it: npm install -g semver")
        return SKIPPED
    drawing = Drawing(options.seed)
    ranges: list[Question] = []
    for _ in range(-(-options.pairs // TOGETHER)):
        text = drawing.range()
        ranges.append(["range", text, [drawing.near(text) for _ in range(TOGETHER)]])
    orders: list[Question] = [["compare", *drawing.neighbours()] for _ in range(options.comparisons)]
    orders += [["compare", drawing.long(), drawing.long()] for _ in range(options.comparisons // 10)]
    version, answers = ask_npm(folder, [*ranges, *orders])
    excused: Counter[str] = Counter()
    different = [
        *compare_ranges(ranges, answers[: len(ranges)], excused),
        *compare_versions(orders, answers[len(ranges) :]),
    ]
    refused = sum(one == [None, None] for one in answers[: len(ranges)])
    for line in itertools.islice(different, 50):
        print(line)
    print(
        f"{len(ranges) * TOGETHER:,} pairs of {len(ranges):,} ranges, {refused:,} of them refused by npm, each asked "
        f"with and without pre-releases; {len(orders):,} comparisons. npm's semver {version}, python-semver "
        f"{semver.__version__}, seed {options.seed}: {len(different)} differences, "
        f"{sum(excused.values())} documented {dict(excused)}"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
