"""Removing what nobody needs: from real registries, whoever is killed or promotes meanwhile."""

import json
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from mlc_registry import (
    LockError,
    ModelRegistry,
    RemovedVersionError,
    RetentionError,
    RetentionRule,
    VersionNotFoundError,
)

NOTHING = RetentionRule(keep_releases=0, keep_prereleases=0, min_age=timedelta(0))
"""Keeps only what has to be kept."""


@pytest.fixture
def opened(place):
    """An empty registry on each database."""
    with place.open() as registry:
        yield registry


@pytest.fixture
def fill(opened, weights):
    """Publish versions, each with content of its own."""

    def publish(*texts, name="net", **options):
        return [opened.register_model(name, text, weights(f"{name} {text}"), **options) for text in texts]

    return publish


def numbers(versions):
    return [str(one.version) for one in versions]


def there(registry, place, name="net"):
    """Return the numbers of the versions whose files are there."""
    return [str(one.version) for one in registry.list_versions(name) if (place.artifacts / one.directory).exists()]


def test_what_nobody_needs_goes(opened, fill, place):
    """Its files; its number, digest and history stay."""
    published = fill("1.0.0", "1.1.0", "1.2.0", "2.0.0", "2.1.0-rc.1")
    opened.promote("net", "1.0.0", "production")
    opened.promote("net", "1.2.0", "production")
    plan = opened.retention.plan(NOTHING)

    assert ["1.1.0"] == numbers(plan.removed)
    assert published[1].size == plan.size
    assert bool(plan)
    assert 5 == len(there(opened, place))
    done = opened.retention.apply(plan, actor="ann", reason="disk full")
    assert ["1.1.0"] == numbers(done.removed)
    assert plan.size == done.size
    assert ["2.1.0-rc.1", "2.0.0", "1.2.0", "1.0.0"] == there(opened, place)
    found = opened.get("net", "1.1.0")
    assert (True, True, published[1].digest) == (found.removed, found.yanked, found.digest)
    last = opened.history("net")[-1]
    assert ("removed", "ann", "disk full") == (last.kind, last.actor, last.reason)
    assert not opened.retention.plan(NOTHING)
    assert not opened.retention.apply(plan).removed
    opened.audit.verify()


def test_what_was_removed_is_said_so(opened, fill, place, weights):
    """To who asks for the files, and to who wants the number again, with the same files or with others."""
    fill("1.0.0", "2.0.0")
    opened.retention.apply(opened.retention.plan(NOTHING), reason="disk full")
    for ask in (opened.get_model_path, opened.verify):
        with pytest.raises(RemovedVersionError, match="disk full"):
            ask("net", "1.0.0")
    for content in ("net 1.0.0", "other"):
        with pytest.raises(RemovedVersionError, match=r"net 1\.0\.0 .*disk full.* never used again"):
            opened.register_model("net", "1.0.0", weights(content))
    with pytest.raises(RemovedVersionError, match="disk full"):
        opened.promote("net", "1.0.0", "production")
    (objection,) = opened.policy.check("net", "1.0.0", "production")
    assert ("removed", False) == (objection.rule, "unyank" in objection.reason)
    with pytest.raises(VersionNotFoundError, match=r"1\.0\.0 \(removed\)(?s:.)*removed for good"):
        opened.resolve("net", "^1")
    with pytest.raises(VersionNotFoundError):
        opened.resolve("net", "^1")
    assert ["2.0.0"] == there(opened, place)


def test_everything_that_holds_a_version_is_a_reason(opened, fill, tmp_path):
    """Tags, lock files, dependencies, parents: all of them are told."""
    fill("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0")
    opened._backend.store.statements.set_tags("net", opened.get("net", "1.0.0").version, {"keep": "paper"}, actor="ann")
    opened.dependencies.lock(["net@1.1.0"], tmp_path / "mlc.lock")
    fill("1.0.0", name="app", dependencies={"net": "~1.2"})
    fill("1.0.0", name="child", parent="net@1.3.0")
    plan = opened.retention.plan(NOTHING, locks=[tmp_path / "mlc.lock"])

    assert ["1.4.0"] == numbers(plan.removed)
    assert {
        "1.0.0": ("tagged keep",),
        "1.1.0": (f"locked in {tmp_path / 'mlc.lock'}",),
        "1.2.0": ("app 1.0.0 needs ~1.2", "app 1.0.0 resolves to it"),
        "1.3.0": ("child 1.0.0 was made from it",),
        "1.5.0": ("latest", "newest"),
    } == {str(one.published.version): one.reasons for one in plan.kept if one.published.model == "net"}
    assert "1.3.0" in numbers(opened.retention.plan(RetentionRule(keep_parents=False, **RULE)).removed)
    assert ["1.4.0", "1.1.0", "1.0.0"] == numbers(opened.retention.plan(RetentionRule(keep_tag="", **RULE)).removed)


