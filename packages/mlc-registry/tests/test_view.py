"""Directories for people: a picture of the database that anything may happen to."""

import json
import logging
import shutil
import subprocess
import sys

import pytest

from mlc_registry import ModelRegistry, Policy, StageRule, StoreError


def look(folder):
    """Return everything below *folder*: the content of files, where links lead, and that there are directories."""
    found = {}
    for one in sorted(folder.rglob("*")):
        name = one.relative_to(folder).as_posix()
        if one.is_symlink():
            found[name] = f"-> {one.readlink()}"
        else:
            found[name] = one.read_bytes() if one.is_file() else "directory"
    return found


def redrawn(registry):
    """Return what a new picture of *registry* shows."""
    shutil.rmtree(registry.view.root)
    registry.view.rebuild()
    return look(registry.view.root)


@pytest.fixture
def lively(registry, publish, checkpoint, root):
    """A registry in which a lot has happened, and its directories."""
    publish("1.0.0", "1.1.0", "2.0.0-rc.1", actor="ann")
    registry.register_model("other", "0.1.0", checkpoint, {"metrics": {"dice": 0.9}}, description="From training.")
    registry.promote("net", "1.0.0", "staging")
    registry.promote("net", "1.1.0", "staging")
    registry.promote("net", "1.1.0", "production")
    registry.rollback("net", "staging")
    registry.policy.approve("net", "2.0.0-rc.1", "production", actor="bob")
    registry.yank("net", "1.1.0", "bad labels")
    registry.policy.write(Policy([StageRule("production")]))
    return registry, root / "models"


def test_everything_is_shown(lively):
    """Each version with its files and facts, the latest, and one link for each stage."""
    registry, models = lively
    sheet = json.loads((models / "net" / "1.1.0" / "metadata.json").read_text())

    assert ["net", "other"] == sorted(one.name for one in models.iterdir() if one.is_dir())
    assert {
        "1.0.0": False, "1.1.0": False, "2.0.0-rc.1": False, "latest": True, "production": True, "staging": True,
    } == {one.name: one.is_symlink() for one in (models / "net").iterdir()}  # fmt: skip
    for link, version in (("latest", "1.0.0"), ("staging", "1.0.0"), ("production", "1.1.0")):
        assert version == str((models / "net" / link).readlink())
    assert "net 1.1.0" == (models / "net" / "production" / "model.bin").read_text()
    assert ["manifest.json", "metadata.json", "model.safetensors", "more"] == sorted(
        one.name for one in (models / "other" / "0.1.0").iterdir()
    )
    assert (models / "other" / "0.1.0" / "more" / "state.json").read_text() == "{}"
    assert ("1.1.0", "ann", ["production"], True, "bad labels") == tuple(
        sheet[name] for name in ("version", "created_by", "stages", "yanked", "yank_reason")
    )
    assert registry.get("net", "1.1.0").digest == sheet["digest"]
    approved = json.loads((models / "net" / "2.0.0-rc.1" / "metadata.json").read_text())
    assert {"production": ["bob"]} == approved["approvals"]
    assert list(sheet) == sorted(sheet)


def test_latest_is_the_highest_release(registry, publish, root):
    """It moves with it, and is gone without one."""
    link = root / "models" / "net" / "latest"
    publish("2.0.0-rc.1")
    assert not link.is_symlink()
    publish("1.10.0", "1.9.0")
    assert "1.10.0" == str(link.readlink())
    registry.yank("net", "1.10.0", "bad")
    assert "1.9.0" == str(link.readlink())
    registry.yank("net", "1.9.0", "bad")
    assert not link.is_symlink()


def test_directory_can_be_carried_away(lively, root, tmp_path):
    """The links lead within the registry."""
    shutil.move(root, tmp_path / "elsewhere")

    assert "net 1.0.0" == (tmp_path / "elsewhere" / "models" / "net" / "latest" / "model.bin").read_text()


def test_what_was_removed_is_drawn_again(lively):
    """Exactly as it was."""
    registry, models = lively
    before = look(models)
    shutil.rmtree(models)

    assert 4 == registry.view.rebuild()
    assert before == look(models)


