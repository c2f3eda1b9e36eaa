"""Any sequence of publishing, yanking, promoting and asking agrees with a few lines of Python."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from mlc_registry import (
    ModelRegistry,
    Range,
    RemovedVersionError,
    StageConflictError,
    StageNotFoundError,
    Version,
    VersionExistsError,
    VersionNotFoundError,
    YankedVersionError,
)
from mlc_registry.testing import ranges

VERSIONS = st.builds(
    Version,
    st.integers(0, 2),
    st.sampled_from([0, 1, 9, 10]),
    st.just(0),
    st.sampled_from([(), (), ("rc", 1), ("rc", 10), (0,)]),
)
STAGES = st.sampled_from(["staging", "production"])
KEYS = st.sampled_from(["task", "owner"])
CONTENTS = st.sampled_from(["a", "b"])


class RegistryMachine(RuleBasedStateMachine):
    """A registry beside a dictionary of versions and, for each stage, the steps that it took."""

    @initialize()
    def start(self):
        """Begin with nothing."""
        self._place = tempfile.TemporaryDirectory()
        self._root = Path(self._place.name)
        self._artifacts = self._root / "registry" / "artifacts"
        self._registry = self._open()
        self._contents = {}
        self._yanked = set()
        self._steps = {"staging": [], "production": []}
        self._removed = set()
        self._tags = {}
        self._notes = {}
        self._publish(Version(1, 0, 0), "a")  # or most questions would be about nothing

    def _open(self):
        return ModelRegistry(self._root / "registry")

    def teardown(self):
        """Leave nothing but a history that fits."""
        if hasattr(self, "_registry"):
            assert len(self._contents) == self._registry.audit.verify().versions
            self._registry.close()
            self._place.cleanup()

    def _publish(self, version, content):
        path = self._root / "model.bin"
        path.write_text(content)
        published = self._registry.register_model("net", version, path)
        self._contents.setdefault(version, content)
        assert version == published.version

    @rule(version=VERSIONS, content=CONTENTS)
    def publish(self, version, content):
        """Publish something new, the same again, or something else under the same number."""
        if self._contents.get(version, content) == content:
            self._publish(version, content)
        else:
            with pytest.raises(VersionExistsError):
                self._publish(version, content)

    @rule(version=VERSIONS)
    def yank(self, version):
        """Yank what is there, or what is not."""
        if version in self._contents:
            self._registry.yank("net", version, "bad")
            self._yanked.add(version)
        else:
            with pytest.raises(VersionNotFoundError):
                self._registry.yank("net", version, "bad")

    @rule(version=VERSIONS)
    def unyank(self, version):
        """Undo it, whether it was done or not."""
        if version in self._removed:
            with pytest.raises(RemovedVersionError):
                self._registry.unyank("net", version)
        elif version in self._contents:
            self._registry.unyank("net", version)
            self._yanked.discard(version)

    @rule(version=VERSIONS)
    def remove(self, version):
        """Say that a version is gone for good, unless a stage points to it."""
        statements = self._registry._backend.store.statements
        if version not in self._contents:
            with pytest.raises(VersionNotFoundError):
                statements.remove("net", version, actor="ann", reason="old")
        elif any(steps[-1:] == [version] for steps in self._steps.values()) and version not in self._removed:
            with pytest.raises(StageConflictError):
                statements.remove("net", version, actor="ann", reason="old")
        else:
            statements.remove("net", version, actor="ann", reason="old")
            self._removed.add(version)
            self._yanked.add(version)
            with pytest.raises(RemovedVersionError, match="old"):
                self._registry.resolve("net", version)

    @rule(version=VERSIONS, tags=st.dictionaries(KEYS, st.sampled_from(["ct", "mr", None]), max_size=2))
    def tag(self, version, tags):
        """Set tags, take them off, or both."""
        if version in self._contents:
            there = self._tags.setdefault(version, {})
            there.update(tags)
            kept = self._registry._backend.store.statements.set_tags("net", version, tags, actor="ann")
            self._tags[version] = {key: value for key, value in there.items() if value is not None}
            assert self._tags[version] == kept

    @rule(version=VERSIONS, text=st.sampled_from(["Alpha", "alphabet soup", ""]))
    def note(self, version, text):
        """Write the notes anew."""
        if version in self._contents:
            self._registry._backend.store.statements.state("net", version, kind="noted", details=text, actor="ann")
            self._notes[version] = text

    @rule(
        tags=st.dictionaries(KEYS, st.sampled_from(["ct", "mr", None]), max_size=2),
        words=st.sampled_from([[], ["net"], ["alpha"], ["alphabet"], ["alphabet", "so"], ["c"]]),
        stage=st.none() | STAGES,
        yanked=st.booleans(),
    )
    def search(self, tags, words, stage, yanked):
        """Find by whatever was said."""
        found = self._registry.search(*words, tags=tags, stage=stage, yanked=yanked).versions
        assert {one for one in self._contents if self._meets(one, tags, words, stage, yanked)} == {
            one.version for one in found
        }

    def _meets(self, version, tags, words, stage, yanked):
        there = self._tags.get(version, {})
        said = {"net", *self._notes.get(version, "").lower().split(), *there, *there.values()}
        return (
            all(key in there and value in {None, there[key]} for key, value in tags.items())
            and all(one in said for one in words[:-1])
            and all(any(each.startswith(one) for each in said) for one in words[-1:])
            and (stage is None or self._steps[stage][-1:] == [version])
            and (yanked or version not in self._yanked)
        )

    @rule(version=VERSIONS, stage=STAGES, expected=st.none() | VERSIONS | st.just("unset"))
    def promote(self, version, stage, expected):
        """Move a stage, if all is as expected."""
        steps = self._steps[stage]
        if version not in self._contents:
            error = VersionNotFoundError
        elif version in self._yanked:
            error = YankedVersionError
        elif expected not in {None, steps[-1] if steps else "unset"}:
            error = StageConflictError
        else:
            self._registry.promote("net", version, stage, expected=expected)
            if steps[-1:] != [version]:
                steps.append(version)
            return
        with pytest.raises(error):
            self._registry.promote("net", version, stage, expected=expected)

    @rule(stage=STAGES)
    def rollback(self, stage):
        """Move a stage back, if there is a way."""
        steps = self._steps[stage]
        if len(steps) < 2 or steps[-2] in self._yanked:
            with pytest.raises(StageNotFoundError if len(steps) < 2 else YankedVersionError):
                self._registry.rollback("net", stage)
        else:
            self._registry.rollback("net", stage)
            steps.pop()

    @rule(text=ranges() | st.sampled_from(["^1", "~0.9", "1.x", ">=1.0.0-rc.1 <2", "*"]), include=st.booleans())
    def resolve(self, text, include):
        """Ask by range."""
        wanted = Range.parse(text, include_prereleases=include)
        usable = set(self._contents) - (set() if wanted.exact else self._yanked)
        expected = max((one for one in usable if one in wanted), default=None)
        if expected is None:
            with pytest.raises(VersionNotFoundError):
                self._registry.resolve("net", text, include_prereleases=include)
        elif expected not in self._yanked:
            assert expected == self._registry.resolve("net", text, include_prereleases=include).version

    @invariant()
    def stages_and_contents_agree(self):
        """What the stages point to, what there is, and what is in it."""
        if not hasattr(self, "_registry"):
            return
        expected = {name: steps[-1] for name, steps in self._steps.items() if steps}
        assert expected == {one.name: one.version for one in self._registry.stages("net")}
        found = self._registry.list_versions("net")
        assert sorted(self._contents, reverse=True) == [one.version for one in found]
        assert self._yanked == {one.version for one in found if one.yanked}
        for one in found:
            path = self._artifacts / one.directory / one.entry
            assert self._contents[one.version] == path.read_text()


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_registry_machine_on_postgresql(make_database):
    """The same on a server."""

    class PostgresqlMachine(RegistryMachine):
        """Each sequence in a database of its own."""

        def _open(self):
            return ModelRegistry(make_database(), artifacts=self._artifacts)

    run_state_machine_as_test(
        PostgresqlMachine, settings=settings(max_examples=4, stateful_step_count=20, deadline=None)
    )
