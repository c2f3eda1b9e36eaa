"""Migrations between major versions: found, run on a copy, and in place at one moment."""

import json
import signal
import subprocess
import sys

import pytest

from mlc_registry import MigrationError, SourceError, migrate
from mlc_registry.migrations.swapping import discard


@pytest.fixture
def files(tmp_path):
    """A directory with two files."""
    place = tmp_path / "work" / "files"
    place.mkdir(parents=True)
    (place / "a.txt").write_text("a")
    (place / "b.txt").write_text("b")
    return place


def content(place):
    """What is in a directory, by name."""
    return {path.name: path.read_text() for path in place.iterdir()}


def beside(place):
    """Names of what lies beside it."""
    return sorted(path.name for path in place.parent.iterdir())


# ------------------------------------------------------------------ running


def test_directory_is_migrated_in_place(scripts, files):
    """Step by step; what was there is kept beside it."""
    found = migrate(files, "net", "1.4.0", "3.0.0", scripts=scripts("1_to_2", "2_to_3"))

    assert {"a.txt": "a 1_to_2 2_to_3", "b.txt": "b 1_to_2 2_to_3"} == content(files)
    assert {"a.txt": "a", "b.txt": "b"} == content(found.backup)
    assert ["files", "files.backup-1.4.0"] == beside(files)
    assert (files, 2, None) == (found.path, len(found.steps), found.schema)


def test_file_is_migrated_in_place(scripts, files):
    """Under its own name, whatever the script calls it; a link is followed."""
    place = scripts(_1_to_2="def migrate(source, target): (target / 'x').write_text(source.read_text() + '!')")
    link = files.parent / "link.txt"
    link.symlink_to(files / "a.txt")
    found = migrate(link, "net", "1.0.0", "2.0.0", scripts=place)

    assert "a!" == (files / "a.txt").read_text() == link.read_text()
    assert "a" == found.backup.read_text()
    assert ["a.txt", "a.txt.backup-1.0.0", "b.txt"] == sorted(content(files))


def test_tensors_are_told(scripts, tensors):
    """What a migration did to them, here a rename."""
    source = """
    import json

    def migrate(source, target):
        data = source.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header["new.w"] = header.pop("old.w")
        text = json.dumps(header).encode()
        (target / source.name).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    """
    path = tensors({"old.w": ("F32", (2,))})
    found = migrate(path, "net", "1.0.0", "2.0.0", scripts=scripts(_1_to_2=source), dry_run=True)

    assert "> old.w -> new.w  F32 [2]  (probably)" == str(found.schema)
    assert json.loads(json.dumps(found.to_json()))["schema"]["renamed"]


def test_dry_run_changes_nothing(scripts, files):
    """It runs all steps on a copy."""
    found = migrate(files, "net", "1.0.0", "2.0.0", scripts=scripts("1_to_2"), dry_run=True)

    assert (None, None) == (found.path, found.backup)
    assert {"a.txt": "a", "b.txt": "b"} == content(files)
    assert ["files"] == beside(files)


def test_output_leaves_the_original_alone(scripts, files, tmp_path):
    """And overwrites nothing."""
    found = migrate(files, "net", "1.0.0", "2.0.0", scripts=scripts("1_to_2"), output=tmp_path / "new")

    assert {"a.txt": "a", "b.txt": "b"} == content(files)
    assert {"a.txt": "a 1_to_2", "b.txt": "b 1_to_2"} == content(found.path)
    with pytest.raises(MigrationError, match="new is there"):
        migrate(files, "net", "1.0.0", "2.0.0", scripts=scripts("1_to_2"), output=tmp_path / "new")