def test_what_does_not_belong_goes(lively):
    """Links, sheets and what is empty then, without following links."""
    registry, models = lively
    before = look(models)
    (models / "net" / "9.9.9").mkdir()
    (models / "net" / "9.9.9" / "metadata.json").write_bytes((models / "net" / "1.0.0" / "metadata.json").read_bytes())
    (models / "net" / "canary").symlink_to("1.0.0")
    (models / "net" / "1.0.0" / "more").symlink_to(models.parent / "artifacts")
    (models / "net" / "latest").unlink()
    (models / "net" / "latest").mkdir()
    shutil.rmtree(models / "net" / "2.0.0-rc.1")
    (models / "net" / "2.0.0-rc.1").symlink_to("1.0.0")
    shutil.rmtree(models / "other")
    (models / "gone").mkdir()
    registry.view.rebuild()

    assert before == look(models)
    registry.verify("net", "1.0.0")


def test_what_people_put_there_stays(lively):
    """Beside what is drawn, inside of it, and where something was drawn before."""
    registry, models = lively
    for name in ("thesis.txt", "net/notes.txt", "net/1.0.0/notes.txt", "mine/best/1.0.0/weights"):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_text("precious")
    (models / "mine" / "run").symlink_to("/data/run")
    (models / "data").symlink_to("/data")
    before = look(models)
    registry.promote("net", "1.0.0", "staging", reason="again")
    registry.view.rebuild()
    registry.view._canvas.remove_others(set())

    found = look(models)
    assert {name for name in before if name.startswith(("mine", "data", "thesis"))} <= found.keys()
    assert {"net/notes.txt", "net/1.0.0/notes.txt"} <= found.keys()
    assert "net/1.1.0" not in found


def test_a_file_in_the_way_is_kept(registry, root, publish):
    """What was to be drawn there is not; the message says where."""
    publish("1.0.0")
    (root / "models" / "net" / "latest").unlink()
    (root / "models" / "net" / "latest").write_text("precious")

    with pytest.raises(StoreError, match="net/latest"):
        registry.view.rebuild()
    assert "precious" == (root / "models" / "net" / "latest").read_text()


def test_two_registries_do_not_share_a_directory(tmp_path, weights):
    """Who came first has it."""
    seen = tmp_path / "seen"
    with ModelRegistry(tmp_path / "a", view=seen) as first, ModelRegistry(tmp_path / "b", view=seen) as second:
        first.register_model("net", "1.0.0", weights("abc"))
        second.register_model("other", "1.0.0", weights("abc"))
        before = look(seen)
        with pytest.raises(StoreError, match="shows another registry"):
            second.view.rebuild()
        first.promote("net", "1.0.0", "production")

    assert before.keys() < look(seen).keys()
    assert "other" not in before


@pytest.mark.parametrize(
    ("artifacts", "view"), [("files", "files"), ("files", "."), ("files", "files/seen"), ("files", "a"), ("a", None)]
)
def test_directories_for_people_are_apart_from_the_files(tmp_path, artifacts, view):
    """Or drawing them would remove what was published."""
    options = {} if view is None else {"view": tmp_path / view}
    with pytest.raises(StoreError, match=r"would be mixed with .*--view"):
        ModelRegistry(tmp_path / "a", artifacts=tmp_path / artifacts, **options)


def test_nothing_reads_it(lively):
    """The registry goes on without, and draws it with the next change."""
    registry, models = lively
    before = look(models)
    shutil.rmtree(models)
    registry.verify("net", "latest")
    assert not models.exists()
    registry.unyank("net", "1.1.0")
    registry.yank("net", "1.1.0", "bad labels")

    assert before.keys() == look(models).keys()
    assert look(models) == redrawn(registry)


def test_published_metadata_stays_beside_ours(registry, checkpoint, root):
    """The name is taken, so it gets another."""
    (checkpoint / "metadata.json").write_text("mine")
    (checkpoint / "published-metadata.json").write_text("mine too")
    registry.register_model("net", "1.0.0", checkpoint)
    folder = root / "models" / "net" / "1.0.0"

    assert "mine" == (folder / "published-published-metadata.json").read_text()
    assert "mine too" == (folder / "published-metadata.json").read_text()
    assert "1.0.0" == json.loads((folder / "metadata.json").read_text())["version"]


