"""Configurations from and to files and plain data; an unknown key is an error that says what is close."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_origin

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from mlc_hooks.hints import known_names, nearest
from mlc_trainer.config import ExperimentConfig
from mlc_trainer.errors import ConfigError
from mlc_trainer.yaml_files import load_yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["as_data", "from_data", "override", "read_config", "settings_that_matter"]

WITHOUT_EFFECT = (
    "callbacks",
    "checkpoints.",
    "data.on_stuck",
    "data.timeout",
    "data.workers",
    "early_stopping",
    "trackers",
    "training.log_every",
    "training.num_epochs",
    "training.save_on_error",
)
ELSEWHERE = ("training.device", "training.threads")  # the environment says what they came to


def read_config(path: Path, overrides: Iterable[str] = ()) -> ExperimentConfig:
    """Read a TOML, JSON or YAML file.

    Args:
        path: The file; `.json` is read as JSON, `.yaml` and `.yml` as YAML, everything else as TOML.
        overrides: Settings to change, as `optimizer.options.lr=1e-3`.

    Raises:
        ConfigError: If it cannot be read, or says what cannot be followed.
    """
    kind, read = FORMATS.get(path.suffix, ("TOML", tomllib.loads))
    try:
        data = read(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ConfigError(msg) from error
    except ConfigError as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not {kind}: {error}"
        raise ConfigError(msg) from error
    if not isinstance(data, dict):
        msg = f"{path} holds {type(data).__name__} where tables of settings belong"
        raise ConfigError(msg)
    return from_data(override(data, overrides), where=str(path))


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            msg = f"the key {key!r} is there twice"
            raise ValueError(msg)
        found[key] = value
    return found


FORMATS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    ".json": ("JSON", _read_json),
    ".yaml": ("YAML", load_yaml),
    ".yml": ("YAML", load_yaml),
}
"""What a file is by how its name ends, and what reads it."""


def override(data: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return *data* with each of *settings*, `table.key=value`, put in its place; values are read as TOML.

    Raises:
        ConfigError: If a setting has no `=`, or leads through something that is no table.
    """
    changed: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for setting in settings:
        path, mark, text = setting.partition("=")
        if not mark or not path:
            msg = f"--set {setting!r} must be KEY=VALUE, as training.seed=1"
            raise ConfigError(msg)
        *tables, key = path.strip().split(".")
        table = changed
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                msg = f"--set {setting!r}: {name} is {table!r}, not a table"
                raise ConfigError(msg)
        table[key] = _value(text.strip())
    return changed


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is itself, so that --set training.device=cpu needs no quotes within quotes


def from_data(data: Mapping[str, Any], *, where: str = "configuration") -> ExperimentConfig:
    """Return the configuration that *data* describes.

    Raises:
        ConfigError: If a key is unknown or missing, or a value is of the wrong kind; names each.
    """
    try:
        return _converter().structure(data, ExperimentConfig)
    except (cattrs.BaseValidationError, ConfigError) as error:
        msg = f"{where}: " + "; ".join(_explain(error, ()))
        raise ConfigError(msg) from error


def as_data(config: ExperimentConfig) -> dict[str, Any]:
    """Return *config* as plain data, every default spelled out."""
    return attrs.asdict(config)


def settings_that_matter(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in *data*, as `optimizer.options.lr`, that change what is trained or measured."""
    flat = dict(_flatten(data, ()))
    return {name: value for name, value in flat.items() if not name.startswith(WITHOUT_EFFECT + ELSEWHERE)}


def _flatten(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flatten(part, (*path, name))
    else:
        yield ".".join(path), value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook_factory(
        attrs.has, lambda kind: _table(make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True))
    )
    converter.register_structure_hook_func(_made_of(Mapping), _table(lambda value, _: value))
    converter.register_structure_hook_func(_made_of(Literal), lambda value, _: value)
    for kind in (int, float, bool, str):
        converter.register_structure_hook(kind, _strict(kind))
    return converter


def _made_of(form: object) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is form


def _table(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def take(value: Any, kind: Any) -> Any:
        if not isinstance(value, Mapping):
            msg = f"{value!r} is not a table"
            raise ConfigError(msg)
        return structure(value, kind)

    return take


def _strict(kind: type[int | float | bool | str]) -> Any:
    """Take a value only if it is of *kind* already: 1 is a float, but "1" is no int and 1.5 is none either."""

    def take(value: Any, _: type) -> int | float | bool | str:
        if type(value) is kind or (kind is float and type(value) is int):
            return kind(value)  # an int where a float belongs becomes one
        name = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
        msg = f"{value!r} is not {name}"
        raise ConfigError(msg)

    return take


def _explain(error: BaseException, path: tuple[str, ...]) -> list[str]:
    if isinstance(error, ForbiddenExtraKeysError):
        fields = [field.name for field in attrs.fields(error.cl)]
        return [
            f"unknown key {'.'.join((*path, key))!r}.{nearest(key, fields)} {known_names('Known', fields)}"
            for key in sorted(error.extra_fields)
        ]
    if isinstance(error, cattrs.BaseValidationError):
        found = []
        for one in error.exceptions:
            notes = getattr(one, "__notes__", [])
            names = [note.name for note in notes if hasattr(note, "name")]
            found += _explain(one, (*path, *names))
        return found
    name = ".".join(path)
    if isinstance(error, KeyError):
        return [f"{name!r} is missing"]
    return [f"{name}: {error}" if name else str(error)]