FAULTS = {
    "raises": ("raise ValueError('no')", "ValueError: no"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "writes nothing": ("pass", "wrote nothing that can be used"),
    "writes empty files": ("(target / 'a').touch()", "wrote empty files only"),
    "links out": ("(target / 'a').symlink_to('/etc/hostname')", "a link out of the directory"),
    "harms its source": ("[one.unlink() for one in source.iterdir()]; raise OSError('x')", "OSError: x"),
    "takes its target away": ("target.rmdir()", "wrote nothing that can be used"),
}


@pytest.mark.parametrize(("body", "part"), FAULTS.values(), ids=FAULTS)
def test_step_that_fails_leaves_everything(scripts, files, body, part):
    """The step is named; nothing is left beside the files."""
    place = scripts("1_to_2", _2_to_3=f"def migrate(source, target): {body}")
    with pytest.raises(MigrationError, match=part) as caught:
        migrate(files, "net", "1.0.0", "3.0.0", scripts=place)

    assert "2_to_3 of net" in str(caught.value)
    assert {"a.txt": "a", "b.txt": "b"} == content(files)
    assert ["files"] == beside(files)


def test_several_files_of_one_are_refused(scripts, files):
    """What was a file stays one."""
    place = scripts(_1_to_2="def migrate(source, target): [(target / x).write_text(x) for x in 'ab']")
    with pytest.raises(MigrationError, match="made 2 files of one"):
        migrate(files / "a.txt", "net", "1.0.0", "2.0.0", scripts=place)


def test_backup_is_never_overwritten(scripts, files):
    """A second migration from the same version has to wait until it is moved away."""
    place = scripts("1_to_2")
    migrate(files, "net", "1.0.0", "2.0.0", scripts=place)
    with pytest.raises(MigrationError, match=r"files\.backup-1\.0\.0 is there"):
        migrate(files, "net", "1.0.0", "2.0.0", scripts=place)

    assert {"a.txt": "a 1_to_2", "b.txt": "b 1_to_2"} == content(files)


def test_what_cannot_be_published_cannot_be_migrated(scripts, tmp_path):
    """Nothing, or links that lead out."""
    with pytest.raises(SourceError):
        migrate(tmp_path / "nowhere", "net", "1.0.0", "2.0.0", scripts=scripts("1_to_2"))


def test_one_at_a_time(scripts, files):
    """Another process that migrates the same files is waited for by nobody."""
    inner = str(scripts("1_to_2", folder="inner"))
    source = f"""
    import mlc_registry

    def migrate(source, target):
        try:
            mlc_registry.migrate({str(files)!r}, "net", "1.0.0", "2.0.0", scripts={inner!r})
        except mlc_registry.MigrationError as error:
            (target / "told").write_text(str(error))
    """
    migrate(files, "net", "1.0.0", "2.0.0", scripts=scripts(_1_to_2=source))

    assert "another process is migrating files" in content(files)["told"]


KILLED = """
import os, sys, pathlib
import mlc_registry.migrations.scripts as migrating

path, scripts = pathlib.Path(sys.argv[1]), sys.argv[2]
TOUCHING = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlopen"}

def run(moment):
    count = 0

    def watch(event, arguments):
        nonlocal count
        if event in TOUCHING or (event == "open" and str(path.parent) in str(arguments[0])):
            count += 1
            if count == moment:
                os.kill(os.getpid(), 9)

    sys.addaudithook(watch)
    migrating.migrate(path, "net", "1.0.0", "2.0.0", scripts=scripts)

for line in sys.stdin:  # each moment in a process of its own, which need not load everything again
    child = os.fork()
    if not child:
        try:
            run(int(line))
            os._exit(0)
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def killer(scripts, files, kind):
    """A function that migrates and kills that at a moment; returns how it ended."""
    path = files if kind == "directory" else files / "a.txt"
    command = [sys.executable, "-c", KILLED, str(path), str(scripts("1_to_2"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def kill(moment):
            process.stdin.write(f"{moment}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield kill
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_killed_at_any_moment(killer, files, kind):
    """There is the original or the new one, whole, and what was replaced is in the backup; once more ends it."""
    path = files if kind == "directory" else files / "a.txt"
    old = {"a.txt": "a", "b.txt": "b"} if kind == "directory" else "a"
    new = {"a.txt": "a 1_to_2", "b.txt": "b 1_to_2"} if kind == "directory" else "a 1_to_2"
    backup = path.with_name(f"{path.name}.backup-1.0.0")

    def look(what):
        return content(what) if what.is_dir() else what.read_text()

    seen = set()
    for moment in range(1, 400):
        status = killer(moment)
        now = look(path)
        assert now in (old, new), moment
        if now == new or backup.exists():
            assert old == look(backup), moment
        seen.add((now == new, backup.exists()))
        if status == 0:
            break
        assert -signal.SIGKILL == status
        if now == new:  # back to the beginning
            discard(path)
            backup.rename(path)
        elif backup.exists():
            discard(backup)
    assert {(False, False), (False, True), (True, True)} == seen
    assert not [name for name in beside(path) if name.startswith(".")]


# ------------------------------------------------------------------ published versions


def test_published_version_is_migrated(registry, scripts, checkpoint, tmp_path):
    """The result is a version with a parent, and says how it was made; what it was made from stays as it was."""
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "more" / "state.json").unlink()
    (checkpoint / "more").rmdir()
    first = registry.register_model("net", "1.2.0", checkpoint)
    published = registry.migrations.publish("net", "^1", "2.0.0", scripts=scripts("1_to_2"), actor="ann")

    assert (first.version, first.digest) == (published.parent.version, published.parent.digest)
    told = published.metadata["migration"]
    assert ("1.2.0", ["1_to_2"]) == (told["from"], [one["step"] for one in told["steps"]])
    assert (registry.get_model_path("net") / "manifest.json").read_text().endswith(" 1_to_2")
    assert "1.2.0" == str(registry.verify("net", "1.2.0").version)
    with pytest.raises(MigrationError, match=r"net/1_to_3\.py is missing|net/2_to_3\.py is missing"):
        registry.migrations.publish("net", "2.0.0", "3.0.0", scripts=scripts("1_to_2"))


def test_file_is_migrated_and_published(registry, scripts, weights):
    """Under its name."""
    registry.register_model("net", "1.0.0", weights("abc"))
    registry.migrations.publish("net", "1.0.0", "2.0.0", scripts=scripts("1_to_2"))

    assert "abc 1_to_2" == registry.get_model_path("net").read_text()
    assert "model.bin" == registry.get_model_path("net").name


def test_commands(mlc, root, scripts, files, weights):
    """Steps, dry run, run, publish."""
    place = ("--scripts", scripts("1_to_2"))
    assert "Adds its name." in mlc("registry", "migrate", "steps", "net", *place)[1]
    assert ["1_to_2"] == [
        one["step"] for one in json.loads(mlc("registry", "migrate", "steps", "net", 1, 2, *place, "--json")[1])
    ]
    assert 2 == mlc("registry", "migrate", "steps", "net", 1, *place)[0]
    arguments = ("registry", "migrate", "run", "net", files, "--from", "1.0.0", "--to", "2.0.0", *place)
    assert "nothing was changed: this was a dry run" in mlc(*arguments, "--dry-run")[1]
    assert json.loads(mlc(*arguments, "--json")[1])["backup"].endswith("files.backup-1.0.0")
    status, _, err = mlc(*arguments)
    assert (1, True) == (status, "is there, from a migration before" in err)

    mlc("registry", "register", "net", "1.0.0", weights("abc"), "--registry", root)
    status, out, _ = mlc("registry", "migrate", "publish", "net@1.0.0", "2.0.0", *place, "--registry", root)
    assert (0, "net 2.0.0 is published, migrated from 1.0.0\n") == (status, out)


def test_output_within_what_is_migrated_is_refused(scripts, files):
    """It would be copied into itself."""
    before = content(files)
    with pytest.raises(MigrationError, match="name a place outside"):
        migrate(files, "net", "1.0.0", "2.0.0", scripts=scripts("1_to_2"), output=files / "deep" / "new")
    assert before == content(files)