def test_removed_version_has_only_its_facts(registry, publish, root):
    """There is nothing left to link."""
    publish("1.0.0", "1.1.0")
    version = registry.get("net", "1.0.0").version
    registry._backend.store.statements.remove("net", version, actor="ann", reason="old")
    registry._backend.refresh()
    folder = root / "models" / "net" / "1.0.0"

    assert ["metadata.json"] == [one.name for one in folder.iterdir()]
    assert json.loads((folder / "metadata.json").read_text())["removed"]
    assert look(root / "models") == redrawn(registry)


def test_directory_of_somebody_else_is_left_alone(registry, root, publish, caplog):
    """Publishing succeeds and says once why there is no picture."""
    (root / "models").mkdir()
    (root / "models" / "thesis.txt").write_text("precious")
    with caplog.at_level(logging.WARNING, "mlc_registry"):
        publish("1.0.0", "1.1.0")

    assert 1 == caplog.text.count("holds something else; give a directory of its own")
    with pytest.raises(StoreError, match="holds something else"):
        registry.view.rebuild()
    assert ["thesis.txt"] == [one.name for one in (root / "models").iterdir()]


def test_a_place_that_cannot_be_written_is_logged(registry, root, publish, caplog):
    """The version is published all the same."""
    (root / "models").write_text("a file")
    with caplog.at_level(logging.WARNING, "mlc_registry"):
        publish("1.0.0")

    assert "are not up to date" in caplog.text
    assert "1.0.0" == str(registry.resolve("net").version)
    with pytest.raises(StoreError, match="could not be made"):
        registry.view.rebuild()


@pytest.mark.parametrize("content", ["", "3", "x sha256:aa\n", "99 sha256:aa\n", "2 sha256:aa\n"])
def test_a_broken_position_means_to_begin_again(lively, content):
    """Whoever was killed while writing it harms nobody, and neither does a backup that was restored."""
    registry, models = lively
    (models / ".position").write_text(content)
    (models / "net" / "1.0.0" / "metadata.json").write_text("nonsense")
    registry.promote("net", "1.0.0", "canary")

    assert look(models) == redrawn(registry)


def test_an_import_is_shown(lively, new_place, tmp_path):
    """As the original is, but not in its place: a copy is another registry."""
    registry, models = lively
    registry.archive.save(tmp_path / "registry.tar")
    other = new_place("sqlite")
    with other.open() as filled:
        filled.archive.restore(tmp_path / "registry.tar")

        shown, copied = look(models), look(filled.view.root)
        assert shown.pop(".position") != copied.pop(".position")
        assert shown == copied
    with other.open(view=models) as filled, pytest.raises(StoreError, match="shows another registry"):
        filled.view.rebuild()
    with ModelRegistry(registry.artifacts.url.removesuffix("artifacts"), artifacts=other.artifacts) as original:
        original.register_model("net", "9.0.0", tmp_path / "registry.tar")
        with pytest.raises(StoreError, match="is used by 1 other"):
            original.artifacts.sweep()


def test_a_directory_of_somebody_else_is_never_drawn_into(registry, root, publish, caplog):
    """Where a version would be shown: it stays as it is, everything else is drawn, and both ways say so."""
    mine = root / "models" / "net" / "1.1.0"
    publish("1.0.0")
    mine.mkdir()
    (mine / "metadata.json").write_text('{"model": "mine"}')
    (mine / "weights.bin").symlink_to("/data/weights.bin")
    before = look(mine)
    with caplog.at_level(logging.WARNING, "mlc_registry"):
        publish("1.1.0", "1.2.0")

    assert f"something at {mine}" in caplog.text
    assert "net 1.2.0" == (root / "models" / "net" / "latest" / "model.bin").read_text()
    with pytest.raises(StoreError, match=r"net/1\.1\.0; it was left alone and everything else is drawn"):
        registry.view.rebuild()
    assert before == look(mine)


