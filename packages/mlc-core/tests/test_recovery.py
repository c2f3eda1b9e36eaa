"""Repair, quarantine, history, usage and difference, as other programs call them."""

import fcntl
import json
import os
import shutil
import time

import pytest

from mlc_core import CheckpointManager, CheckpointWarning, EntryExistsError, Monitor, StorageError, open_checkpoint
from mlc_core.explanation import explain
from mlc_core.history import highest_sequence, last_id, read_history, remembered_monitor, write_note
from mlc_core.keeper import Keeper
from mlc_core.recovery import examine, find_leftovers, find_quarantined, plan_repairs, quarantine, restore
from mlc_core.retention import KeepAll, KeepLatest
from mlc_core.shelf import Shelf
from mlc_core.storage import LocalStorage, MemoryStorage
from mlc_core.storage.local import LocalStaging
from mlc_core.usage import measure

SCORE = Monitor(metric="score", mode="max")


@pytest.fixture
def manager(tmp_path):
    """Three epochs; the second is the best."""
    found = CheckpointManager(tmp_path / "runs", "unet", "epoch", None, "score", "max", retention=KeepAll())
    for epoch, score in ((1, 0.5), (2, 0.9), (3, 0.7)):
        found.save_checkpoint(items={"data": f"epoch {epoch}"}, epoch=epoch, metrics={"score": score})
    return found


@pytest.fixture
def storage(manager):
    """Where they are."""
    return manager.storage


def root(storage):
    """The directory itself."""
    return storage.location("")


def damage(storage, name, file="state.json"):
    """Change a byte without changing the size."""
    path = root(storage) / name / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def repair(storage, **options):
    """Do all that can be done, and return what was done and what could not be."""
    plan = plan_repairs(storage, **options)
    for one in plan.repairs:
        one.apply(storage)
    return [f"{one.kind}: {one.what}" for one in plan.repairs], [one.name for one in plan.hopeless]


def loaded(storage, name):
    """What the checkpoint *name* holds."""
    return open_checkpoint(root(storage) / name).load()["data"]


# ---------------------------------------------------------------------- examination


def test_examination_tells_every_fault(storage):
    """Not the first one only, and which of them are certain."""
    saved = open_checkpoint(root(storage) / "epoch_1").saved
    (root(storage) / "epoch_1" / "state.json").unlink()
    found = examine(storage, "epoch_1")

    assert (False, True, saved) == (found.valid, found.corrupt, found.saved)
    assert ["state.json"] == [one.file for one in found.damages]
    assert "is missing" in found.cause
    assert examine(storage, "epoch_2").valid
    assert examine(storage, "absent") is None


def test_what_retention_removed_meanwhile_is_not_corrupt(storage, monkeypatch):
    """An examination of a directory in which a training goes on."""
    read = LocalStorage.read

    def remove_first(self, entry, file):
        if file == "state.json":
            storage.remove(entry)
        return read(self, entry, file)

    monkeypatch.setattr(LocalStorage, "read", remove_first)

    assert examine(storage, "epoch_1") is None


def test_failing_disk_is_no_proof_of_corruption(storage, monkeypatch):
    """What cannot be read is neither valid nor set aside."""
    read = LocalStorage.read

    def fail(self, entry, file):
        if (entry, file) in {("epoch_1", "state.json"), ("epoch_2", "manifest.json")}:
            msg = "Input/output error"
            raise StorageError(msg)
        return read(self, entry, file)

    monkeypatch.setattr(LocalStorage, "read", fail)

    for name in ("epoch_1", "epoch_2"):
        assert (False, False) == (examine(storage, name).valid, examine(storage, name).corrupt)
    assert ["epoch_1", "epoch_2"] == repair(storage, set_aside=True)[1]
    assert {"epoch_1", "epoch_2", "epoch_3"} == set(storage.entries())


# ---------------------------------------------------------------------- repair


def test_nothing_wrong_is_nothing_to_do(storage):
    """A plan of a good directory is empty."""
    assert ([], []) == repair(storage, monitor=SCORE)