RULE = {"keep_releases": 0, "keep_prereleases": 0, "min_age": timedelta(0)}


def test_a_lock_file_that_cannot_be_read_stops_it(opened, fill, tmp_path):
    """Both the plan and its application: what is locked is not known then."""
    fill("1.0.0", "2.0.0", "3.0.0")
    path = tmp_path / "mlc.lock"
    opened.dependencies.lock(["net@1.0.0"], path)
    plan = opened.retention.plan(NOTHING, locks=[path])
    assert ["2.0.0"] == numbers(plan.removed)
    path.write_text("{}")
    for act in (lambda: opened.retention.plan(NOTHING, locks=[path]), lambda: opened.retention.apply(plan)):
        with pytest.raises(LockError):
            act()
    assert not opened.get("net", "2.0.0").removed


def test_what_is_needed_since_the_plan_is_spared(opened, fill, place):
    """With the reason; what was published since is no part of it."""
    fill("1.0.0", "1.1.0", "1.2.0", "2.0.0")
    plan = opened.retention.plan(NOTHING)
    opened.promote("net", "1.0.0", "production")
    fill("1.0.0", name="app", dependencies={"net": "~1.1"})
    done = opened.retention.apply(plan)

    assert ["1.2.0"] == numbers(done.removed)
    assert [("1.1.0", "app 1.0.0 needs ~1.1; app 1.0.0 resolves to it"), ("1.0.0", "stage production")] == [
        (str(one.version), why) for one, why in done.spared
    ]
    assert ["2.0.0", "1.1.0", "1.0.0"] == there(opened, place)


def test_a_promotion_at_the_last_moment_wins(opened, fill, place):
    """Between the decision and its line of history: the version stays, and so do its files."""
    fill("1.0.0", "1.1.0", "2.0.0")
    plan = opened.retention.plan(NOTHING)
    moved = []

    def promote(frame, event, argument):
        if frame.f_code.co_name == "remove" and event == "call" and not moved:
            moved.append(True)
            with place.open() as other:
                other.promote("net", "1.1.0", "production")

    sys.setprofile(promote)
    try:
        done = opened.retention.apply(plan)
    finally:
        sys.setprofile(None)

    assert moved
    assert ["1.0.0"] == numbers(done.removed)
    ((spared, why),) = done.spared
    assert ("1.1.0", "stage production") == (str(spared.version), why)
    opened.verify("net", "@production")
    assert ["2.0.0", "1.1.0"] == there(opened, place)


@pytest.mark.parametrize(
    "need",
    [
        lambda registry: registry.releases.tag("net", "1.0.0", {"keep": ""}),
        lambda registry: registry.yank("net", "2.0.0", "broken"),
        lambda registry: registry.register_model("app", "1.0.0", __file__, dependencies={"net": "~1.0"}),
    ],
)
def test_what_comes_to_be_needed_at_the_last_moment_stays(opened, fill, place, monkeypatch, need):
    """The line of history that says so is behind the one that was seen, so everything is decided again."""
    fill("1.0.0", "1.1.0", "2.0.0")
    plan = opened.retention.plan(NOTHING)
    kind = type(opened._backend.store.statements)
    remove, left = kind.remove, [need]

    def interrupted(statements, *names, **options):
        if left:
            with place.open() as other:
                left.pop()(other)
        return remove(statements, *names, **options)

    monkeypatch.setattr(kind, "remove", interrupted)
    done = opened.retention.apply(plan)

    assert 1 == len(done.spared) == len(done.removed)
    (spared, _) = done.spared[0]
    opened.verify("net", spared.version)


def test_another_registry_in_the_same_place_keeps_its_files(opened, weights, fill, place, tmp_path):
    """A directory that was freed may be theirs by now."""
    fill("1.0.0", "2.0.0")
    opened.retention.apply(opened.retention.plan(NOTHING))
    with ModelRegistry(tmp_path / "other", artifacts=place.artifacts) as other:
        other.register_model("net", "1.0.0", weights("theirs"))
        plan = opened.retention.plan(NOTHING)

        assert not plan.unfinished
        assert not opened.retention.apply(plan).removed
        other.verify("net", "1.0.0")