def test_a_server_has_directories_where_it_is_told(make_database, tmp_path, weights):
    """And none unless."""
    url = make_database()
    with ModelRegistry(url, artifacts=tmp_path / "artifacts") as registry:
        registry.register_model("net", "1.0.0", weights("abc"))
        with pytest.raises(StoreError, match="view=DIRECTORY"):
            registry.view.rebuild()
    with ModelRegistry(url, artifacts=tmp_path / "artifacts", view=tmp_path / "seen") as registry:
        registry.promote("net", "1.0.0", "production")

        assert "abc" == (tmp_path / "seen" / "net" / "production" / "model.bin").read_text()
        assert look(tmp_path / "seen") == redrawn(registry)


PAINTER = """
import os, signal, sys
from pathlib import Path
from mlc_registry import ModelRegistry

CALLS = "mkdir rename replace symlink unlink open pwrite ftruncate close".split()
with ModelRegistry(sys.argv[1]) as registry:
    draw = registry._backend.view.refresh

def kill_at(moment):
    seen = 0
    def watch(frame, event, argument):
        nonlocal seen
        if event == "c_call" and argument.__name__ in CALLS and argument.__module__ in ("posix", "io"):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)

moment = 0
while True:
    moment += 1
    child = os.fork()
    if not child:
        with ModelRegistry(sys.argv[1]) as registry:
            view = registry._backend.view
            draw = view.refresh
            view.refresh = lambda: (kill_at(moment), draw(), sys.setprofile(None))
            registry.promote("net", f"1.{moment % 3}.0", "production")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    print(moment, flush=True)
    if moment % 4 == 0 or status == 0:  # let several be killed one after the other
        with ModelRegistry(sys.argv[1]) as registry:
            registry.promote("net", "1.0.0", "staging")
            print("look", flush=True)
            sys.stdin.readline()
    if status == 0:
        break
"""


@pytest.mark.slow
def test_who_is_killed_leaves_the_work_to_the_next(registry, publish, root):
    """At every call: what the next one leaves is what a new picture shows."""
    publish("1.0.0", "1.1.0", "1.2.0")
    moments = 0
    with subprocess.Popen(
        [sys.executable, "-c", PAINTER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line == "look\n":
                found = look(root / "models")
                copy = registry.view.root.with_name("copy")
                shutil.copytree(root / "models", copy, symlinks=True)
                assert found == redrawn(registry)
                shutil.rmtree(root / "models")
                copy.rename(root / "models")
                process.stdin.write("\n")
                process.stdin.flush()
            else:
                moments = int(line)
    assert 0 == process.returncode
    assert moments > 10


WORKER = """
import sys
from pathlib import Path
from mlc_registry import ModelRegistry

root, artifacts, view, folder, me = sys.argv[1:6]
sys.stdin.readline()
with ModelRegistry(root, artifacts=artifacts, view=view) as registry:
    for number in range(12):
        path = Path(folder) / f"{me}-{number}.bin"
        path.write_text(f"{me} {number}")
        registry.register_model("net", f"{me}.{number}.0", path)
        registry.promote("net", f"{me}.{number}.0", f"stage-{number % 3}")
        if number % 4 == 0:
            registry.yank("net", f"{me}.{number}.0", "why not")
        if number == 6:
            registry.view.rebuild()
"""


@pytest.mark.slow
def test_many_at_once_leave_one_picture(place, tmp_path):
    """The one that a new picture shows."""
    view = tmp_path / "seen"
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, place.root, place.artifacts, view, tmp_path, str(me)],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for me in range(4)
    ]  # fmt: skip
    for one in workers:
        one.stdin.write("go\n")
        one.stdin.flush()
    complaints = [one.communicate(timeout=300)[1] for one in workers]

    with ModelRegistry(place.root, artifacts=place.artifacts, view=view) as registry:
        for complaint in filter(None, complaints):
            assert "somebody else has been drawing" in complaint  # a machine that is that busy leaves it to the next
            registry.view.refresh()
        assert look(view) == redrawn(registry)
