"""What is said about a version when it is published, beside its metadata: checked, kept as JSON, and sealed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import orjson

from mlc_registry.errors import InvalidMetadataError, RegistryError
from mlc_registry.metadata import LARGEST, normalise_metadata
from mlc_registry.metrics import LONGEST
from mlc_registry.names import check_model
from mlc_registry.records import Architecture, Origin, Tracking
from mlc_registry.requirements import show
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version

if TYPE_CHECKING:
    from mlc_registry.records import Draft, ModelVersion

__all__ = [
    "NOTHING",
    "Said",
    "check_architecture",
    "check_dependencies",
    "check_facts",
    "check_tracking",
    "decode_facts",
    "digest_facts",
    "encode_facts",
]

NOTHING = "{}"
"""The facts of a version of which nothing is said."""
TEXTS = ("run", "dataset", "commit", "checkpoint")
COUNTS = ("epoch", "step")


@attrs.frozen(kw_only=True)
class Said:
    """The facts alone."""

    tracking: Tracking
    architecture: Architecture | None
    dependencies: Mapping[str, str]
    parent: Origin | None


def check_tracking(tracking: Tracking | None) -> Tracking:
    """Return *tracking* as plain values.

    Raises:
        InvalidMetadataError: If a text, a count, a metric or a parameter cannot be kept; names it.
    """
    if tracking is None:
        return Tracking()
    if not isinstance(tracking, Tracking):
        _refuse("tracking", f"a Tracking is needed, not {show(tracking)}")
    if not isinstance(tracking.metrics, Mapping):
        _refuse("tracking.metrics", f"a number by the name of each is needed, not {show(tracking.metrics)}")
    for name in TEXTS:
        _check_text(getattr(tracking, name), f"tracking.{name}")
    for name in COUNTS:
        count = getattr(tracking, name)
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**63):
            _refuse(f"tracking.{name}", f"{show(count)} is no count from 0 to {2**63 - 1}")
    metrics = {_check_name(name): _check_metric(name, value) for name, value in tracking.metrics.items()}
    parameters = normalise_metadata(tracking.parameters, what="tracking.parameters")
    return attrs.evolve(tracking, metrics=metrics, parameters=parameters)


def check_architecture(architecture: Architecture | None) -> Architecture | None:
    """Return *architecture* as plain values.

    Raises:
        InvalidMetadataError: If the class is not written as `package.module:Class`, or its config cannot be kept.
    """
    if architecture is None:
        return None
    if not isinstance(architecture, Architecture):
        _refuse("architecture", f"an Architecture is needed, not {show(architecture)}")
    _check_text(architecture.model_class, "architecture.model_class")
    module, colon, name = architecture.model_class.partition(":")
    if not colon or not all(one.isidentifier() for one in (*module.split("."), *name.split("."))):
        _refuse("architecture.model_class", f"{show(architecture.model_class)} is not written as package.module:Class")
    config = normalise_metadata(architecture.config, what="architecture.config")
    return attrs.evolve(architecture, config=config)


def check_dependencies(dependencies: Mapping[str, str] | None) -> dict[str, str]:
    """Return *dependencies* if every name and every range can be read; whether they are there is another question.

    Raises:
        InvalidMetadataError: If they are no mapping.
        InvalidNameError, InvalidRangeError: If one cannot.
    """
    if dependencies is None:
        return {}
    if not isinstance(dependencies, Mapping):
        _refuse("dependencies", f"a range by the name of each model is needed, not {show(dependencies)}")
    found = {check_model(name): text for name, text in dependencies.items()}
    for text in found.values():
        Range.parse(text)
    return found


def encode_facts(about: Draft | ModelVersion | Said) -> str:
    """Return the facts *about* a version as JSON with sorted names, without those that say nothing.

    Raises:
        InvalidMetadataError: If they are too large.
    """
    found: dict[str, Any] = {}
    said = attrs.asdict(about.tracking, recurse=False).items()
    tracking = {name: value for name, value in said if value or value == 0}
    if tracking:
        found["tracking"] = tracking
    if about.architecture is not None:
        found["architecture"] = {"class": about.architecture.model_class, "config": about.architecture.config}
    if about.dependencies:
        found["dependencies"] = about.dependencies
    if about.parent is not None:
        parent = about.parent
        found["parent"] = {"model": parent.model, "version": str(parent.version), "digest": parent.digest}
    text = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
    if len(text) > LARGEST:
        msg = f"tracking and architecture are {len(text):,} bytes of JSON, and {LARGEST:,} is the limit"
        raise InvalidMetadataError(msg)
    return text.decode()


def decode_facts(text: str) -> dict[str, Any]:
    """Return what `encode_facts` wrote, by the names that a `ModelVersion` has for it.

    Raises:
        InvalidMetadataError: If somebody else wrote it.
    """
    if text == NOTHING:  # as every version did that was published without: they cost nothing
        return {}
    try:
        return {name: DECODERS[name](value) for name, value in orjson.loads(text).items()}
    except (RegistryError, KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"the database holds facts about a version that cannot be read: {type(error).__name__}: {error}"
        raise InvalidMetadataError(msg) from error


def check_facts(text: str) -> None:
    """Refuse *text* if `encode_facts` cannot have written it.

    Raises:
        RegistryError: If it cannot; says why.
    """
    found = decode_facts(text)
    parent: Origin | None = found.get("parent")
    try:
        said = Said(
            tracking=check_tracking(found.get("tracking")),
            architecture=check_architecture(found.get("architecture")),
            dependencies=check_dependencies(found.get("dependencies")),
            parent=parent,
        )
        written = encode_facts(said)
    except (AttributeError, TypeError) as error:  # a list for a mapping
        if isinstance(error, RegistryError):
            raise
        written = ""
    if parent is not None:
        check_model(parent.model)
        _check_text(parent.digest, "parent.digest")
    if written != text:
        _refuse("a version", "its facts are not written as this package writes them")


def digest_facts(*, metadata: str, description: str, entry: str, facts: str) -> str:
    """Return one digest over all that was said about a version, as the line that registered it has it.

    It is the SHA-256 of a JSON object of these four texts, with sorted names and without blanks, in UTF-8; *metadata*
    and *facts* are JSON themselves, and are digested to the letter.
    """
    content = {"metadata": metadata, "description": description, "entry": entry, "facts": facts}
    return f"sha256:{hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()}"


def _decode_architecture(value: dict[str, Any]) -> Architecture:
    return Architecture(model_class=value["class"], config=value["config"])


def _decode_parent(value: dict[str, Any]) -> Origin:
    return Origin(model=value["model"], version=Version.parse(value["version"]), digest=value["digest"])


DECODERS: dict[str, Any] = {
    "tracking": lambda value: Tracking(**value),
    "architecture": _decode_architecture,
    "dependencies": dict,
    "parent": _decode_parent,
}


def _check_text(text: object, where: str) -> None:
    if not isinstance(text, str) or len(text) > LONGEST or not text.isprintable():
        _refuse(where, f"{show(text)} is not one line of at most {LONGEST} printable characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(where, f"{show(text)} holds half a character; decode it properly first")


def _check_name(name: object) -> str:
    _check_text(name, "the name of a metric")
    if not name:
        _refuse("tracking.metrics", "a metric has no name")
    return str(name)


def _check_metric(name: str, value: object) -> float:
    where = f"tracking.metrics[{name!r}]"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        advice = "; use its .item()" if hasattr(value, "item") else ""
        _refuse(where, f"a {type(value).__module__}.{type(value).__name__} is not a number{advice}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        _refuse(where, f"{show(value)} cannot be compared; leave it out")
    return found


def _refuse(where: str, why: str) -> NoReturn:
    msg = f"{where} cannot be kept: {why}"
    raise InvalidMetadataError(msg)