def test_file_comes_back_from_a_copy(storage, tmp_path):
    """And the damaged file is not written to: whoever has it open reads on what it was."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    damage(storage, "epoch_2")
    with (root(storage) / "epoch_2" / "state.json").open("rb") as opened:
        assert ([], ["epoch_2"]) == repair(storage)
        assert (["file: epoch_2/state.json"], []) == repair(storage, copies=[LocalStorage(tmp_path / "copy")])
        assert opened.read() != (root(storage) / "epoch_2" / "state.json").read_bytes()

    assert "epoch 2" == loaded(storage, "epoch_2")
    assert ([], []) == repair(storage)
    assert "put back from" in read_history(storage)[-1].reason
    assert [] == list((root(storage) / ".mlc" / "staging").iterdir())


def test_file_comes_back_from_a_neighbour_under_another_name(tmp_path):
    """The same content is the same file, whatever it is called; it costs no space where the name is the same."""
    np = pytest.importorskip("numpy")
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    weights = {"w": np.arange(40_000, dtype="f4")}
    for epoch in (1, 2):
        path = manager.save_checkpoint(items={"model": weights, "ema": weights}, epoch=epoch)
    for file in ("model", "ema"):
        (path / f"{file}.safetensors").unlink()
    repair(manager.storage)

    assert [True] * 2 == [examine(manager.storage, name).valid for name in ("epoch_1", "epoch_2")]
    (path.parent / "epoch_1" / "model.safetensors").unlink()
    (path / "model.safetensors").unlink()
    assert ["file: epoch_1/model.safetensors", "file: epoch_2/model.safetensors"] == repair(manager.storage)[0]
    assert examine(manager.storage, "epoch_2").valid


def test_shared_damage_is_mended_under_each_name(storage, tmp_path):
    """Hard links share one damaged file; each checkpoint gets the good one back."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    twin = root(storage) / "epoch_9"
    shutil.copytree(root(storage) / "epoch_1", twin)
    (twin / "state.json").unlink()
    os.link(root(storage) / "epoch_1" / "state.json", twin / "state.json")
    with (twin / "state.json").open("r+b") as opened:
        opened.write(b"[")
    done, hopeless = repair(storage, copies=[LocalStorage(tmp_path / "copy")])

    assert ["file: epoch_1/state.json", "file: epoch_9/state.json"] == done[:2]
    assert [] == hopeless
    assert "epoch 1" == loaded(storage, "epoch_1") == loaded(storage, "epoch_9")


def test_mended_file_can_be_shared_by_the_next_save(storage, tmp_path):
    """It is as old as its manifest, as if it had never been lost."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    damage(storage, "epoch_3")
    repair(storage, copies=[LocalStorage(tmp_path / "copy")])
    staging = storage.stage(0)
    staging.link("state.json", "epoch_3")
    staging.discard()


def test_manifest_comes_back_from_a_copy(storage, tmp_path):
    """If every file that it lists is here; else the checkpoint stays as it is."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    copy = LocalStorage(tmp_path / "copy")
    for name in ("epoch_1", "epoch_2"):
        (root(storage) / name / "manifest.json").write_text("torn")
    damage(storage, "epoch_2")
    before = root(storage).stat().st_mtime
    done, hopeless = repair(storage, copies=[copy], monitor=SCORE)

    assert ["file: epoch_1/manifest.json", "link: best"] == done
    assert before < root(storage).stat().st_mtime, "a training that looks for news finds it"
    assert ["epoch_2"] == hopeless
    assert "epoch 1" == loaded(storage, "epoch_1")
    assert "epoch_3" == storage.pointers()["best"]


def test_repair_of_one_looks_at_nothing_else(storage, tmp_path):
    """Other checkpoints, links and leftovers stay as they are."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    for name in ("epoch_1", "epoch_2"):
        damage(storage, name)
    storage.point("latest", "epoch_1")

    assert (["file: epoch_1/state.json"], []) == repair(
        storage, name="epoch_1", copies=[LocalStorage(tmp_path / "copy")]
    )
    assert "epoch_1" == storage.pointers()["latest"]


def test_repair_of_what_was_replaced_meanwhile_is_refused(storage, tmp_path):
    """The plan is about a checkpoint, not about its name."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    damage(storage, "epoch_1")
    (planned,) = plan_repairs(storage, copies=[LocalStorage(tmp_path / "copy")]).repairs
    storage.remove("epoch_1")
    with pytest.raises(StorageError, match="was removed or replaced meanwhile"):
        planned.apply(storage)
    shutil.copytree(tmp_path / "copy" / "epoch_3", root(storage) / "epoch_1")
    with pytest.raises(StorageError, match="was removed or replaced meanwhile"):
        planned.apply(storage)

    assert "epoch 3" == loaded(storage, "epoch_1")


