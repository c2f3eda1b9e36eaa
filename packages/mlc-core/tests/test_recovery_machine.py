"""Any life of a directory with damage, repairs and quarantine: what was saved and not lost comes back as it was."""

import os
import uuid
import warnings

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
from mlc_core.keeper import Keeper
from mlc_core.reader import CheckpointReader
from mlc_core.recovery import examine, find_quarantined, plan_repairs, quarantine, restore
from mlc_core.retention import KeepAll, KeepLatest
from mlc_core.shelf import Shelf
from mlc_core.storage import LocalStorage

SCORE = Monitor(metric="score", mode="max")


@attrs.define(eq=False)
class Known:
    """A checkpoint, and its files as they were committed."""

    saved: object
    payload: dict
    files: dict
    pinned: bool = False
    aside: bool = False


def order(one):
    """The order of commits."""
    return one.saved.sequence, one.saved.id


def make_machine(base, np, same):  # noqa: C901 - one class, many small methods
    class Machine(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            self.storage = LocalStorage(base / uuid.uuid4().hex / "unet")
            self.root = self.storage.location("")
            self.known: list[Known] = []
            self.epoch = 0

        # -------------------------------------------------------------- what happens

        @rule(backbone=st.integers(0, 1), head=st.integers(0, 3), score=st.sampled_from([0.1, 0.5, None]))
        def save(self, backbone, head, score):
            """Few values, so that the same file is in several checkpoints."""
            self.epoch += 1
            payload = {"backbone": {"w": np.full(50, backbone, "f4")}, "head": {"w": np.full(9, head, "i8")}}
            manager = CheckpointManager(
                self.root.parent, "unet", monitor_metric="score", mode="max", retention=KeepAll(), save_strategy="all"
            )
            measured = {} if score is None else {"score": score}
            path = manager.save_checkpoint(items=payload, epoch=self.epoch, metrics=measured, reason="drawn")
            saved = manager.list_checkpoints()[-1]
            files = {one.name: (path / one.name).read_bytes() for one in saved.files}
            self.known.append(Known(saved, payload, files))

        @precondition(lambda self: len(self.here()) > 1)
        @rule(data=st.data())
        def share(self, data):
            """Equal files become one file with two names, as an incremental save makes them."""
            one, other = (data.draw(st.sampled_from(self.here())) for _ in "ab")
            for name, content in one.files.items():
                if one is not other and self.content(one, name) == content == self.content(other, name):
                    self.path(other, name).unlink()
                    os.link(self.path(one, name), self.path(other, name))

        @precondition(lambda self: self.here())
        @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "lose"]))
        def damage(self, data, how):
            """The disk forgets, under every name that the file has."""
            one = data.draw(st.sampled_from(self.here()))
            path = self.path(one, data.draw(st.sampled_from(sorted(one.files))))
            if not path.exists():
                return
            if how == "lose":
                path.unlink()
                return
            content = bytearray(path.read_bytes())
            if content:
                content[-1] ^= 4
            with path.open("r+b") as opened:
                opened.truncate(len(content) // 2) if how == "cut" else opened.write(content)

        @precondition(lambda self: self.here())
        @rule(data=st.data())
        def pin_or_unpin(self, data):
            """Somebody wants to keep one, or no more."""
            one = data.draw(st.sampled_from(self.here()))
            keeper = Keeper(Shelf(self.storage, None), KeepAll())
            keeper.unpin(one.saved.name) if one.pinned else keeper.pin(one.saved.name)
            one.pinned = not one.pinned

        @rule(count=st.integers(1, 3))
        def prune(self, count):
            """Order is made."""
            before = self.here()
            Keeper(Shelf(self.storage, SCORE), KeepLatest(count=count)).prune()
            left = set(self.storage.entries())
            expected = [one for one in before if one.pinned or one in sorted(before, key=order)[-count:]]
            assert {one.saved.name for one in expected} == left
            self.known = [one for one in self.known if one.aside or one.saved.name in left]

        @precondition(lambda self: self.here())
        @rule(data=st.data())
        def set_aside(self, data):
            """One is distrusted."""
            one = data.draw(st.sampled_from(self.here()))
            quarantine(self.storage, one.saved.name, "drawn", monitor=SCORE)
            one.aside = True

        @precondition(lambda self: len(self.here()) < len(self.known))
        @rule(data=st.data())
        def take_back(self, data):
            """And trusted again."""
            one = data.draw(st.sampled_from([each for each in self.known if each.aside]))
            (aside,) = [each for each in find_quarantined(self.storage) if each.saved.id == one.saved.id]
            restore(self.storage, aside, monitor=SCORE)
            one.aside = False

        @rule(entry=st.sampled_from(["epoch_1", "nowhere"]))
        def break_the_links(self, entry):
            """Somebody plays with links."""
            for link in ("latest", "best"):
                if self.root.is_dir():
                    self.storage.point(link, entry)

        @rule(set_aside=st.booleans())
        def repair(self, set_aside):
            """All that can be mended is mended, and the rest is set aside or left as it is."""
            lost = [(one, name) for one in self.here() for name in one.files if not self.is_sound(one, name)]
            sound = {self.content(one, name) for one in self.known for name in one.files if self.is_sound(one, name)}
            mendable = [(one, name) for one, name in lost if one.files[name] in sound]
            hopeless = {id(one) for one, name in lost if one.files[name] not in sound}
            plan = plan_repairs(self.storage, monitor=SCORE, set_aside=set_aside)
            for each in plan.repairs:
                each.apply(self.storage)
            for one in self.here():
                if set_aside and id(one) in hopeless:
                    one.aside = True

            assert all(self.is_sound(one, name) for one, name in mendable if not one.aside)
            assert (0 if set_aside else len(hopeless)) == len(plan.hopeless)
            assert () == plan_repairs(self.storage, monitor=SCORE, set_aside=set_aside).repairs
            self.links_lead_where_they_should()
            self.latest_loads()

        # -------------------------------------------------------------- what must hold

        @invariant()
        def what_was_not_damaged_is_as_it_was(self):
            """Every sound checkpoint loads and equals what was saved, and an examination knows which these are."""
            if not self.known:
                return
            assert {one.saved.name for one in self.here()} == set(self.storage.entries())
            assert len(self.known) - len(self.here()) == len(find_quarantined(self.storage))
            for one in self.here():
                sound = all(self.is_sound(one, name) for name in one.files)
                assert sound == examine(self.storage, one.saved.name).valid
                if sound:
                    found = CheckpointReader(self.storage, one.saved).load()
                    plain, saved = ({k: list(v["w"]) for k, v in state.items()} for state in (found, one.payload))
                    assert same(plain, saved)

        def links_lead_where_they_should(self):
            """As the index says."""
            expected = {f"pinned-{one.saved.name}": one.saved.name for one in self.here() if one.pinned}
            if self.here():
                expected["latest"] = max(self.here(), key=order).saved.name
            measured = [one for one in self.here() if "score" in one.saved.metrics]
            if measured:
                expected["best"] = min(measured, key=lambda one: (-one.saved.metrics["score"], *order(one))).saved.name
            assert expected == dict(self.storage.pointers())

        def latest_loads(self):
            """Or the newest that is sound, loudly."""
            ordered = sorted(self.here(), key=order, reverse=True)
            sound = [one for one in ordered if all(self.is_sound(one, name) for name in one.files)]
            manager = CheckpointManager(self.root.parent, "unet")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                if not sound:
                    with pytest.raises((CheckpointNotFoundError, CorruptCheckpointError)):
                        manager.load_checkpoint("latest")
                    return
                found = manager.load_checkpoint("latest")
            assert sound[0].saved.id == found.saved.id
            assert (sound[0] is not ordered[0]) == any(one.category is CheckpointWarning for one in caught)

        # -------------------------------------------------------------- the model

        def here(self):
            return [one for one in self.known if not one.aside]

        def path(self, one, name):
            if not one.aside:
                return self.root / one.saved.name / name
            (aside,) = [each for each in find_quarantined(self.storage) if each.saved.id == one.saved.id]
            return aside.path / name

        def content(self, one, name):
            path = self.path(one, name)
            return path.read_bytes() if path.exists() else None

        def is_sound(self, one, name):
            return self.content(one, name) == one.files[name]

    return Machine


def test_damage_repair_and_quarantine_in_any_order(tmp_path, same):
    """Deleting or mending one checkpoint never harms another, even where they share files."""
    np = pytest.importorskip("numpy")
    run_state_machine_as_test(
        make_machine(tmp_path, np, same),
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
