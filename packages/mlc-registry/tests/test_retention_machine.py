"""Any sequence of publishing, promoting, yanking, tagging and removing leaves what is in use whole."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlc_registry import (
    DependencyError,
    ModelRegistry,
    RegistryError,
    RemovedVersionError,
    RetentionRule,
    StageNotFoundError,
    VersionNotFoundError,
    YankedVersionError,
)
from mlc_registry.semver.references import read_reference

pytestmark = pytest.mark.slow


def numbers(versions):
    return [str(one.version) for one in versions]


class RetentionMachine(RuleBasedStateMachine):
    """A registry of two models that depend on each other, from which is removed at any moment."""

    @initialize()
    def start(self):
        """Begin with one version of each."""
        self._place = tempfile.TemporaryDirectory()
        self._root = Path(self._place.name)
        self._registry = ModelRegistry(self._root / "registry")
        self._gone = set()
        for name in ("a", "b"):
            self._publish(name, "1.0.0")

    def teardown(self):
        """Leave a history that fits."""
        if hasattr(self, "_registry"):
            self._registry.audit.verify()
            self._registry.close()
            self._place.cleanup()

    def _publish(self, name, version, **options):
        path = self._root / "model.bin"
        path.write_text(f"{name} {version}")
        return self._registry.register_model(name, version, path, **options)

    NAMES = st.sampled_from(["a", "b"])
    VERSIONS = st.sampled_from(["1.0.0", "1.1.0", "1.2.0-rc.1", "2.0.0", "2.1.0"])

    @rule(name=NAMES, version=VERSIONS, text=st.sampled_from([None, None, "*", "^1", "1.0.0", "~2.0"]))
    def publish(self, name, version, text):
        """With a dependency on the other model, if it can be had."""
        other = "b" if name == "a" else "a"
        if (name, version) in self._gone:
            with pytest.raises(RemovedVersionError):
                self._publish(name, version)
            return
        if version in numbers(self._registry.list_versions(name)):
            return
        try:
            self._publish(name, version, dependencies={other: text} if text else None)
        except DependencyError:
            assert text

    @rule(name=NAMES, version=VERSIONS, stage=st.sampled_from(["staging", "production"]))
    def promote(self, name, version, stage):
        """If it may be."""
        try:
            self._registry.promote(name, version, stage)
        except (RemovedVersionError, VersionNotFoundError, YankedVersionError):
            pass
        else:
            assert (name, version) not in self._gone

    @rule(name=NAMES, stage=st.sampled_from(["staging", "production"]))
    def rollback(self, name, stage):
        """What a stage would go back to is there, unless somebody yanked it."""
        try:
            self._registry.rollback(name, stage)
        except StageNotFoundError:
            pass
        except (RemovedVersionError, YankedVersionError):
            changes = self._registry.history(name, stage=stage)
            assert (name, str(changes[-1].before)) not in self._gone

    @rule(name=NAMES, version=VERSIONS)
    def yank(self, name, version):
        """What is there."""
        if (name, version) not in self._gone and version in numbers(self._registry.list_versions(name)):
            self._registry.yank(name, version, "bad")

    @rule(name=NAMES, version=VERSIONS)
    def tag(self, name, version):
        """So that it stays."""
        if (name, version) not in self._gone and version in numbers(self._registry.list_versions(name)):
            found = self._registry.get(name, version).version
            self._registry._backend.store.statements.set_tags(name, found, {"keep": "yes"}, actor="ann")

    @rule(count=st.integers(0, 2))
    def prune(self, count):
        """Nothing that works stops to; what is gone was planned; and there is nothing left to do."""
        rule = RetentionRule(keep_releases=count, keep_prereleases=count, min_age=timedelta(0))
        plan = self._registry.retention.plan(rule)
        before = {}
        for one in plan.kept:
            spec = f"{one.published.model}@{one.published.version}"
            try:
                before[spec] = self._registry.dependencies.resolve([spec])
            except DependencyError:
                continue
        done = self._registry.retention.apply(plan)
        self._gone |= {(one.model, str(one.version)) for one in done.removed}

        assert plan.removed == tuple(self._as_planned(plan, done))
        assert before == {spec: self._registry.dependencies.resolve([spec]) for spec in before}
        assert not self._registry.retention.plan(rule)

    def _as_planned(self, plan, done):
        gone = {(one.model, one.version) for one in done.removed}
        return [one for one in plan.removed if (one.model, one.version) in gone]

    @invariant()
    def what_is_in_use_is_whole(self):
        """Stages, latest, newest, tagged, and everything that is not marked as removed."""
        if not hasattr(self, "_registry"):
            return
        for name in ("a", "b"):
            for one in self._registry.list_versions(name):
                assert one.removed == ((name, str(one.version)) in self._gone)
                if not one.removed:
                    path = self._registry._backend.place(one)
                    assert f"{name} {one.version}" == path.read_text()
            for reference in ("latest", "newest", *(f"@{one.name}" for one in self._registry.stages(name))):
                try:
                    found = self._registry._backend.find(name, read_reference(reference))
                except RegistryError:
                    continue
                assert not found.removed
                assert self._registry._backend.place(found).exists()


TestRetentionMachine = RetentionMachine.TestCase
