"""A life of a directory, drawn at random: saves, deaths, restarts, damage and deletions, against a simple model."""

import math
import shutil
import uuid
import warnings
from contextlib import suppress
from unittest.mock import patch

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlc_core import CheckpointManager, CheckpointNotFoundError, CheckpointWarning, CorruptCheckpointError, Monitor
from mlc_core.retention.simple import rank
from mlc_core.storage import MemoryStorage
from mlc_core.testing.strategies import state_trees

SCORE = Monitor(metric="score", mode="max")
SCORES = st.sampled_from([0.0, 0.25, 0.5, 1.0, math.inf, math.nan, None])


@attrs.define
class Expected:
    """What the model knows of one checkpoint."""

    saved: object
    payload: object
    damage: str | None = None
    """Which file was changed: `manifest.json`, another one, or none."""


class LocalPlace:
    """A directory, and what can be done to it by hand."""

    def __init__(self, base, death):
        self.url = base / uuid.uuid4().hex
        self.root = self.url / "unet"
        self.death = death

    def die(self, manager, calls, save):
        """Call *save* and die after so many calls; say whether it came to its end."""
        with self.death.after(self.root, calls) as death:
            save()
        return death.calls <= calls

    def delete(self, name):
        """Delete a checkpoint as a person would."""
        shutil.rmtree(self.root / name)

    def flip(self, name, file, place, bit):
        """Flip one bit of one file."""
        path = self.root / name / file
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1 << bit
        path.unlink()  # in place, the change could be so quick that its time is the same
        path.write_bytes(content)


class MemoryPlace:
    """The memory of this process, and what can be done to it."""

    def __init__(self, base, death):
        self.url = f"memory://{uuid.uuid4().hex}"

    @property
    def storage(self):
        """The storage that everybody who opens the URL shares."""
        return MemoryStorage.from_url(f"{self.url}/unet")

    def die(self, manager, calls, save):
        """Let the save end before its commit, or after it."""
        if calls >= 10:
            save()
            return True
        return False

    def delete(self, name):
        """Delete a checkpoint behind the manager's back."""
        self.storage.remove(name)

    def flip(self, name, file, place, bit):
        """Flip one bit of one file, as a copy that took its place."""
        files = dict(self.storage._entries[name])
        content = bytearray(files[file])
        content[int(place * len(content))] ^= 1 << bit
        self.storage.remove(name)
        self.storage.publish(name, {**files, file: bytes(content)})