def test_death_at_any_moment_of_a_repair(tmp_path, death):
    """What was sound stays sound, what was damaged is damaged or mended, and the next repair ends the work."""

    def begin(number):
        base = tmp_path / str(number)
        manager = CheckpointManager(base, "unet", retention=KeepAll())
        for epoch in (1, 2, 3):
            manager.save_checkpoint(items={"data": epoch % 2}, epoch=epoch)
        (base / "unet" / "epoch_1" / "state.json").write_bytes(b"torn")
        (base / "unet" / "epoch_2" / "state.json").write_bytes(b"torn")
        manager.storage.point("latest", "epoch_1")
        return manager.storage

    storage = begin("count")
    with death.after(root(storage)) as counted:
        repair(storage, set_aside=True)
    for calls in range(counted.calls):
        storage = begin(calls)
        with death.after(root(storage), calls):
            repair(storage, set_aside=True)

        assert examine(storage, "epoch_3").valid, "it was never touched"
        assert (root(storage) / "epoch_1" / "state.json").exists(), "there is no moment without the file"
        repair(storage, set_aside=True, now=True)
        assert {"epoch_1", "epoch_3"} == set(storage.entries())
        assert examine(storage, "epoch_1").valid
        assert ["epoch_2"] == [one.name for one in find_quarantined(storage)]
        assert {"latest": "epoch_3"} == dict(storage.pointers())


@pytest.mark.parametrize("fails", ["link", "write"])
def test_file_system_without_links_and_without_care(storage, monkeypatch, fails):
    """What cannot be linked is written, and what is written wrongly never takes the place of anything."""
    shutil.copytree(root(storage) / "epoch_1", root(storage) / "epoch_9")
    damage(storage, "epoch_1")
    (planned,) = [one for one in plan_repairs(storage).repairs if one.kind == "file"]

    def refuse(self, file, entry):
        msg = "too many links"
        raise StorageError(msg)

    monkeypatch.setattr(LocalStaging, "link", refuse)
    if fails == "link":
        planned.apply(storage)
        assert "epoch 1" == loaded(storage, "epoch_1")
        return
    write = LocalStaging.write
    monkeypatch.setattr(LocalStaging, "write", lambda self, file, size, pieces: write(self, file, 2, [b"{}"]))
    before = (root(storage) / "epoch_1" / "state.json").read_bytes()
    with pytest.raises(StorageError, match="stays as it is"):
        planned.apply(storage)
    assert before == (root(storage) / "epoch_1" / "state.json").read_bytes()


def test_links_to_what_goes_go_too(storage):
    """Said in the plan, although the quarantine takes them along."""
    Keeper(Shelf(storage, None), KeepAll()).pin("epoch_2")
    damage(storage, "epoch_2")
    done, _ = repair(storage, set_aside=True)

    assert ["quarantine: epoch_2", "link: best", "link: pinned-epoch_2"] == done
    assert {"latest": "epoch_3"} == dict(storage.pointers())


def test_what_goes_between_plan_and_repair_is_told(storage):
    """A link to what was removed, and a quarantine of it."""
    damage(storage, "epoch_1")
    storage.point("latest", None)
    aside, link = plan_repairs(storage, set_aside=True).repairs
    storage.remove("epoch_1")
    storage.remove("epoch_3")

    with pytest.raises(StorageError, match="is not there"):
        aside.apply(storage)
    with pytest.raises(StorageError, match="epoch_3 was removed meanwhile"):
        link.apply(storage)


def test_source_that_is_lost_before_the_repair_is_an_error(storage, tmp_path):
    """And the damaged file stays, for another try."""
    shutil.copytree(root(storage), tmp_path / "copy", symlinks=True)
    damage(storage, "epoch_1")
    (planned,) = plan_repairs(storage, copies=[LocalStorage(tmp_path / "copy")]).repairs
    (tmp_path / "copy" / "epoch_1" / "state.json").unlink()

    with pytest.raises(StorageError, match="is not there"):
        planned.apply(storage)
    assert (root(storage) / "epoch_1" / "state.json").exists()


