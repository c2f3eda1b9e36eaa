"""Who may go where: the policy of a registry's stages, and who has approved what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_hooks import open_door
from mlc_hooks.hints import known_names, nearest
from mlc_registry import misses, names
from mlc_registry.actors import check_reason, name_actor
from mlc_registry.errors import ApprovalNotFoundError, PolicyConflictError, PolicyError
from mlc_registry.promotion.policy import Policy
from mlc_registry.promotion.promoting import find_approvals, find_objections, get_statements, read_policy
from mlc_registry.records import Objection
from mlc_registry.requirements import require_kind
from mlc_registry.semver.references import read_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlc_registry.backend import Backend
    from mlc_registry.records import Approval, ModelVersion
    from mlc_registry.semver.versions import Version

__all__ = ["Gatekeeper"]


class Gatekeeper:
    """Keeps the policy of stages and the approvals; `ModelRegistry.policy` is one.

    Actors are who they say they are: the registry keeps their word in its history, and does not prove who gave it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def read(self) -> Policy:
        """Return the policy that holds now; one without any stage if none was ever written."""
        return read_policy(self._backend)

    def write(
        self, policy: Policy, *, expected: Policy | None = None, actor: str | None = None, reason: str = ""
    ) -> None:
        """Let *policy* hold from now on; the history keeps it, as it keeps those before. What is at a stage stays.

        Args:
            policy: The whole policy, not a change to it.
            expected: Write only if this is the policy that holds, as when it was read, changed and is written back.
            actor: Who; the user of this process unless said otherwise.
            reason: Why.

        Raises:
            PolicyError: If a check is unknown or refuses its options; names it.
            PolicyConflictError: If another policy holds than was *expected*.
        """
        open_door("mlc_registry")
        require_kind(policy, Policy, "a Policy, as Policy.from_toml returns it,", error=PolicyError)
        check_reason(reason)
        policy.validate()
        statements = get_statements(self._backend)
        kept = statements.read_policy()
        if expected is not None and (Policy.from_json(kept) if kept else Policy()) != expected:
            msg = "the policy was changed by somebody else meanwhile; read it again, and change that one"
            raise PolicyConflictError(msg)
        content = policy.to_json()
        if content == kept:
            return
        # Without *expected* the last one who writes is right, so that nothing can be in the way of a new policy.
        before = None if expected is None else kept
        statements.write_policy(content, expected=before, actor=name_actor(actor), reason=reason)
        self._backend.refresh()

    def check(
        self, name: str, reference: str | Version, stage: str, *, actor: str | None = None, reason: str = ""
    ) -> list[Objection]:
        """Return every objection to a promotion, without promoting; none if it would succeed now.

        Args:
            name: The model.
            reference: As for `resolve`.
            stage: Where the version would go.
            actor: Who would promote it.
            reason: Why.

        Raises:
            InvalidNameError: If *stage* cannot name a stage; and as `resolve`.
        """
        open_door("mlc_registry")
        names.check_stage(stage)
        target = self._backend.find(name, read_reference(reference))
        current = self._backend.store.find_staged(name, stage)
        found = find_objections(
            self._backend, self.read(), target, stage, current, actor=name_actor(actor), reason=reason
        )
        if target.removed:
            return [Objection("removed", str(misses.removed_version(target))), *found]
        if target.yanked:
            why = f"it was yanked: {target.yank_reason or 'no reason was given'}; unyank it first"
            return [Objection("yanked", why), *found]
        return list(found)

    # ------------------------------------------------------------------ approvals

    def approve(
        self, name: str, reference: str | Version, stage: str, *, reason: str = "", actor: str | None = None
    ) -> Approval:
        """Say that the version that *reference* means now may be promoted to *stage*.

        It is said of this one version and this one stage, stays true when the stage moves or is rolled back, and counts
        once for each actor, until it is withdrawn.

        Raises:
            InvalidNameError: If *stage* cannot name a stage.
            PolicyError: If the policy has no such stage and allows no other; and as `resolve`.
        """
        target = self._state("approved", name, reference, stage, reason=reason, actor=actor)
        who = name_actor(actor)
        return next(one for one in self._approvals(target, stage) if one.actor == who)

    def withdraw(
        self, name: str, reference: str | Version, stage: str, *, reason: str = "", actor: str | None = None
    ) -> None:
        """Take an approval back. What was promoted with it stays where it is.

        Raises:
            ApprovalNotFoundError: If there is none of this actor; and as `approve`.
        """
        self._state("withdrawn", name, reference, stage, reason=reason, actor=actor)

    def approvals(self, name: str, reference: str | Version, stage: str) -> Sequence[Approval]:
        """Return who has approved a version for *stage* and not withdrawn, the last word last.

        Raises:
            InvalidNameError: If *stage* cannot name a stage; and as `resolve`.
        """
        names.check_stage(stage)
        return self._approvals(self._backend.find(name, read_reference(reference)), stage)

    # ------------------------------------------------------------------ the inside

    def _state(
        self, kind: str, name: str, reference: str | Version, stage: str, *, reason: str, actor: str | None
    ) -> ModelVersion:
        names.check_stage(stage)
        check_reason(reason)
        who = name_actor(actor)
        policy = self.read()
        known = [one.name for one in policy.stages]
        if not policy.others and stage not in known:
            msg = f"the policy has no stage {stage!r}.{nearest(stage, known)} {known_names('Stages', known)}"
            raise PolicyError(msg)
        target = self._backend.find(name, read_reference(reference))
        statements = get_statements(self._backend)
        if kind == "approved":
            statements.state(name, target.version, kind="approved", stage=stage, actor=who, reason=reason)
        else:
            given = [one.actor for one in self._approvals(target, stage)]
            if who not in given:
                hint = f"{nearest(who, given)} {known_names('Approved by', given)}"
                msg = f"{who!r} has not approved {name} {target.version} for {stage!r}.{hint}"
                raise ApprovalNotFoundError(msg)
            statements.state(name, target.version, kind="withdrawn", stage=stage, actor=who, reason=reason)
        self._backend.refresh()
        return target

    def _approvals(self, target: ModelVersion, stage: str) -> tuple[Approval, ...]:
        return find_approvals(self._backend, target.model, target.version, stage)