def make_machine(place_type, base, death, same):  # noqa: C901 - one class, many small methods
    """Return the machine for one kind of place."""

    class Machine(RuleBasedStateMachine):
        @initialize(count=st.integers(2, 4), monitored=st.booleans())
        def begin(self, count, monitored):
            self.place = place_type(base, death)
            self.options = {
                "max_checkpoints": count,
                **({"monitor_metric": "score", "mode": "max"} if monitored else {}),
            }
            self.alive: list[Expected] = []
            self.epoch, self.seen = 0, set()
            self.told = []
            self.patches = [
                patch("mlc_core.events.checkpoint_removed", lambda one, _, reason: self.told.append((one.id, reason))),
                patch("mlc_core.events.checkpoint_saved", lambda one, _: None),
            ]
            for one in self.patches:
                one.start()
            self.reopen()

        def teardown(self):
            for one in getattr(self, "patches", []):
                one.stop()

        # -------------------------------------------------------------- what happens

        @rule()
        def reopen(self):
            """Another process comes; it cannot know of numbers whose checkpoints are gone."""
            self.seen = set()
            self.manager = CheckpointManager(self.place.url, "unet", **self.options)

        @rule(score=SCORES, payload=state_trees(max_leaves=4))
        def save(self, score, payload):
            """Train an epoch and save it."""
            self.epoch += 1
            self.commit(self.epoch, score, payload)

        @precondition(lambda self: self.epoch > 1)
        @rule(score=SCORES, data=st.data())
        def train_again(self, score, data):
            """Go back to an earlier epoch and train on from there."""
            self.epoch = data.draw(st.integers(1, self.epoch - 1))
            self.commit(self.epoch, score, "again")

        @rule(step=st.integers(0, 3), payload=state_trees(max_leaves=2))
        def save_in_the_middle(self, step, payload):
            """Save because a signal came."""
            self.commit(self.epoch + 1, None, payload, step=step, epoch_ended=False, reason="signal")

        @rule(calls=st.integers(0, 45), score=SCORES)
        def die_while_saving(self, calls, score):
            """The process is killed somewhere in a save; another one comes."""
            self.epoch += 1
            before = self.listed()
            measured = {} if score is None else {"score": score}
            self.place.die(
                self.manager,
                calls,
                lambda: self.manager.save_checkpoint(items={"data": "dying"}, epoch=self.epoch, metrics=measured),
            )
            self.reopen()
            there = {one.id: one for one in self.manager.list_checkpoints()}
            new = [one for one in there.values() if one.id not in {each.saved.id for each in self.alive}]
            assert len(new) <= 1
            gone = {each.saved.id for each in before} - set(there)
            assert not gone or new, "nothing is removed before the new one is there"
            self.alive = [each for each in self.alive if each.saved.id not in gone]
            self.alive += [Expected(one, "dying") for one in new]
            self.seen |= {one.sequence for one in new}

        @precondition(lambda self: self.alive)
        @rule(data=st.data())
        def delete_by_hand(self, data):
            """Somebody deletes one."""
            one = data.draw(st.sampled_from(self.alive))
            self.place.delete(one.saved.name)
            self.alive.remove(one)

        @precondition(lambda self: self.sound())
        @rule(
            data=st.data(),
            file=st.sampled_from(["state.json", "manifest.json"]),
            place=st.floats(0, 1, exclude_max=True),
            bit=st.integers(0, 7),
        )
        def flip_a_bit(self, data, file, place, bit):
            """The disk forgets."""
            one = data.draw(st.sampled_from(self.sound()))
            self.place.flip(one.saved.name, file, place, bit)
            one.damage = file

        @rule()
        def prune(self):
            """Somebody asks for order."""
            self.told = []
            self.manager.prune()
            self.forget()

        # -------------------------------------------------------------- the model

        def commit(self, epoch, score, payload, **position):
            best_before = self.best()
            self.told = []
            measured = {} if score is None else {"score": score}
            names_before = {each.saved.name for each in self.alive}
            path = self.manager.save_checkpoint(items={"data": payload}, epoch=epoch, metrics=measured, **position)
            saved = self.manager.list_checkpoints()[-1]
            assert str(path).endswith(f"/{saved.name}")
            assert saved.name not in names_before, "no name is given twice while it is alive"
            assert saved.sequence > max((each.saved.sequence for each in self.listed()), default=0)
            assert saved.sequence not in self.seen, "no number is given twice by one process"
            self.seen.add(saved.sequence)
            self.alive.append(Expected(saved, payload))
            self.forget()
            assert self.alive[-1].saved.id == saved.id, "what was just saved stays"
            if best_before is not None:
                assert best_before.id in {each.saved.id for each in self.alive} or self.best().id == saved.id
            assert len(self.sound()) <= self.options["max_checkpoints"], "what is known to be corrupt does not count"

        def forget(self):
            removed = dict(self.told)
            assert all(removed.values()), "every removal has a reason"
            assert not removed or self.listed(), "one remains"
            self.alive = [each for each in self.alive if each.saved.id not in removed]

        def listed(self):
            return [each for each in self.alive if each.damage != "manifest.json"]

        def sound(self):
            return [each for each in self.alive if each.damage is None]

        def best(self):
            if "monitor_metric" not in self.options:
                return None
            return next(iter(rank([each.saved for each in self.sound()], SCORE)), None)

        # -------------------------------------------------------------- what always holds

        @invariant()
        def what_is_listed_is_what_is_alive(self):
            """In order of commit, damaged manifests apart."""
            found = self.manager.list_checkpoints()
            assert [each.saved.id for each in sorted(self.listed(), key=lambda one: one.saved.sequence)] == [
                one.id for one in found
            ]
            damaged = {each.saved.name for each in self.alive} - {one.name for one in found}
            assert sorted(damaged) == self.manager.get_checkpoint_summary()["damaged"]

        @invariant()
        def each_is_what_was_saved_or_known_to_be_corrupt(self):
            """Never a silent wrong value."""
            for each in self.alive:
                if each.damage is None:
                    found = self.manager.load_checkpoint(each.saved.name)
                    assert same({"data": each.payload}, dict(found.state))
                else:
                    with pytest.raises(CorruptCheckpointError, match=each.saved.name):
                        self.manager.load_checkpoint(each.saved.name)

        @invariant()
        def the_newest_sound_one_loads(self):
            """And what was passed over is told."""
            newest = max(self.sound(), key=lambda one: one.saved.sequence, default=None)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if newest is not None:
                    found = self.manager.load_checkpoint("latest")
                    assert newest.saved.id == found.saved.id
                    passed = [
                        one
                        for one in self.alive
                        if one.damage == "manifest.json" or (one.damage and one.saved.sequence > newest.saved.sequence)
                    ]
                    assert len(passed) == len(found.passed_over)
                    assert bool(passed) == any(one.category is CheckpointWarning for one in caught)
                else:
                    with pytest.raises((CheckpointNotFoundError, CorruptCheckpointError)):
                        self.manager.load_checkpoint("latest")

        @invariant()
        def best_is_best(self):
            """By the metric, of all that are not known to be corrupt."""
            for each in self.alive:
                if each.damage is not None:
                    with suppress(CorruptCheckpointError):
                        self.manager.load_checkpoint(each.saved.name)
            if self.best() is not None:
                assert str(self.manager.get_best_checkpoint_path()).endswith(f"/{self.best().name}")

    return Machine


@pytest.mark.filterwarnings("ignore:'score' is monitored, and 3 epochs had no such metric")
@pytest.mark.parametrize("place_type", [LocalPlace, MemoryPlace])
def test_any_life_of_a_directory(tmp_path, death, same, place_type):
    """Whatever happens to it, the model and the directory agree."""
    examples = 25 if place_type is LocalPlace else 40
    run_state_machine_as_test(
        make_machine(place_type, tmp_path, death, same),
        settings=settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