def test_files_that_cannot_be_removed_are_reported(opened, fill, place, mlc, monkeypatch):
    """They are no success, and the next call tries again."""
    fill("1.0.0", "2.0.0")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("mlc_registry.artifacts.staging.Rooms.take", refuse)
        done = opened.retention.apply(opened.retention.plan(NOTHING))
        command = ("registry", "prune", "--keep-releases", 0, "--min-age", 0, "--apply")
        status, shown, told = mlc(*command, "--registry", place.root, "--artifacts", place.artifacts)

    ((left, why),) = done.left
    assert ("1.0.0", ()) == (str(left.version), done.removed)
    assert "Permission denied" in why
    assert (0, True) == (status, "net 1.0.0 is marked as removed, but" in told)
    assert "0 versions removed" in shown
    assert ["1.0.0"] == numbers(opened.retention.apply(opened.retention.plan(NOTHING)).removed)
    assert ["2.0.0"] == there(opened, place)


def test_many_removals_are_shown(opened, fill, place, monkeypatch):
    """The directories for people catch up with so many lines only, so they are drawn in between."""
    monkeypatch.setattr("mlc_registry.directories.view.AT_ONCE", 2)
    monkeypatch.setattr("mlc_registry.retention.room.DRAWN", 1)
    fill(*[f"1.{number}.0" for number in range(6)])
    with place.open(view=place.artifacts.parent / "shown") as shown:
        shown.view.rebuild()
        assert 5 == len(shown.retention.apply(shown.retention.plan(NOTHING)).removed)
    for number in range(5):
        folder = place.artifacts.parent / "shown" / "net" / f"1.{number}.0"
        assert ["metadata.json"] == [one.name for one in folder.iterdir()]


def test_promoting_and_removing_at_once(opened, fill, place):
    """Whoever wins, a stage never points to a version without files."""
    fill(*[f"1.{number}.0" for number in range(12)])
    plan = opened.retention.plan(NOTHING)
    refused = []

    def promote_all():
        with place.open() as other:
            for number in range(11):
                try:
                    other.promote("net", f"1.{number}.0", f"stage-{number}")
                except RemovedVersionError:
                    refused.append(number)

    thread = threading.Thread(target=promote_all)
    thread.start()
    done = opened.retention.apply(plan)
    thread.join()

    stages = opened.stages("net")
    assert 11 == len(stages) + len(refused)
    assert len(done.removed) == len(refused)
    for one in stages:
        opened.verify("net", one.version)
    opened.audit.verify()


def test_shared_files_stay(registry, checkpoint, tmp_path):
    """What a checkpoint or another version shares with a removed one by hard links is as it was."""
    registry.register_model("net", "1.0.0", checkpoint)
    registry.register_model("net", "1.1.0", checkpoint)
    first = registry.resolve("net", "1.0.0").path / "model.safetensors"
    assert 3 == first.stat().st_nlink
    registry.retention.apply(registry.retention.plan(NOTHING))

    assert not first.exists()
    assert bytes(range(256)) == (checkpoint / "model.safetensors").read_bytes()
    registry.verify("net", "1.1.0")


# Counts the calls that change something outside of the process, and dies before one of them.
PRUNER = """
import os, signal, sys, traceback
from datetime import timedelta
from pathlib import Path
from mlc_registry import ModelRegistry, RetentionRule

root, artifacts, source = sys.argv[1], sys.argv[2], Path(sys.argv[3])
rule = RetentionRule(keep_releases=0, keep_prereleases=0, min_age=timedelta(0))
CALLS = {
    *[("posix", name) for name in "mkdir open fsync rename replace symlink unlink rmdir close".split()],
    ("Cursor", "execute"), ("Connection", "execute"), ("Connection", "commit"),
}

def kill_at(moment):
    seen = 0
    def watch(frame, event, argument):
        nonlocal seen
        if event == "c_call":
            owner = argument.__module__ or type(argument.__self__).__name__
            counts = (owner, argument.__name__) in CALLS
        else:  # what the server is asked, and what it has answered, is seen in psycopg's own functions only
            counts = frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("psycopg/connection.py")
        if counts:
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)

def open_it():
    return ModelRegistry(root, artifacts=artifacts)

moment, begun = 0, True
while True:
    moment += 1 + ("://" in root) if begun else 8  # what is left to do then is for people to see
    with open_it() as registry:
        for number in range(2 if moment < 3 else 1):  # that of the moment before is the one to go
            source.write_text(f"{moment} {number}")
            registry.register_model("net", f"{moment}.{number}.0", source)
    child = os.fork()
    if not child:
        try:
            with open_it() as registry:
                plan = registry.retention.plan(rule)
                kill_at(moment)
                registry.retention.apply(plan)
            sys.setprofile(None)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    with open_it() as registry:
        for one in registry.list_versions("net"):
            if not one.removed:
                registry.verify("net", one.version)
        plan = registry.retention.plan(rule)
        print(len(plan.removed), len(plan.unfinished), flush=True)
        begun = bool(plan)
        registry.retention.apply(plan)
        assert not registry.retention.plan(rule)
        there = [one for one in registry.list_versions("net") if (Path(artifacts) / one.directory).exists()]
        assert [max(one.version for one in registry.list_versions("net"))] == [one.version for one in there]
        registry.artifacts.sweep(older_than=timedelta(0), dry_run=False)
        assert [] == list(Path(artifacts).glob(".staging/*"))
        if status == 0:
            registry.audit.verify()
            break
"""


