"""Which settings of a run were chosen, and which are what nobody said anything about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_trainer.config import ExperimentConfig

__all__ = ["Setting", "different_settings", "settings_of"]


@attrs.frozen(kw_only=True)
class Setting:
    """A setting, as `optimizer.options.lr`."""

    name: str
    value: Any
    default: Any = None
    has_default: bool = False
    """Whether it is *default* if nobody says anything; else there is no such setting, or somebody must."""

    @property
    def chosen(self) -> bool:
        """Whether it is something else than the default."""
        return not self.has_default or bool(self.value != self.default)


def settings_of(config: ExperimentConfig) -> Sequence[Setting]:
    """Return every setting of *config*, in the order of its tables."""
    return list(_settings(config, ()))


def different_settings(configs: Sequence[ExperimentConfig]) -> Mapping[str, Sequence[Any]]:
    """Return the settings in which *configs* differ, each with its value in every one of them, None where unset."""
    found = [{one.name: one.value for one in settings_of(config) if one.value != {}} for config in configs]
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: [each.get(name) for each in found] for name in names}
    return {name: row for name, row in values.items() if any(one != row[0] for one in row)}


def _settings(record: Any, path: tuple[str, ...]) -> Iterator[Setting]:
    for field in attrs.fields(type(record)):
        value, here = getattr(record, field.name), (*path, field.name)
        if attrs.has(type(value)):
            yield from _settings(value, here)
        elif isinstance(value, Mapping) and value:
            yield from _options(value, here)
        else:
            parts = isinstance(value, tuple) and any(attrs.has(type(one)) for one in value)
            plain = [attrs.asdict(one) for one in value] if parts else value
            yield Setting(name=".".join(here), value=plain, **_default(field))


def _default(field: attrs.Attribute[Any]) -> dict[str, Any]:
    if field.default is attrs.NOTHING:
        return {}
    make = getattr(field.default, "factory", None)
    return {"default": field.default if make is None else make(), "has_default": True}


def _options(options: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Setting]:
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from _options(value, (*path, name))
        else:
            yield Setting(name=".".join((*path, name)), value=value)
