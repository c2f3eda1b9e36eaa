"""Removing the files of versions that nobody needs any more; the facts about them stay."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import attrs

from mlc_registry.actors import check_reason, name_actor
from mlc_registry.dependencies.locks import read_lock
from mlc_registry.errors import LockError, RetentionError, StageConflictError, StoreError
from mlc_registry.promotion.promoting import read_position
from mlc_registry.promotion.stages import replay
from mlc_registry.publishing import identify
from mlc_registry.records import Query
from mlc_registry.requirements import require_kind, require_path
from mlc_registry.retention.reachability import Facts, RetentionRule, plan_retention

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from mlc_registry.backend import Backend
    from mlc_registry.records import ModelVersion
    from mlc_registry.retention.reachability import Plan
    from mlc_registry.semver.versions import Version

__all__ = ["Pruned", "Retention"]

PAGE = 500
DRAWN = 100
"""After how many removals the directories for people are brought up to date: they do not catch up with thousands."""
ATTEMPTS = 100
UNNEEDED = "nothing needs it any more"


@attrs.frozen(kw_only=True)
class Pruned:
    """What was done."""

    removed: tuple[ModelVersion, ...]
    """Whose files are gone."""
    left: tuple[tuple[ModelVersion, str], ...] = ()
    """What is marked as removed, but its files could not be; and why. The next `apply` tries again."""
    spared: tuple[tuple[ModelVersion, str], ...] = ()
    """What was planned to be removed but is needed now, and why."""

    @property
    def size(self) -> int:
        """Bytes of all files that were removed."""
        return sum(one.size for one in self.removed)


@attrs.frozen
class Retention:
    """Finds what can go, and removes it."""

    _backend: Backend

    def plan(self, rule: RetentionRule, *, locks: Sequence[str | os.PathLike[str]] = ()) -> Plan:
        """Return what *rule* would remove now, and why everything else stays; nothing is changed.

        Args:
            rule: What stays beside all that is in use.
            locks: Lock files, whose versions stay.

        Raises:
            LockError: If one cannot be read.
        """
        require_kind(rule, RetentionRule, "a RetentionRule", error=RetentionError)
        paths = [require_path(one, "a lock file", error=LockError) for one in locks]
        listed = list(self._list_all())
        facts = self._gather(listed, rule, paths)
        plan = plan_retention(facts, rule, now=datetime.now(timezone.utc))
        return attrs.evolve(plan, unfinished=tuple(self._find_unfinished(listed)))

    def apply(self, plan: Plan, *, actor: str | None = None, reason: str = "") -> Pruned:
        """Remove what *plan* says and what is not needed at this moment either.

        Each version is marked as removed first, for ever, and then its files go: who is killed in between leaves files
        that the next call removes. What others share with them by hard links is theirs as before. The number is never
        used again, and the facts, the digests and the history stay. Whatever anybody does meanwhile is looked at before
        the next version goes.

        Args:
            plan: From `plan`, maybe a while ago: everything that has come to be needed since is spared.
            actor: Who does this; the user of this process unless said otherwise.
            reason: Why, for the history.

        Raises:
            LockError: If a lock file of the plan cannot be read any more; nothing more is removed then.
        """
        check_reason(reason)
        who = name_actor(actor)
        done = _Done()
        waiting, why = list(plan.removed), ""
        try:
            for attempt in range(ATTEMPTS):
                seen = read_position(self._backend)
                now = self.plan(plan.rule, locks=plan.locks)
                if not attempt:
                    self._clean(now.unfinished, done)
                waiting = done.spare(waiting, now)
                why = self._remove(waiting, done, seen, actor=who, reason=reason or UNNEEDED)
                if not waiting:
                    break
        finally:
            self._backend.refresh()
        done.spared += [(one, why) for one in waiting]  # everybody else is too busy
        return Pruned(removed=tuple(done.removed), left=tuple(done.left), spared=tuple(done.spared))

    # ------------------------------------------------------------------ the inside

    def _remove(self, waiting: list[ModelVersion], done: _Done, seen: int | None, *, actor: str, reason: str) -> str:
        """Remove those *waiting* one by one, until somebody else writes a line behind *seen*; return what they did."""
        while waiting:
            one = waiting[0]
            try:
                gone = self._backend.statements.remove(one.model, one.version, actor=actor, reason=reason, seen=seen)
            except StageConflictError as error:
                return str(error)
            waiting.pop(0)
            seen = None if seen is None else seen + 1  # that line is ours
            self._clean([gone], done)
            if len(done.removed + done.left) % DRAWN == 0:
                self._backend.refresh()
        return ""

    def _list_all(self) -> Iterator[ModelVersion]:
        store = self._backend.store
        for model in store.list_models():
            below: Version | None = None
            while page := store.list_versions(model.name, limit=PAGE, below=below):
                yield from page
                below = page[-1].version

    def _gather(self, listed: Sequence[ModelVersion], rule: RetentionRule, paths: Sequence[str]) -> Facts:
        store = self._backend.store
        locks = {path: read_lock(path) for path in paths}
        versions: dict[str, list[ModelVersion]] = {}
        for one in listed:
            if not one.removed:
                versions.setdefault(one.model, []).append(one)
        staged: list[tuple[str, Version, str]] = []
        for model in versions:
            for stage in store.list_stages(model):
                staged.append((model, stage.version, f"stage {stage.name}"))
                steps = replay(store.list_changes(model, stage=stage.name))
                if len(steps) > 1:
                    staged.append((model, steps[-2], f"stage {stage.name} would be rolled back to it"))
        newest = {model: found.version for model in versions if (found := store.newest(model)) is not None}
        tagged = [(one.model, one.version, f"tagged {rule.keep_tag}") for one in self._list_tagged(rule.keep_tag)]
        return Facts(versions=versions, newest=newest, staged=staged, tagged=tagged, locks=locks)

    def _list_tagged(self, tag: str) -> Iterator[ModelVersion]:
        if not tag:
            return
        query, after = Query(tags={tag: None}, yanked=True), None
        while True:
            page = self._backend.searches.search(query, after=after, limit=PAGE)
            yield from page.versions
            after = page.next
            if after is None:
                return

    def _find_unfinished(self, listed: Sequence[ModelVersion]) -> Iterator[ModelVersion]:
        """Find the removed versions of which files are still there."""
        gone = {one.directory: one for one in listed if one.removed}
        for one in listed:
            if not one.removed:
                gone.pop(one.directory, None)  # only a forged database says so
        if not gone:
            return
        in_use: dict[str, list[str]] = {}
        for one in listed:
            if not one.removed:
                in_use.setdefault(one.model, []).append(one.directory)
        with suppress(StoreError):  # a file system without locks, where nobody can sweep; nothing depends on it
            if self._backend.artifacts.owners() - {identify(self._backend.store)}:
                return  # another registry may have published into a directory that was freed
            left = self._backend.artifacts.sweep(
                lambda model: in_use.get(model, ()), older_than=timedelta(0), dry_run=True
            )
            yield from (gone[one.place] for one in left if one.place in gone)

    def _clean(self, gone: Sequence[ModelVersion], done: _Done) -> None:
        for one in gone:
            why = self._backend.artifacts.discard(one.directory)
            if why:
                done.left.append((one, why))
            else:
                done.removed.append(one)


@attrs.define
class _Done:
    """What was done so far."""

    removed: list[ModelVersion] = attrs.field(factory=list)
    left: list[tuple[ModelVersion, str]] = attrs.field(factory=list)
    spared: list[tuple[ModelVersion, str]] = attrs.field(factory=list)

    def spare(self, waiting: Sequence[ModelVersion], now: Plan) -> list[ModelVersion]:
        """Note which of *waiting* are needed *now*, and return those that still can go."""
        still = {(one.model, one.version) for one in now.removed}
        needed = {(one.published.model, one.published.version): one.reasons for one in now.kept}
        keys = [(one, (one.model, one.version)) for one in waiting]
        self.spared += [(one, "; ".join(needed[key])) for one, key in keys if key in needed]
        return [one for one, key in keys if key in still]