@pytest.mark.slow
def test_killed_at_any_moment(opened, place, tmp_path):
    """Between the line of history and the last file: what stays is whole, and the next one finishes what was begun."""
    opened.close()
    arguments = [place.root, str(place.artifacts), str(tmp_path / "model.bin")]
    process = subprocess.run([sys.executable, "-c", PRUNER, *arguments], check=False, capture_output=True, text=True)
    assert 0 == process.returncode, process.stderr
    seen = process.stdout.splitlines()

    assert len(seen) > 10
    assert {"0 0", "0 1"} < set(seen)  # "0 1": died between the history and the files
    assert "0 0" == seen[-1]


def test_files_that_were_left_are_found(opened, fill, place):
    """A version that is marked as removed, and its files are still there: they are a plan of their own."""
    (first, _) = fill("1.0.0", "2.0.0")
    opened._backend.store.statements.remove("net", first.version, actor="ann", reason="old")
    plan = opened.retention.plan(NOTHING)

    assert ((), ["1.0.0"]) == (plan.removed, numbers(plan.unfinished))
    assert ["1.0.0"] == numbers(opened.retention.apply(plan).removed)
    assert ["2.0.0"] == there(opened, place)
    assert not opened.retention.plan(NOTHING)


def test_prune_shows_before_it_does(opened, fill, place, mlc):
    """What would go and why everything else stays; only --apply does it."""
    fill("1.0.0", "1.1.0", "2.0.0")
    opened.promote("net", "1.1.0", "production")
    command = ("registry", "prune", "--keep-releases", 0, "--min-age", 0, "--registry", place.root)
    command += ("--artifacts", place.artifacts)
    status, shown, _ = mlc(*command)

    assert 0 == status
    assert "stage production" in shown
    assert "Would be removed" in shown
    assert "1 version would be removed, 9 B; say --apply to do it" in shown
    assert 3 == len(there(opened, place))
    found = json.loads(mlc(*command, "--json")[1])
    assert (["1.0.0"], None) == ([one["version"] for one in found["removed"]], found["applied"])
    assert "1 version removed, 9 B" in mlc(*command, "--apply", "--actor", "ann", "--reason", "old")[1]
    assert ["2.0.0", "1.1.0"] == there(opened, place)
    assert "0 versions would be removed, 0 B\n" in mlc(*command)[1]
    applied = json.loads(mlc(*command, "--apply", "--json")[1])["applied"]
    assert {"removed": [], "left": [], "spared": [], "size": 0} == applied
    assert 2 == mlc(*command, "--min-age", "-1")[0]


def test_nan_is_no_number(place, mlc):
    """Neither an age nor a time."""
    for command in (("prune", "--min-age"), ("sweep", "--older-than")):
        status, _, told = mlc("registry", *command, "nan", "--registry", place.root)
        assert (2, True) == (status, "is not a number" in told)


@pytest.mark.parametrize("wrong", [{"keep_releases": -1}, {"keep_prereleases": 1.5}, {"min_age": timedelta(-1)}])
def test_a_rule_that_is_none_is_refused(wrong):
    """Naming the part."""
    with pytest.raises(RetentionError, match=next(iter(wrong))):
        RetentionRule(**wrong)


def test_files_in_two_versions_are_found_by_the_one_that_is_there(opened, weights, tmp_path):
    """By digest and by lock, though a higher version was yanked or removed."""
    path = weights("same")
    first = opened.register_model("net", "1.0.0", path)
    opened.dependencies.lock(["net@1.0.0"], tmp_path / "mlc.lock")
    opened.register_model("net", "1.1.0", path)
    removed = opened.register_model("net", "1.2.0", path)
    opened._backend.store.statements.remove("net", removed.version, actor="ann", reason="old")
    opened._backend.artifacts.discard(removed.directory)

    assert "1.1.0" == str(opened.resolve("net", first.digest).version)
    assert opened._backend.place(first) == opened.dependencies.path("net", tmp_path / "mlc.lock")
    opened.yank("net", "1.1.0", "bad")
    assert "1.0.0" == str(opened.resolve("net", first.digest).version)
    opened._backend.store.statements.remove("net", first.version, actor="ann", reason="old")
    assert opened._backend.place(opened.get("net", "1.1.0")) == opened.dependencies.path("net", tmp_path / "mlc.lock")
