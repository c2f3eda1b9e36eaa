"""Stores that pass the contract: ours in both spellings, and one that a plugin might bring."""

import shutil
import threading
from datetime import datetime, timezone

import attrs
import pytest

from mlc_hooks import Plugins, UnknownNameError
from mlc_registry import (
    Change,
    InvalidNameError,
    Model,
    ModelRegistry,
    ModelVersion,
    RegistryNotFoundError,
    Stage,
    StageConflictError,
    StoreError,
    registry_stores,
)
from mlc_registry.catalogs import open_store
from mlc_registry.testing import SearchesContract, StatementsContract, StoreContract


class TestSqliteInADirectory(StoreContract, StatementsContract, SearchesContract):
    """A directory as the registry."""

    @pytest.fixture
    def open_store(self, tmp_path, empty_registry):
        """Open `registry.db` in a directory whose name no URL could hold."""
        place = tmp_path / "a registry? #1 100%"
        shutil.copytree(empty_registry, place)
        return lambda: open_store(place, create=False)


class TestSqliteByUrl(StoreContract, StatementsContract, SearchesContract):
    """A database file of any name."""

    @pytest.fixture
    def open_store(self, tmp_path, empty_registry):
        """Open a file by its URL."""
        shutil.copyfile(empty_registry / "registry.db", tmp_path / "models.sqlite3")
        return lambda: open_store(f"sqlite:///{tmp_path}/models.sqlite3", create=False)


class TestPostgresql(StoreContract, StatementsContract, SearchesContract):
    """A database on a server."""

    @pytest.fixture
    def open_store(self, make_database):
        """Open a database by its URL."""
        url = make_database()
        return lambda: open_store(url, create=False)


class MemoryStore:
    """The facts of a registry in the memory of this process: as little as the contract allows."""

    home = None

    def __init__(self):
        self._lock = threading.RLock()
        self._versions = {}
        self._files = {}
        self._stages = {}
        self._changes = []

    def publish(self, draft):
        """Keep *draft*."""
        with self._lock:
            for model, _ in self._versions:
                if model != draft.model and model.lower() == draft.model.lower():
                    msg = f"there is {model}"
                    raise InvalidNameError(msg)
            there = self.find(draft.model, draft.version)
            if there is not None:
                return there, False
            new = ModelVersion(
                model=draft.model,
                version=draft.version,
                digest=draft.digest,
                size=sum(one.size for one in draft.files),
                directory=draft.directory,
                entry=draft.entry,
                metadata=draft.metadata,
                description=draft.description,
                created_at=datetime.now(timezone.utc),
                created_by=draft.created_by,
                tracking=draft.tracking,
                architecture=draft.architecture,
                dependencies=draft.dependencies,
                parent=draft.parent,
            )
            self._versions[draft.model, draft.version] = new
            self._files[draft.model, draft.version] = draft.files
            self._note(draft.model, "registered", "", None, draft.version, draft.created_by, draft.description)
            return new, True

    def find(self, model, version):
        """Look it up."""
        return self._versions.get((model, version))

    def highest(self, model, intervals, *, yanked=False):
        """Compare them all."""
        found = [one for one in self.list_versions(model) if any(one.version in each for each in intervals)]
        return next((one for one in found if yanked == one.yanked), None)

    def newest(self, model):
        """Trust the order of a dictionary."""
        return next((one for one in reversed(self._of(model)) if not one.yanked), None)

    def find_staged(self, model, stage):
        """Follow the pointer."""
        found = self._stages.get((model, stage))
        return None if found is None else self.find(model, found.version)

    def list_models(self, *, limit=None, after=""):
        """Count and compare."""
        found = []
        for name in sorted({model for model, _ in self._versions if model > after})[:limit]:
            everything = self.list_versions(name)
            latest = [one.version for one in everything if not one.yanked and not one.version.is_prerelease]
            newest = self.newest(name)
            found.append(
                Model(
                    name=name,
                    versions=len(everything),
                    latest=latest[0] if latest else None,
                    newest=newest and newest.version,
                )
            )
        return found

    def find_digest(self, model, digest):
        """Look at all of them."""
        found = [one for one in self.list_versions(model) if one.digest == digest]
        return min(found, key=lambda one: (one.removed, one.yanked), default=None)

    def list_versions(self, model, *, limit=None, below=None):
        """Sort them."""
        found = [one for one in self._of(model) if below is None or one.version < below]
        return sorted(found, key=lambda one: one.version, reverse=True)[:limit]

    def list_files(self, model, version):
        """Look them up."""
        return self._files.get((model, version), ())

    def list_stages(self, model):
        """Sort them."""
        return [one for (name, _), one in sorted(self._stages.items()) if name == model]

    def list_changes(self, model, *, stage=None, limit=None, after=0):
        """Filter them."""
        found = [one for one in self._changes if one.model == model and stage in {None, one.stage}]
        return [one for one in found if one.number > after][:limit]

    def set_yanked(self, model, version, *, yanked, actor, reason):
        """Replace the record."""
        with self._lock:
            found = self.find(model, version)
            if found is not None and (found.yanked, found.yank_reason) != (yanked, reason if yanked else ""):
                found = attrs.evolve(found, yanked=yanked, yank_reason=reason if yanked else "")
                self._versions[model, version] = found
                self._note(model, "yanked" if yanked else "unyanked", "", None, version, actor, reason)
            return found

    def move_stage(self, model, stage, version, *, kind, actor, reason, expected, details="", seen=None):
        """Compare and swap."""
        with self._lock:
            before = self._stages.get((model, stage))
            if expected is not None and expected != (before.version if before else "unset"):
                msg = f"{stage} points to {before and before.version}; {expected} was expected"
                raise StageConflictError(msg)
            if version is None:
                if before is None:
                    msg = f"{stage} points to nothing"
                    raise StageConflictError(msg)
                del self._stages[model, stage]
                self._note(model, kind, stage, before.version, before.version, actor, reason)
                return before, None
            now = datetime.now(timezone.utc)
            after = Stage(model=model, name=stage, version=version, actor=actor, reason=reason, at=now)
            self._stages[model, stage] = after
            self._note(model, kind, stage, before and before.version, version, actor, reason)
            return before, after

    def close(self):
        """Do nothing."""

    def _of(self, model):
        return [one for (name, _), one in self._versions.items() if name == model]

    def _note(self, model, kind, stage, before, after, actor, reason):
        now = datetime.now(timezone.utc)
        facts = {"stage": stage, "before": before, "after": after, "actor": actor, "reason": reason, "at": now}
        self._changes.append(Change(model=model, kind=kind, number=len(self._changes) + 1, **facts))


