"""Every question that is asked of the tables, and how its rows become records."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, func, not_, select

from mlc_registry.facts import decode_facts
from mlc_registry.metadata import decode_metadata
from mlc_registry.records import Change, File, Model, ModelVersion, Stage
from mlc_registry.semver.versions import Version
from mlc_registry.stores.tables import RELEASES, change, file, identity, model, stage, version

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CHANGES",
    "CHANGES_OF_STAGE",
    "CHANGES_OF_VERSION",
    "DIGEST",
    "FILES",
    "FOLDED_NAME",
    "IDENTITY",
    "IDS",
    "KEY",
    "MODELS",
    "NEWEST",
    "OF_MODEL",
    "OF_VERSION",
    "STAGE",
    "STAGED",
    "STAGES",
    "VERSION",
    "VERSIONS",
    "WITHIN",
    "read_change",
    "read_file",
    "read_model",
    "read_stage",
    "read_time",
    "read_version",
]

MODEL_ID = select(model.c.id).where(model.c.name == bindparam("model")).scalar_subquery()
OF_MODEL = version.c.model_id == MODEL_ID

OF_VERSION = (
    version.c.version,
    version.c.digest,
    version.c.size,
    version.c.directory,
    version.c.entry,
    version.c.metadata,
    version.c.description,
    version.c.created_at,
    version.c.created_by,
    version.c.yanked,
    version.c.yank_reason,
    version.c.facts,
    version.c.removed,
)
IDENTITY = select(identity.c.token).limit(1)
KEY = version.c.sort_key == bindparam("key")
BETWEEN = (version.c.sort_key >= bindparam("low")) & (version.c.sort_key < bindparam("high"))
DOWNWARDS = version.c.sort_key.desc()

VERSION = select(*OF_VERSION).where(OF_MODEL, KEY)
IDS = select(version.c.model_id, version.c.id, version.c.yanked, version.c.removed, version.c.yank_reason).where(
    OF_MODEL, KEY
)
DIGEST = (
    select(*OF_VERSION)
    .where(OF_MODEL, version.c.digest == bindparam("digest"))
    .order_by(version.c.removed, version.c.yanked, DOWNWARDS)
    .limit(1)
)
"""Of those with the same files what can still be had, then what is not yanked, then the highest."""
VERSIONS = (
    select(*OF_VERSION)
    .where(OF_MODEL, version.c.sort_key < bindparam("below"))
    .order_by(DOWNWARDS)
    .limit(bindparam("limit", type_=BigInteger))
)
WITHIN = {
    (prereleases, yanked): select(*OF_VERSION).where(OF_MODEL, BETWEEN, *conditions).order_by(DOWNWARDS).limit(1)
    for prereleases, yanked, conditions in (
        (False, False, (RELEASES,)),
        (True, False, (not_(version.c.yanked),)),
        (False, True, (version.c.yanked, not_(version.c.prerelease))),
        (True, True, (version.c.yanked,)),
    )
}
"""The highest version in an interval, by whether pre-releases and whether only yanked versions are meant."""
NEWEST = select(*OF_VERSION).where(OF_MODEL, not_(version.c.yanked)).order_by(version.c.id.desc()).limit(1)
FILES = (
    select(file.c.path, file.c.size, file.c.digest)
    .where(file.c.version_id == select(version.c.id).where(OF_MODEL, KEY).scalar_subquery())
    .order_by(file.c.path)
)

FOLDED_NAME = select(model.c.id, model.c.name).where(func.lower(model.c.name) == bindparam("folded"))
MODELS = (
    select(
        model.c.name,
        select(func.count()).where(version.c.model_id == model.c.id).scalar_subquery(),
        select(version.c.version)
        .where(version.c.model_id == model.c.id, RELEASES)
        .order_by(DOWNWARDS)
        .limit(1)
        .scalar_subquery(),
        select(version.c.version)
        .where(version.c.model_id == model.c.id, not_(version.c.yanked))
        .order_by(version.c.id.desc())
        .limit(1)
        .scalar_subquery(),
    )
    .where(model.c.name > bindparam("after"))
    .order_by(model.c.name)
    .limit(bindparam("limit", type_=BigInteger))
)

STAGES = (
    select(stage.c.name, version.c.version, stage.c.actor, stage.c.reason, stage.c.at)
    .join_from(stage, version, version.c.id == stage.c.version_id)
    .where(stage.c.model_id == MODEL_ID)
    .order_by(stage.c.name)
)
STAGE = STAGES.where(stage.c.name == bindparam("stage"))
STAGED = (
    select(*OF_VERSION)
    .join_from(stage, version, version.c.id == stage.c.version_id)
    .where(stage.c.model_id == MODEL_ID, stage.c.name == bindparam("stage"))
)

before, after = version.alias("before"), version.alias("after")
CHANGES = (
    select(
        change.c.id,
        change.c.kind,
        change.c.stage,
        before.c.version,
        after.c.version,
        change.c.actor,
        change.c.reason,
        change.c.at,
        change.c.details,
    )
    .join_from(change, after, after.c.id == change.c.after_id)
    .outerjoin(before, before.c.id == change.c.before_id)
    .order_by(change.c.id)
)
CHANGES_OF_VERSION = CHANGES.where(change.c.after_id == select(version.c.id).where(OF_MODEL, KEY).scalar_subquery())
CHANGES = CHANGES.where(change.c.model_id == MODEL_ID, change.c.id > bindparam("after")).limit(
    bindparam("limit", type_=BigInteger)
)
CHANGES_OF_STAGE = CHANGES.where(change.c.stage == bindparam("stage"))


def read_version(name: str, row: Sequence[Any]) -> ModelVersion:
    """Return the version that a row of `OF_VERSION` is."""
    number, digest, size, directory, entry, metadata, description, at, by, yanked, reason, facts, removed = row
    return ModelVersion(
        model=name,
        version=Version.parse(number),
        digest=digest,
        size=size,
        directory=directory,
        entry=entry,
        metadata=decode_metadata(metadata),
        description=description,
        created_at=read_time(at),
        created_by=by,
        yanked=bool(yanked),
        yank_reason=reason,
        removed=bool(removed),
        **decode_facts(facts),
    )


def read_file(row: Sequence[Any]) -> File:
    """Return the file that a row of `FILES` is."""
    return File(*row)


def read_model(row: Sequence[Any]) -> Model:
    """Return the model that a row of `MODELS` is."""
    name, versions, latest, newest = row
    return Model(name=name, versions=versions, latest=_version(latest), newest=_version(newest))


def read_stage(name: str, row: Sequence[Any]) -> Stage:
    """Return the stage that a row of `STAGES` is."""
    stage_name, number, actor, reason, at = row
    return Stage(
        model=name, name=stage_name, version=Version.parse(number), actor=actor, reason=reason, at=read_time(at)
    )


def read_change(name: str, row: Sequence[Any]) -> Change:
    """Return the change that a row of `CHANGES` is."""
    number, kind, stage_name, old, new, actor, reason, at, details = row
    return Change(
        number=number,
        model=name,
        kind=kind,
        stage=stage_name,
        before=_version(old),
        after=Version.parse(new),
        actor=actor,
        reason=reason,
        at=read_time(at),
        details=details,
    )


def read_time(microseconds: int) -> datetime:
    """Return the time that is so many *microseconds* after 1970 began."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest)


def _version(text: str | None) -> Version | None:
    return None if text is None else Version.parse(text)