@pytest.mark.parametrize(
    ("link", "leads", "becomes"),
    [
        ("latest", "epoch_1", {"latest": "epoch_3"}),
        ("latest", "nowhere", {"latest": "epoch_3"}),
        ("best", "epoch_1", {"best": "epoch_2"}),
        ("final", "nowhere", {"final": None}),
        ("final", "epoch_1", {"final": "epoch_1"}),
        ("pinned-epoch_7", "epoch_7", {"pinned-epoch_7": None}),
        ("pinned-mine", "epoch_1", {"pinned-mine": None, "pinned-epoch_1": "epoch_1"}),
        ("pinned-epoch_1", "epoch_3", {"pinned-epoch_1": "epoch_1", "pinned-epoch_3": "epoch_3"}),
    ],
)
def test_links_lead_where_they_should(storage, link, leads, becomes):
    """`best` and `latest` follow the index, pins keep what they pin, and what leads nowhere goes."""
    before = dict(storage.pointers())
    storage.point(link, leads)
    repair(storage, monitor=SCORE)

    expected = {name: entry for name, entry in {**before, **becomes}.items() if entry is not None}
    assert expected == dict(storage.pointers())
    assert ([], []) == repair(storage, monitor=SCORE)


def test_missing_links_are_made(storage):
    """After a copy that left them out, say; without a metric `best` is unknown and stays away."""
    for link in ("latest", "best"):
        storage.point(link, None)

    assert (["link: latest"], []) == repair(storage)
    assert (["link: best"], []) == repair(storage, monitor=SCORE)
    assert {"latest": "epoch_3", "best": "epoch_2"} == dict(storage.pointers())


def test_link_to_somebodys_directory_is_left_alone(storage):
    """It is no business of ours."""
    (root(storage) / "notes").mkdir()
    storage.point("mine", "notes")

    assert ([], []) == repair(storage, monitor=SCORE)


def test_link_that_moved_meanwhile_stays(storage):
    """A training that goes on knows better."""
    storage.point("latest", "epoch_1")
    (planned,) = plan_repairs(storage).repairs
    storage.point("latest", "epoch_2")
    planned.apply(storage)

    assert "epoch_2" == storage.pointers()["latest"]


# ---------------------------------------------------------------------- leftovers


def test_leftovers_of_the_dead_go_and_the_living_are_left(storage):
    """Old enough and held by nobody; `now` shortens the wait, never the look."""
    stagings = [storage.stage(0) for _ in range(3)]
    living, dead, young = (root(storage) / ".mlc" / "staging" / one.token for one in stagings)
    for one in stagings[1:]:
        os.close(one._lock)  # as the kernel does for a process that died
    (dead / "part.bin").write_bytes(b"abc")
    trash = root(storage) / ".mlc" / "trash" / "f00"
    shutil.copytree(root(storage) / "epoch_1", trash)
    (root(storage) / ".mlc" / "trash" / "link").symlink_to("nowhere")
    for path in (living, dead, trash):
        os.utime(path, (1, 1))
    os.utime(root(storage) / ".mlc" / "trash" / "link", (1, 1), follow_symlinks=False)
    states = {one.path.name: one.state for one in find_leftovers(storage)}

    assert {living.name: "in use", dead.name: "abandoned", young.name: "young", "f00": "abandoned"} | {
        "link": "abandoned"
    } == states
    assert 3 == len(repair(storage)[0])
    assert [True, False, True, False] == [one.exists() for one in (living, dead, young, trash)]
    os.utime(young, (time.time() - 2,) * 2)
    assert [f"leftover: .mlc/staging/{young.name}"] == repair(storage, now=True)[0]
    assert living.exists()
    stagings[0].discard()