class TestMemory(StoreContract):
    """Another way to keep the same facts."""

    @pytest.fixture
    def open_store(self):
        """Return one and the same store each time."""
        store = MemoryStore()
        return lambda: store


@pytest.fixture
def memory_plugin(monkeypatch):
    """A plugin that offers the scheme `memory`."""
    from mlc_hooks import hookimpl, plugins
    from mlc_hooks.choice import Choice

    stores = {}

    class Plugin:
        """As a module of hooks."""

        @hookimpl
        def mlc_registry_stores(self):
            """Offer memory."""
            return {"memory": self.open_memory}

        def open_memory(self, url, *, create):
            """Keep everything in memory."""
            if url not in stores and not create:
                msg = f"there is no {url}"
                raise RegistryNotFoundError(msg)
            return stores.setdefault(url, MemoryStore())

    alone = Plugins(strict=True, choice=Choice(only=frozenset()))
    alone.add_home("mlc_registry")
    alone.register(Plugin(), "memory-plugin")
    monkeypatch.setattr(plugins, "_make_shared", lambda: alone)


def test_store_of_a_plugin_is_opened_by_its_scheme(memory_plugin, tmp_path, weights):
    """It holds the facts, and the files go where they are told to."""
    with ModelRegistry("memory://here", artifacts=tmp_path / "artifacts") as registry:
        registry.register_model("net", "1.0.0", weights("abc"))
        registry.promote("net", "^1", "production")

        assert "abc" == registry.get_model_path("net", "production", verify=True).read_text()
        assert "ModelRegistry('memory://here')" == repr(registry)


def test_store_without_a_directory_must_be_told_where_files_go(memory_plugin):
    """A database somewhere else is no place for files."""
    with pytest.raises(StoreError, match="artifacts=DIRECTORY"):
        ModelRegistry("memory://here")


def test_unknown_scheme_is_said(tmp_path):
    """With those that there are."""
    with pytest.raises(UnknownNameError, match=r"registry store 'sqlit'.*Did you mean 'sqlite'"):
        ModelRegistry("sqlit:///x.db")
    assert "sqlite" in registry_stores().names()
