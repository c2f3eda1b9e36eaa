"""What a policy of stages says, and how it is read and written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import orjson

from mlc_hooks.hints import known_names, nearest
from mlc_registry.errors import InvalidMetadataError, InvalidNameError, PolicyError
from mlc_registry.metadata import normalise_metadata
from mlc_registry.names import check_stage

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from mlc_registry.protocols import PromotionCheck
    from mlc_registry.records import Json

__all__ = ["CheckRule", "Policy", "StageRule"]

OF_POLICY = ("others", "stages")
OF_STAGE = ("after", "checks", "prereleases")
CHECK = "check"


def _refuse(where: str, why: str, cause: Exception | None = None) -> NoReturn:
    msg = f"{where}: {why}"
    raise PolicyError(msg) from cause


def _plain(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        _refuse("the policy", f"a table of stages is needed, not {data!r}")
    try:
        return normalise_metadata(data)
    except InvalidMetadataError as error:
        _refuse("the policy", str(error).removeprefix("metadata"), error)


def _sorted(rules: Iterable[StageRule]) -> tuple[StageRule, ...]:
    return tuple(sorted(rules, key=lambda one: one.name))


@attrs.frozen
class CheckRule:
    """A check that must have no objection, and what it is told."""

    check: str
    """The name of the check, as `mlc_promotion_checks` offers it."""
    options: Mapping[str, Json] = attrs.field(factory=dict, converter=_plain)

    def make(self) -> PromotionCheck:
        """Return the check itself.

        Raises:
            UnknownNameError, AmbiguousNameError: If it cannot be told which check is meant.
            OptionsError: If the check has no such options; and whatever else the check refuses them with.
        """
        from mlc_registry.catalogs import promotion_checks

        return promotion_checks().make(self.check, **self.options)


def _collect(rules: Iterable[CheckRule]) -> tuple[CheckRule, ...]:
    return tuple(rules)


@attrs.frozen
class StageRule:
    """What must hold for a version to be promoted to one stage."""

    name: str
    after: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    """The stages of which it must have been at one; any version may come if there are none."""
    checks: tuple[CheckRule, ...] = attrs.field(default=(), converter=_collect)
    """All of these must have no objection."""
    prereleases: bool = True
    """Whether pre-releases may come."""


@attrs.frozen
class Policy:
    """Which stages there are, and what leads to each. Without any, every stage may be used freely.

    Raises:
        PolicyError: If a stage is named twice, could not be named so, comes after one that has no rule, or can never be
            reached.
    """

    stages: tuple[StageRule, ...] = attrs.field(default=(), converter=_sorted)
    """By name, whatever the order in which they are given."""
    others: bool = True
    """Whether stages that have no rule may be used, freely."""

    def __attrs_post_init__(self) -> None:
        names = [one.name for one in self.stages]
        for one in self.stages:
            where = f"stages.{one.name}"
            try:
                check_stage(one.name)
            except InvalidNameError as error:
                _refuse(where, str(error), error)
            if names.count(one.name) > 1:
                _refuse(where, "the stage has two rules; put them into one")
            for before in one.after:
                if before not in names:
                    hint = f"{nearest(before, names)} {known_names('Stages with a rule', names)}"
                    why = f"there is no stage {before!r}.{hint} Add [stages.{before}], which may be empty"
                    _refuse(f"{where}.after", why)
        self._refuse_unreachable()

    def rule(self, stage: str) -> StageRule | None:
        """Return the rule of *stage*, if it has one."""
        return next((one for one in self.stages if one.name == stage), None)

    # ------------------------------------------------------------------ plain data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the policy that plain *data* is, as `to_dict` or a TOML file has it.

        Raises:
            PolicyError: If it is none; names the part.
        """
        found = _plain(data)
        _check_keys(found, OF_POLICY, "the policy")
        stages = _take(found, "stages", dict, "the policy", default={})
        rules = [_read_stage(name, one) for name, one in stages.items()]
        return cls(rules, others=_take(found, "others", bool, "the policy", default=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as plain data."""
        return {
            "others": self.others,
            "stages": {
                one.name: {
                    "after": list(one.after),
                    "prereleases": one.prereleases,
                    "checks": [{CHECK: rule.check, **rule.options} for rule in one.checks],
                }
                for one in self.stages
            },
        }

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the policy that `to_json` wrote, or anybody else.

        Raises:
            PolicyError: If it is none; names the part.
        """
        try:
            data = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            _refuse("the policy", f"that is no JSON: {error}", error)
        return cls.from_dict(data)

    def to_json(self) -> str:
        """Return the policy as JSON with sorted names: equal policies are equal text."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the policy in a file: JSON if its name ends in `.json`, else TOML, for which Python 3.11 is needed.

        Raises:
            PolicyError: If it cannot be read, or is none; names the part.
        """
        place = Path(path)
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            _refuse(str(place), f"it cannot be read: {error}", error)
        return cls.from_json(text) if place.suffix == ".json" else cls.from_dict(_parse_toml(place, text))

    # ------------------------------------------------------------------ the inside

    def validate(self) -> None:
        """Make every check once, so that one that cannot be made is known before it is needed.

        Raises:
            PolicyError: If one is unknown, or refuses its options; names it.
        """
        for stage in self.stages:
            for number, one in enumerate(stage.checks):
                try:
                    one.make()
                except Exception as error:  # a check may refuse its options with anything
                    _refuse(f"stages.{stage.name}.checks[{number}]", str(error), error)

    def _refuse_unreachable(self) -> None:
        reachable: set[str] = set()
        left = list(self.stages)
        while more := {one.name for one in left if not one.after or reachable.intersection(one.after)}:
            reachable |= more
            left = [one for one in left if one.name not in more]
        if left:
            names = ", ".join(repr(one.name) for one in left)
            first = ", ".join(left[0].after)
            why = f"nothing ever gets there, as it comes only after: {first}. Let one of {names} come after no other"
            _refuse(f"stages.{left[0].name}.after", why)


def _read_stage(name: str, data: object) -> StageRule:
    where = f"stages.{name}"
    if not isinstance(data, dict):
        _refuse(where, f"a table of rules is needed, not {data!r}")
    _check_keys(data, OF_STAGE, where)
    after = _take(data, "after", list, where, default=[])
    for one in after:
        if not isinstance(one, str):
            _refuse(f"{where}.after", f"the name of a stage is needed, not {one!r}")
    checks = _take(data, "checks", list, where, default=[])
    rules = tuple(_read_check(one, f"{where}.checks[{number}]") for number, one in enumerate(checks))
    return StageRule(name, tuple(after), rules, prereleases=_take(data, "prereleases", bool, where, default=True))


def _read_check(data: object, where: str) -> CheckRule:
    if not isinstance(data, dict) or not isinstance(data.get(CHECK), str):
        _refuse(where, f'a table that names the check is needed, as in {{check = "intact"}}, not {data!r}')
    return CheckRule(data[CHECK], {key: value for key, value in data.items() if key != CHECK})


def _take(data: Mapping[str, Any], key: str, kind: type, where: str, *, default: object) -> Any:
    found = data.get(key, default)
    if not isinstance(found, kind):
        wanted = {dict: "a table", list: "a list", bool: "true or false"}[kind]
        _refuse(f"{where}.{key}" if where != "the policy" else key, f"{wanted} is needed, not {found!r}")
    return found


def _check_keys(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in data:
        if key not in known:
            _refuse(where, f"it has no {key!r}.{nearest(key, known)} {known_names('Known', known)}")


def _parse_toml(place: Path, text: str) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        _refuse(str(place), "this Python reads no TOML; give JSON, in a file whose name ends in .json")
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        _refuse(str(place), f"that is no TOML: {error}", error)