def test_leftover_that_was_taken_up_is_not_deleted(storage):
    """Between the plan and its execution somebody may begin to live."""
    staging = root(storage) / ".mlc" / "staging" / "abc"
    staging.mkdir()
    os.utime(staging, (1, 1))
    (planned,) = plan_repairs(storage).repairs
    descriptor = os.open(staging, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    planned.apply(storage)
    os.close(descriptor)

    assert staging.exists()


# ---------------------------------------------------------------------- quarantine


def test_quarantine_takes_links_with_it_and_back(storage):
    """Nothing is deleted, links follow, and what is kept still loads."""
    Keeper(Shelf(storage, None), KeepAll()).pin("epoch_3")
    where = quarantine(storage, "epoch_3", "too good", monitor=SCORE)
    (aside,) = find_quarantined(storage)

    assert (str(aside.path), "epoch_3") == (where, aside.name)
    assert {"latest": "epoch_2", "best": "epoch_2"} == dict(storage.pointers())
    assert "epoch 2" == CheckpointManager(root(storage).parent, "unet").load_checkpoint("latest").state["data"]
    assert open_checkpoint(aside.path).load() == {"data": "epoch 3"}
    assert "epoch_3" == restore(storage, aside, monitor=SCORE).name
    assert {"latest": "epoch_3", "best": "epoch_2", "pinned-epoch_3": "epoch_3"} == dict(storage.pointers())
    assert ["quarantined", "restored"] == [note.event for note in read_history(storage)[-2:]]


def test_restore_overwrites_nothing(storage):
    """A name that was given again needs another one."""
    quarantine(storage, "epoch_3", "reason")
    (aside,) = find_quarantined(storage)
    shutil.copytree(root(storage) / "epoch_2", root(storage) / "epoch_3")
    with pytest.raises(EntryExistsError, match="under another name"):
        restore(storage, aside)

    assert "epoch 2" == loaded(storage, "epoch_3")
    restore(storage, aside, name="epoch_3_back")
    assert "epoch 3" == loaded(storage, "epoch_3_back")


def test_quarantined_file_can_mend_another(storage):
    """What is sound in a checkpoint that is not is still worth something."""
    shutil.copytree(root(storage) / "epoch_1", root(storage) / "epoch_9")
    quarantine(storage, "epoch_9", "reason")
    damage(storage, "epoch_1")
    repair(storage)

    assert "epoch 1" == loaded(storage, "epoch_1")


def test_quarantine_works_on_every_storage(memory_url):
    """Also where there are no files."""
    manager = CheckpointManager(memory_url, "unet", retention=KeepAll())
    for epoch in (1, 2):
        manager.save_checkpoint(items={"data": epoch}, epoch=epoch)
    quarantine(manager.storage, "epoch_2", "reason")

    assert isinstance(manager.storage, MemoryStorage)
    assert 1 == manager.load_checkpoint("latest").state["data"]


# ---------------------------------------------------------------------- history


def test_history_tolerates_what_is_no_note(storage):
    """Garbage, other JSON, other types, and half of a line."""
    count = len(read_history(storage))
    for line in (b"", b"\xff\xfe", b"[]", b"3", b'{"event": 3, "at": "x"}', b'{"event": "kept"}', b'{"event": "sa'):
        storage.note(line)
    write_note(storage, "pinned", name="epoch_1")

    assert count + 1 == len(read_history(storage))


def test_history_tells_a_life(tmp_path):
    """Saved, kept and removed, each with a reason, once for each change; another process goes on where one ended."""
    for epoch in (1, 2, 3):
        manager = CheckpointManager(tmp_path, "unet", retention=KeepLatest(count=2))
        manager.save_checkpoint(items={"data": 1}, epoch=epoch)
        manager.prune()
    notes = [note for note in read_history(manager.storage) if note.name == "epoch_1"]

    assert ["saved", "kept", "removed"] == [note.event for note in notes]
    assert all(note.reason for note in notes)
    assert 3 == highest_sequence(read_history(manager.storage))
    assert last_id(read_history(manager.storage), "epoch_1") is None
    assert last_id(read_history(manager.storage), "epoch_2") == manager.list_checkpoints()[0].id


def test_history_names_places_as_seen_from_the_directory(manager, monkeypatch):
    """So that it can move with the directory; a path that only ends in the same words is another one."""
    monkeypatch.chdir(root(manager.storage).parent)
    here = LocalStorage(root(manager.storage).relative_to(root(manager.storage).parent))
    for reason in ("unet/epoch_1 is bad", f"{root(manager.storage)}/epoch_1 is bad", "../copy/unet/epoch_1 is good"):
        write_note(here, "repaired", reason=reason)

    expected = ["epoch_1 is bad", "epoch_1 is bad", "../copy/unet/epoch_1 is good"]
    assert expected == [note.reason for note in read_history(here)[-3:]]


def test_monitor_is_remembered_once_and_anew(tmp_path):
    """The last one counts; what is no monitor is none."""
    for metric in ("score", "score", "loss"):
        manager = CheckpointManager(tmp_path, "unet", monitor_metric=metric, mode="max")
        keeper = Keeper(Shelf(manager.storage, None), KeepAll(), monitor=manager.monitor)
        manager.save_checkpoint(items={"data": 1}, reason="x")
        keeper.prune()
    notes = read_history(manager.storage)

    assert Monitor(metric="loss", mode="max") == remembered_monitor(notes)
    assert 2 == sum(note.event == "monitored" for note in notes)
    manager.storage.note(json.dumps({"event": "monitored", "at": "now", "metric": "loss", "mode": "sideways"}).encode())
    assert remembered_monitor(read_history(manager.storage)) is None


@pytest.mark.parametrize("method", ["note", "notes"])
def test_history_that_fails_is_a_warning(storage, monkeypatch, method):
    """Checkpoints are kept and removed all the same."""

    def fail(self, *arguments):
        msg = "read-only"
        raise StorageError(msg)

    monkeypatch.setattr(LocalStorage, method, fail)
    with pytest.warns(CheckpointWarning, match="the history in .* (was not continued|cannot be read): read-only"):
        Keeper(Shelf(storage, SCORE), KeepLatest()).prune()

    assert {"epoch_3"} == set(storage.entries())


def test_prune_removes_only_what_was_shown(storage):
    """What came meanwhile is for another time."""
    keeper = Keeper(Shelf(storage, SCORE), KeepLatest())
    ids = {one.saved.name: one.saved.id for one in keeper.plan()}
    decisions = keeper.prune(only={ids["epoch_1"]})

    assert {"epoch_2", "epoch_3"} == set(storage.entries())
    assert ["epoch_1", "epoch_3"] == [one.saved.name for one in decisions]


def test_explanation_of_what_is_there_and_what_is_gone(storage):
    """By name, by link, by the beginning of an id, and by nothing known."""
    Keeper(Shelf(storage, SCORE), KeepLatest(count=2)).prune()
    quarantine(storage, "epoch_2", "distrusted")
    shutil.rmtree(root(storage) / "epoch_3")
    states = {name: [one.state for one in explain(storage, name)] for name in ("epoch_1", "epoch_2", "epoch_3")}

    assert {"epoch_1": ["removed"], "epoch_2": ["in quarantine"], "epoch_3": ["gone"]} == states
    (found,) = explain(storage, "epoch_1")
    assert explain(storage, found.id[:10]) == [found]
    assert [] == explain(storage, "epoch_7")


def test_explanation_of_one_without_a_history(storage):
    """The manifest knows why it was saved; a damaged one is found by what was noted of its name."""
    (root(storage) / ".mlc" / "history.jsonl").unlink()
    (found,) = explain(storage, "latest")

    assert ("there", ("latest",), ["saved"]) == (found.state, found.links, [note.event for note in found.notes])
    (root(storage) / "epoch_1" / "manifest.json").write_text("torn")
    assert ["damaged"] == [one.state for one in explain(storage, "epoch_1")]


def test_damaged_manifest_keeps_its_history(storage):
    """The id that was last noted under its name is its own."""
    (root(storage) / "epoch_1" / "manifest.json").write_text("torn")
    (found,) = explain(storage, "epoch_1")
    quarantine(storage, "epoch_1", "torn")
    (after,) = explain(storage, "epoch_1")

    assert ("damaged", "in quarantine") == (found.state, after.state)
    assert found.id == after.id is not None


# ---------------------------------------------------------------------- usage


def test_usage_counts_shared_bytes_once(storage):
    """Deleting one of two that share a file frees what it does not share; the total is what is on the disk."""
    first, second = (root(storage) / name / "state.json" for name in ("epoch_1", "epoch_2"))
    second.unlink()
    os.link(first, second)
    os.link(root(storage) / "epoch_3" / "state.json", root(storage).parent / "elsewhere")
    size = first.stat().st_size
    rows = {one.name: one for one in measure(storage)}

    assert [size] * 3 == [rows[f"epoch_{number}"].shared for number in (1, 2, 3)]
    assert all(one.apparent == one.shared + one.freed for one in rows.values())
    assert size == rows["total"].shared, "what has a name outside is not freed here"
    assert sum(one.apparent for name, one in rows.items() if name != "total") - size == rows["total"].apparent
    quarantine(storage, "epoch_1", "reason")
    assert ["checkpoint", "checkpoint", "quarantine", "total"] == [one.kind for one in measure(storage)]
