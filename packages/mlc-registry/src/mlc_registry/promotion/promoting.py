"""From a reference to a stage that points to it: what the policy asks, and what happens if somebody moves first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from mlc_hooks.hints import known_names, nearest
from mlc_registry import events, misses, names
from mlc_registry.actors import check_reason, name_actor
from mlc_registry.errors import PromotionRefusedError, StageConflictError, StageNotFoundError, StoreError
from mlc_registry.promotion.policy import Policy
from mlc_registry.promotion.stages import has_been, refuse_unexpected, refuse_yanked, replay
from mlc_registry.records import Approval, Objection, Promotion
from mlc_registry.semver.references import Reference, read_reference
from mlc_registry.semver.versions import Version
from mlc_registry.signing import Signing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from mlc_registry.backend import Backend
    from mlc_registry.promotion.policy import CheckRule, StageRule
    from mlc_registry.protocols import Statements
    from mlc_registry.records import Change, ModelVersion, Stage

__all__ = [
    "count_approvals",
    "demote",
    "find_approvals",
    "find_objections",
    "get_statements",
    "promote",
    "read_policy",
    "read_position",
    "rollback",
]

ATTEMPTS = 100
"""How often somebody else may come first; each time one who did has moved on, so nobody waits for nothing."""


def promote(
    backend: Backend,
    name: str,
    reference: str | Version,
    stage: str,
    *,
    reason: str,
    actor: str | None,
    expected: str | Version | None,
    force: bool,
) -> Stage:
    """Point *stage* to what *reference* means, as `ModelRegistry.promote` says."""
    names.check_stage(stage)
    check_reason(reason)
    if force and not reason:
        msg = f"force=True (--force) needs a reason, which stays in the history of {name!r}; give reason=... (--reason)"
        raise PromotionRefusedError(msg)
    wanted = read_reference(reference)
    who = name_actor(actor)
    was: Version | Literal["unset"] | None = None
    if expected is not None:
        was = "unset" if expected == "unset" else Version.read(expected)
    for _ in range(ATTEMPTS):
        seen = read_position(backend)
        target = backend.find(name, wanted)
        refuse_yanked(target, stage)
        current = backend.store.find_staged(name, stage)
        _refuse_moved(backend, name, stage, current, was)
        policy = read_policy(backend)
        objections = find_objections(backend, policy, target, stage, current, actor=who, reason=reason)
        if objections and not force:
            raise _refusal(target, stage, objections)
        # What was judged is what is moved from; a stage without a rule was not judged, and may come from anywhere.
        judged = was if was is not None or policy.rule(stage) is None else _pointer(current)
        try:
            before, after = backend.store.move_stage(
                name, stage, target.version, kind="promoted", actor=who, reason=reason,
                expected=judged, details=_write_details(objections), seen=seen,
            )  # fmt: skip
        except StageConflictError as error:
            conflict = error
            continue
        assert after is not None  # it points to what it was moved to
        backend.refresh()
        events.model_promoted(target, before, after)
        return after
    raise conflict


def rollback(backend: Backend, name: str, stage: str, *, reason: str, actor: str | None) -> Stage:
    """Point *stage* back to the version before, as `ModelRegistry.rollback` says."""
    names.check_asked(name)
    names.check_stage(stage)
    check_reason(reason)
    who = name_actor(actor)
    seen = read_position(backend)
    changes = backend.store.list_changes(name, stage=stage)
    steps = replay(changes)
    if not steps and changes and changes[-1].kind == "demoted":
        msg = f"stage {stage!r} of {name!r} points to nothing: {changes[-1].actor} demoted it; promote a version again"
        raise StageNotFoundError(msg)
    if not steps:
        raise misses.explain_miss(backend.store, name, Reference(stage, "stage", stage=stage))
    if len(steps) == 1:
        msg = f"stage {stage!r} of {name!r} has been at {steps[0]} from the start; there is nothing to go back to"
        raise StageNotFoundError(msg)
    target = backend.find(name, read_reference(steps[-2]))
    refuse_yanked(target, stage)
    before, after = backend.store.move_stage(
        name, stage, target.version, kind="rolled back", actor=who, reason=reason,
        expected=steps[-1], seen=seen,
    )  # fmt: skip
    assert after is not None
    backend.refresh()
    events.model_promoted(target, before, after)
    return after


def demote(
    backend: Backend, name: str, stage: str, *, reason: str, actor: str | None, expected: str | Version | None
) -> Stage:
    """Let *stage* point to nothing, as `ModelRegistry.demote` says."""
    names.check_asked(name)
    names.check_stage(stage)
    check_reason(reason)
    who = name_actor(actor)
    was = None if expected is None else Version.read(expected)
    current = backend.store.find_staged(name, stage)
    if current is None:
        raise misses.explain_miss(backend.store, name, Reference(stage, "stage", stage=stage))
    before, _ = backend.store.move_stage(name, stage, None, kind="demoted", actor=who, reason=reason, expected=was)
    assert before is not None  # or it could not have been demoted
    backend.refresh()
    events.model_demoted(before)
    return before


def find_objections(
    backend: Backend,
    policy: Policy,
    target: ModelVersion,
    stage: str,
    current: ModelVersion | None,
    *,
    actor: str,
    reason: str,
) -> tuple[Objection, ...]:
    """Return every reason that *policy* has against promoting *target* to *stage*, which points to *current*."""
    rule = policy.rule(stage)
    if rule is None:
        if policy.others:
            return ()
        known = [one.name for one in policy.stages]
        hint = f"{nearest(stage, known)} {known_names('Stages', known)}"
        return (Objection("stage", f"the policy has no stage {stage!r}.{hint} Add it to the policy"),)
    found = []
    if rule.after and not any(_has_been(backend, target, one) for one in rule.after):
        found.append(_explain_after(backend, rule, target))
    if target.version.is_prerelease and not rule.prereleases:
        why = f"{target.version} is a pre-release, and {stage} takes releases only; publish {target.version.release}"
        found.append(Objection("prereleases", why))
    if rule.checks:
        promotion = _describe(backend, stage, target, current, actor=actor, reason=reason)
        found += [Objection(one.check, why) for one in rule.checks if (why := _ask_check(one, promotion))]
    return tuple(found)


def count_approvals(said: Sequence[Change]) -> tuple[Approval, ...]:
    """Return the approvals in what was *said* about a version and a stage: the last word of each actor counts."""
    found: dict[str, Approval] = {}
    for one in said:
        found.pop(one.actor, None)
        if one.kind == "approved":
            found[one.actor] = Approval(stage=one.stage, actor=one.actor, reason=one.reason, at=one.at)
    return tuple(found.values())


def find_approvals(backend: Backend, model: str, version: Version, stage: str) -> tuple[Approval, ...]:
    """Return who has approved *version* for *stage*."""
    said = get_statements(backend).list_all(model, version, kinds=("approved", "withdrawn"), stage=stage)
    return count_approvals(said)


def get_statements(backend: Backend) -> Statements:
    """Return what is said about versions.

    Raises:
        StoreError: If the store does not keep it.
    """
    found: Statements | None = getattr(backend.store, "statements", None)
    if found is None:
        msg = f"{type(backend.store).__name__} keeps no statements, and so no policy and no approvals"
        raise StoreError(msg)
    return found


def read_policy(backend: Backend) -> Policy:
    """Return the policy of the registry; a store that keeps no statements has none."""
    statements = getattr(backend.store, "statements", None)
    text = "" if statements is None else statements.read_policy()
    return Policy.from_json(text) if text else Policy()


def read_position(backend: Backend) -> int | None:
    """Return the number of the last line of history; None if the store keeps no ledger."""
    ledger = getattr(backend.store, "ledger", None)
    return None if ledger is None else int(ledger.read_head()[0])


def _pointer(current: ModelVersion | None) -> Version | Literal["unset"]:
    return "unset" if current is None else current.version


def _refuse_moved(
    backend: Backend,
    name: str,
    stage: str,
    current: ModelVersion | None,
    expected: Version | Literal["unset"] | None,
) -> None:
    if expected is not None and expected != _pointer(current):
        now = next((one for one in backend.store.list_stages(name) if one.name == stage), None)
        refuse_unexpected(name, stage, now, expected)


def _has_been(backend: Backend, target: ModelVersion, stage: str) -> bool:
    return has_been(backend.store.list_changes(target.model, stage=stage), target.version)


def _explain_after(backend: Backend, rule: StageRule, target: ModelVersion) -> Objection:
    spec = f"{target.model}@{target.version}"
    changes = [one for name in rule.after for one in backend.store.list_changes(target.model, stage=name)]
    back = [one for one in changes if one.kind == "rolled back" and one.before == target.version]
    where = " or ".join(rule.after)
    said = f"it was rolled back from {back[-1].stage} by {back[-1].actor}" if back else f"it has not been at {where}"
    return Objection("after", f"{said}; promote it there first: mlc registry promote {spec} {rule.after[0]}")


def _describe(
    backend: Backend, stage: str, target: ModelVersion, current: ModelVersion | None, *, actor: str, reason: str
) -> Promotion:
    kinds = ("approved", "withdrawn", "noted")
    said = get_statements(backend).list_all(target.model, target.version, kinds=kinds)
    notes = [one.details for one in said if one.kind == "noted"]
    return Promotion(
        version=target,
        stage=stage,
        current=current,
        actor=actor,
        reason=reason,
        approvals=count_approvals([one for one in said if one.stage == stage]),
        notes=notes[-1] if notes else "",
        path=partial(backend.fetch, target),
        verify=lambda: backend.verify(target),
        verify_signature=partial(Signing(backend).verify, target.model, target.version),
    )


def _ask_check(rule: CheckRule, promotion: Promotion) -> str:
    try:
        answer: Any = rule.make().object_to(promotion)
    except Exception as error:  # a check that fails has not said that all is well
        return f"check {rule.check} failed: {type(error).__name__}: {error}; repair it, or take it out of the policy"
    if not isinstance(answer, str):
        return f"check {rule.check} failed: it answered {answer!r}, which is no text; repair it"
    return answer


def _refusal(target: ModelVersion, stage: str, objections: Sequence[Objection]) -> PromotionRefusedError:
    count = "one reason" if len(objections) == 1 else f"{len(objections)} reasons"
    lines = [f"{target.model} {target.version} was not promoted to {stage!r}, for {count}:"]
    lines += ["  " + str(one).replace("\n", "\n    ") for one in objections]
    lines.append("Or promote it all the same with force=True (--force) and a reason, which stays in the history")
    return PromotionRefusedError("\n".join(lines), objections=objections)


def _write_details(objections: Sequence[Objection]) -> str:
    if not objections:
        return ""
    listed = [{"rule": one.rule, "reason": one.reason} for one in objections]
    return orjson.dumps({"objections": listed}, option=orjson.OPT_SORT_KEYS).decode()
