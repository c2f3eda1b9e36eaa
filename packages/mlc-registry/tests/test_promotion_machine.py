"""Any history under any policy: what the policy forbids never happens without force, and is remembered with it."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mlc_registry import (
    ApprovalNotFoundError,
    CheckRule,
    ModelRegistry,
    Policy,
    PromotionRefusedError,
    StageNotFoundError,
    StageRule,
    Version,
    YankedVersionError,
)

pytestmark = pytest.mark.slow

PUBLISHED = {
    Version(1, 0, 0): (0.5, "ann"),
    Version(1, 1, 0): (0.7, "bob"),
    Version(2, 0, 0, ("rc", 1)): (0.9, "ann"),
    Version(2, 0, 0): (None, "bob"),
}
VERSIONS = st.sampled_from(sorted(PUBLISHED))
STAGES = st.sampled_from(["staging", "production", "canary"])
ACTORS = st.sampled_from(["ann", "bob", "eve"])
CHECKS = st.fixed_dictionaries(
    {},
    optional={
        "metric_gate": st.fixed_dictionaries(
            {"metric": st.just("dice"), "not_worse": st.just(True)},
            optional={"minimum": st.sampled_from([0.6, 0.8])},
        ),
        "approval": st.fixed_dictionaries({}, optional={"count": st.just(2), "not_publisher": st.just(True)}),
    },
)


class PolicyMachine(RuleBasedStateMachine):
    """A registry beside the steps of each stage, who has approved, and a policy that is read by a few lines."""

    @initialize(checks=CHECKS, prereleases=st.booleans(), after=st.booleans(), others=st.booleans())
    def start(self, checks, prereleases, after, others):
        """Publish everything, and configure."""
        self._place = tempfile.TemporaryDirectory()
        self._root = Path(self._place.name)
        self._registry = self._open()
        self._steps = {"staging": [], "production": [], "canary": []}
        self._been = {name: set() for name in self._steps}
        self._approved = set()
        self._yanked = set()
        self._forced = 0
        (self._root / "model.bin").write_text("weights")
        for version, (dice, publisher) in PUBLISHED.items():
            metadata = {"metrics": {} if dice is None else {"dice": dice}}
            self._registry.register_model("net", version, self._root / "model.bin", metadata, actor=publisher)
        self._configure(checks, prereleases, after, others)

    def _open(self):
        return ModelRegistry(self._root / "registry")

    def teardown(self):
        """The history fits."""
        if hasattr(self, "_registry"):
            self._registry.audit.verify()
            self._registry.close()
            self._place.cleanup()

    def _configure(self, checks, prereleases, after, others):
        rules = [CheckRule(name, options) for name, options in checks.items()]
        production = StageRule("production", ["staging"] if after else (), rules, prereleases=prereleases)
        self._registry.policy.write(Policy([StageRule("staging"), production], others=others))
        self._rules = (checks, prereleases, after, others)

    def _objections(self, version, stage):
        """Return the rules that object, as the documentation says."""
        checks, prereleases, after, others = self._rules
        if stage == "canary":
            return set() if others else {"stage"}
        if stage == "staging":
            return set()
        found = set()
        if after and version not in {*self._steps["staging"], *self._been["staging"]}:
            found.add("after")
        if version.is_prerelease and not prereleases:
            found.add("prereleases")
        if "metric_gate" in checks and not self._passes_gate(version, checks["metric_gate"]):
            found.add("metric_gate")
        if "approval" in checks:
            options = checks["approval"]
            given = {who for who, one, where in self._approved if (one, where) == (version, stage)}
            given -= {PUBLISHED[version][1]} if options.get("not_publisher") else set()
            if len(given) < options.get("count", 1):
                found.add("approval")
        return found

    def _passes_gate(self, version, options):
        dice = PUBLISHED[version][0]
        if dice is None or dice < options.get("minimum", 0):
            return False
        if not self._steps["production"]:
            return True
        there = PUBLISHED[self._steps["production"][-1]][0]
        return there is not None and dice >= there

    @rule(checks=CHECKS, prereleases=st.booleans(), after=st.booleans(), others=st.booleans())
    def configure(self, checks, prereleases, after, others):
        """Let another policy hold."""
        self._configure(checks, prereleases, after, others)

    @rule(version=VERSIONS, stage=STAGES, force=st.booleans())
    def promote(self, version, stage, force):
        """Move a stage, if the policy allows it or nobody asks it."""
        expected = self._objections(version, stage)
        dry = {one.rule for one in self._registry.policy.check("net", version, stage)}
        assert dry - {"yanked"} == expected
        assert ("yanked" in dry) == (version in self._yanked)
        if version in self._yanked:
            with pytest.raises(YankedVersionError):
                self._registry.promote("net", version, stage, force=force, reason="why not")
            return
        if expected and not force:
            with pytest.raises(PromotionRefusedError) as caught:
                self._registry.promote("net", version, stage, reason="why not")
            assert expected == {one.rule for one in caught.value.objections}
            return
        self._registry.promote("net", version, stage, force=force, reason="why not")
        details = self._registry.history("net", stage=stage)[-1].details
        assert expected == {one["rule"] for one in json.loads(details or '{"objections": []}')["objections"]}
        if self._steps[stage][-1:] != [version]:
            self._steps[stage].append(version)

    @rule(stage=STAGES)
    def rollback(self, stage):
        """Move a stage back, which the policy is not asked about."""
        steps = self._steps[stage]
        if len(steps) < 2 or steps[-2] in self._yanked:
            with pytest.raises((StageNotFoundError, YankedVersionError)):
                self._registry.rollback("net", stage)
        else:
            self._registry.rollback("net", stage)
            steps.pop()

    @rule(stage=STAGES)
    def demote(self, stage):
        """Let a stage point to nothing, which takes from no version that it has been there."""
        if self._steps[stage]:
            self._registry.demote("net", stage)
            self._been[stage].update(self._steps[stage])
            self._steps[stage].clear()
        else:
            with pytest.raises(StageNotFoundError):
                self._registry.demote("net", stage)

    @rule(version=VERSIONS, stage=st.sampled_from(["staging", "production"]), actor=ACTORS)
    def approve(self, version, stage, actor):
        """Approve once, or once more."""
        self._registry.policy.approve("net", version, stage, actor=actor)
        self._approved.add((actor, version, stage))

    @rule(version=VERSIONS, stage=st.sampled_from(["staging", "production"]), actor=ACTORS)
    def withdraw(self, version, stage, actor):
        """Take it back, if there is anything."""
        if (actor, version, stage) in self._approved:
            self._registry.policy.withdraw("net", version, stage, actor=actor)
            self._approved.discard((actor, version, stage))
        else:
            with pytest.raises(ApprovalNotFoundError):
                self._registry.policy.withdraw("net", version, stage, actor=actor)

    @rule(version=VERSIONS)
    def yank(self, version):
        """No policy lets a yanked version in, and no force."""
        self._registry.yank("net", version, "bad")
        self._yanked.add(version)

    @rule(version=VERSIONS)
    def unyank(self, version):
        """Undo it."""
        self._registry.unyank("net", version)
        self._yanked.discard(version)

    @invariant()
    def stages_and_approvals_agree(self):
        """What is where, and who said so."""
        if not hasattr(self, "_registry"):
            return
        expected = {name: steps[-1] for name, steps in self._steps.items() if steps}
        assert expected == {one.name: one.version for one in self._registry.stages("net")}
        for version in PUBLISHED:
            for stage in ("staging", "production"):
                found = [one.actor for one in self._registry.policy.approvals("net", version, stage)]
                assert sorted(who for who, *rest in self._approved if rest == [version, stage]) == sorted(found)


TestPolicyMachine = PolicyMachine.TestCase
TestPolicyMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_policy_machine_on_postgresql(make_database):
    """The same on a server."""

    class PostgresqlMachine(PolicyMachine):
        """Each sequence in a database of its own."""

        def _open(self):
            return ModelRegistry(make_database(), artifacts=self._root / "artifacts")

    run_state_machine_as_test(
        PostgresqlMachine, settings=settings(max_examples=4, stateful_step_count=25, deadline=None)
    )
