"""Files that changed, shrank, were swapped or were made to harm: a typed error, or what was saved, and nothing else."""

import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from mlc_core import (
    CheckpointManager,
    CheckpointReader,
    CheckpointWarning,
    CorruptCheckpointError,
    StorageError,
    open_checkpoint,
)
from mlc_core.retention import KeepAll
from mlc_core.serializers import Safetensors
from mlc_hooks import MlcError

np = pytest.importorskip("numpy")
BROKEN = (CorruptCheckpointError, StorageError)


def state():
    """Return a model in shards that are mapped, an optimizer in one file that is read, and plain data."""
    return {
        "model": {f"layer{number}": np.arange(10_000, dtype=np.float32) * number for number in range(5)},
        "optimizer": {"moment": np.arange(999, dtype=np.float64)},
        "data": {"epoch": 3, "text": "weights"},
    }


def is_state(found, names=("model", "optimizer", "data")):
    """Say whether *found* is that, or the items *names* of it."""
    return list(found) == list(names) and all(_equal(state()[name], found[name]) for name in names)


def _equal(one, other):
    if isinstance(one, dict):
        return list(one) == list(other) and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return type(one) is type(other) and one == other


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """The directory of a checkpoint whose model is in three files and an index, with an older one beside it."""
    from mlc_core.shards import cut

    monkeypatch.setattr("mlc_core.writer.cut", functools.partial(cut, limit=100_000))
    manager = CheckpointManager(tmp_path, "unet", retention=KeepAll())
    manager.save_checkpoint(items={"data": 1}, epoch=1)
    return manager.save_checkpoint(items=state(), epoch=2)


def test_sharded_checkpoint_is_what_these_tests_need(sharded):
    """Some files are mapped and some are read."""
    sizes = {one.name: one.stat().st_size for one in sharded.iterdir()}

    assert {
        "manifest.json",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
        "optimizer.safetensors",
        "state.json",
    } == set(sizes)
    assert min(sizes.values()) < 1 << 16 < sizes["model-00001-of-00003.safetensors"]
    assert is_state(open_checkpoint(sharded).load())


ITEMS = {"model": "model-", "optimizer": "optimizer.", "data": "state.json"}


def look(faults, path, file, only):
    """Load the checkpoint at *path*, whose *file* was damaged, in all ways; say what went wrong without a word."""
    for copy in (False, True):
        try:
            found = open_checkpoint(path).load(copy=copy)
        except MlcError:
            pass
        else:
            raise faults.Silent(file, is_state(found))
    try:
        found = open_checkpoint(path).load(only=only)
    except MlcError:
        return
    concerned = file in {"manifest.json", "state.json"} or file.startswith(ITEMS[only])
    if concerned or not is_state(found, (only,)):
        raise faults.Silent(file, only)


def test_any_flipped_bit_of_shards_is_found(sharded, faults):
    """In any file, mapped or read, copied or not, all of it or one item; the file that was not read is not missed."""
    chance = random.Random(7)
    files = sorted(sharded.iterdir())
    for number in range(10_000 if faults.thorough else 150):
        file, only = files[number % len(files)], chance.choice(list(ITEMS))
        place, bit = chance.randrange(file.stat().st_size), 1 << chance.randrange(8)
        with file.open("r+b") as opened:
            before = os.pread(opened.fileno(), 1, place)
            os.pwrite(opened.fileno(), bytes([before[0] ^ bit]), place)
            with faults.case("one flipped bit"):
                look(faults, sharded, file.name, only)
            os.pwrite(opened.fileno(), before, place)

    assert is_state(open_checkpoint(sharded).load())


def test_any_truncation_of_shards_is_found(sharded, faults):
    """At any place, in any file; and one byte too many."""
    chance = random.Random(8)
    files = sorted(sharded.iterdir())
    for number in range(2_000 if faults.thorough else 60):
        file, only = files[number % len(files)], chance.choice(list(ITEMS))
        content = file.read_bytes()
        end = chance.choice([0, chance.randrange(len(content)), len(content) - 1, len(content) + 1])
        os.truncate(file, end)
        with faults.case("a file cut short"):
            look(faults, sharded, file.name, only)
        file.write_bytes(content)

    assert is_state(open_checkpoint(sharded).load())


def test_damage_is_passed_over_with_a_warning(sharded, faults):
    """Whichever file it is, the one before is loaded by a manager that is asked for the latest."""
    for file in sorted(sharded.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        manager = CheckpointManager(sharded.parents[1], "unet")
        with faults.case("one flipped bit"):
            with pytest.warns(CheckpointWarning, match=file.name.replace(".", r"\.")):
                found = manager.load_checkpoint()
            if {"data": 1} != dict(found.state):
                raise faults.Silent(file.name)
        file.write_bytes(content)


def test_files_that_were_exchanged_are_found(sharded, faults):
    """Two shards of the same size, each sound, in each other's place."""
    one, other = (sharded / f"model-0000{number}-of-00003.safetensors" for number in (1, 2))
    assert one.stat().st_size == other.stat().st_size
    one.rename(sharded.parent / "aside")
    other.rename(one)
    (sharded.parent / "aside").rename(other)

    with faults.case("a file swapped"), pytest.raises(CorruptCheckpointError, match="was changed after"):
        open_checkpoint(sharded).load()


# ---------------------------------------------------------------------- swapped under us


@pytest.mark.parametrize("file", ["state.json", "model-00001-of-00003.safetensors", "manifest.json"])
def test_file_replaced_by_a_link_to_other_content_is_found(sharded, tmp_path, faults, file):
    """Nothing from outside is ever handed out: it is not what was committed."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * (sharded / file).stat().st_size)
    (sharded / file).unlink()
    (sharded / file).symlink_to(secret)

    with faults.case("a file swapped"), pytest.raises(BROKEN):
        open_checkpoint(sharded).load()
    with faults.case("a file swapped"), pytest.warns(CheckpointWarning):
        assert {"data": 1} == dict(CheckpointManager(tmp_path, "unet").load_checkpoint("latest").state)


def test_directory_replaced_by_a_link_between_listing_and_reading(sharded, tmp_path, faults):
    """The manager read the manifest; then all of it leads elsewhere."""
    manager = CheckpointManager(tmp_path, "unet")
    saved = manager.list_checkpoints()[-1]
    sharded.rename(tmp_path / "outside")
    with (tmp_path / "outside" / "state.json").open("r+b") as opened:
        opened.write(b" ")
    sharded.symlink_to(tmp_path / "outside")

    with faults.case("a file swapped"), pytest.raises(BROKEN):
        CheckpointReader(manager.storage, saved).load()
    assert ["epoch_1"] == [one.name for one in manager.list_checkpoints()]


def test_file_that_changes_its_time_back_is_found(sharded, faults):
    """Digests are of content; no clock is believed."""
    file = sharded / "optimizer.safetensors"
    status, content = file.stat(), bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    with faults.case("a file swapped"), pytest.raises(CorruptCheckpointError):
        open_checkpoint(sharded).load()


def test_place_whose_permissions_are_gone(faults):
    """An error that names it, and the other one is loaded. Root may do anything, so somebody else tries."""
    base = Path(tempfile.mkdtemp(prefix="mlc-", dir="/tmp"))  # pytest's own directories are closed to others
    try:
        base.chmod(0o755)
        manager = CheckpointManager(base, "unet", retention=KeepAll())
        for epoch in (1, 2):
            path = manager.save_checkpoint(items={"epoch": epoch}, epoch=epoch)
        for one in base.rglob("*"):
            one.chmod(0o755)
        (path / "state.json").chmod(0)
        user = os.geteuid()
        os.seteuid(65534 if user == 0 else user)
        try:
            with faults.case("permissions taken away"):
                with pytest.raises(StorageError, match=r"state\.json: Permission denied"):
                    open_checkpoint(path).load()
                with pytest.warns(CheckpointWarning, match="Permission denied"):
                    assert {"epoch": 1} == dict(CheckpointManager(base, "unet").load_checkpoint().state)
                if user == 0:
                    with pytest.raises(StorageError, match="Permission denied"):
                        CheckpointManager(base, "unet").save_checkpoint(items={"epoch": 3}, epoch=3)
        finally:
            os.seteuid(user)
    finally:
        shutil.rmtree(base)


# ---------------------------------------------------------------------- made to harm

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False),
    st.sampled_from(["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\0b", "\u202e", "nope", "x" * 10_000, "NaN"]),
    st.sampled_from([[], {}, [[[[[[]]]]]], {"$tensor": "x"}, {"$tuple": [1]}, [{"name": "../x"}]]),
)


def forge(facts):
    """Return a manifest of *facts* with a right digest."""
    body = orjson.dumps({name: value for name, value in facts.items() if name != "digest"}, option=orjson.OPT_INDENT_2)
    return body[:-2] + b',\n  "digest": "' + xxhash.xxh3_128_hexdigest(body).encode() + b'"\n}'


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """A sound checkpoint, its manifest to be forged."""
    place = tmp_path_factory.mktemp("victim")
    (place / "secret").write_text("secret")
    return CheckpointManager(place, "unet").save_checkpoint(items=state(), epoch=1)


@pytest.fixture(scope="module")
def facts(victim):
    """What its manifest says."""
    return orjson.loads((victim / "manifest.json").read_bytes())


@given(st.data())
def test_forged_manifest_is_an_error_or_harmless(victim, facts, faults, data):
    """With a right digest and any field made to harm: a typed error, or content that is in the checkpoint."""
    forged = json.loads(json.dumps(facts))
    target = data.draw(st.sampled_from([forged, *forged["files"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(HOSTILE)
    (victim / "manifest.json").unlink()
    try:
        (victim / "manifest.json").write_bytes(forge(forged))
    except TypeError:  # JSON cannot say it either
        (victim / "manifest.json").write_bytes(b"")

    with faults.case("a manifest made to harm"):
        try:
            found = open_checkpoint(victim).load()
        except MlcError:
            return
        if not is_state(found, tuple(name for name in found if name in state())):
            raise faults.Silent(forged)


@pytest.mark.parametrize("extra", ["../../secret", "/etc/hostname", "manifest.json/../../../secret"])
def test_forged_manifest_leads_nowhere(victim, facts, faults, extra):
    """A file that lies outside is not opened, although size and digest are right."""
    content = (victim.parents[1] / "secret").read_bytes()
    record = {"name": extra, "size": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
    record |= {"serializer": "json", "item": None}
    (victim / "manifest.json").unlink()
    (victim / "manifest.json").write_bytes(forge({**facts, "files": [*facts["files"], record]}))

    with faults.case("a manifest made to harm"), pytest.raises(CorruptCheckpointError, match="cannot be the name"):
        open_checkpoint(victim)


HEADERS = st.recursive(
    st.one_of(HOSTILE, st.sampled_from(["F32", "U8", [0, 4], [4, 8], [2**62, 2**62], [1], [-1], [0] * 70])),
    lambda inner: st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "a", "__metadata__"]), inner),
    max_leaves=8,
)


@given(HEADERS, st.integers(-8, 8), st.binary(max_size=16))
def test_hostile_safetensors_header_is_a_value_error(header, off, body):
    """Whatever it claims: no other error, and no bytes that are not in the file."""
    text = json.dumps(header).encode()
    file = max(0, len(text) + off).to_bytes(8, "little") + text + body
    try:
        found = Safetensors().load(memoryview(file))
    except ValueError:
        return
    assert sum(one.size for one in found.values()) <= len(file)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b'{"a": 1, "a": 2}',
        b"\xff\xfe",
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [' + b"1," * 100 + b'1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1e3], "data_offsets": [0, 4000]}}',
        b'{"a": {"dtype": "../x", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda header: repr(header[:30]),
)
def test_known_tricks_with_headers_are_value_errors(header, faults):
    """Deep nesting, names given twice, sizes that overflow, numbers that take for ever."""
    with faults.case("a header made to harm"), pytest.raises(ValueError, match=r"."):
        Safetensors().load(memoryview(len(header).to_bytes(8, "little") + header + b"1234"))


@pytest.mark.parametrize("document", [b"[" * 100_000, b'{"data":' * 2_000, b'{"data":{"$tuple":[' * 300, b"nul", b'"'])
def test_hostile_state_is_corrupt(victim, facts, faults, document):
    """A state that no encoder wrote, in a checkpoint whose digests are right."""
    sound = (victim / "state.json").read_bytes()
    files = [{**one} for one in facts["files"]]
    for one in files:
        if one["name"] == "state.json":
            one |= {"size": len(document), "xxh3_128": xxhash.xxh3_128_hexdigest(document)}
    for name, content in (("manifest.json", forge({**facts, "files": files})), ("state.json", document)):
        (victim / name).unlink()
        (victim / name).write_bytes(content)
    try:
        with faults.case("a state made to harm"), pytest.raises(CorruptCheckpointError):
            open_checkpoint(victim).load()
    finally:
        (victim / "state.json").write_bytes(sound)


# ---------------------------------------------------------------------- sectors that cannot be read

SHRINK = """
import os, sys
from mlc_core import StorageError, open_checkpoint
from mlc_core.storage import files

view = files.view

def view_and_cut(path):
    found = view(path)
    if path.name == sys.argv[2]:
        os.truncate(path, 4096)
    return found

files.view = view_and_cut
try:
    open_checkpoint(sys.argv[1]).load()
except StorageError as error:
    print(error)
"""


def child(*arguments):
    """Run a script in a process of its own, which a signal may end."""
    return subprocess.run([sys.executable, "-c", *map(str, arguments)], check=False, capture_output=True, text=True)


def test_mapped_page_that_is_gone_is_an_error_and_no_signal(sharded, faults):
    """A file that shrinks while it is mapped cannot be read, as one on a bad sector: the process lives to say so."""
    with faults.case("a sector that cannot be read"):
        found = child(SHRINK, sharded, "model-00002-of-00003.safetensors")
        assert (0, "") == (found.returncode, found.stderr)
        assert (
            "model-00002-of-00003.safetensors cannot be read (Input/output error): the disk is failing" in found.stdout
        )


LOAD = """
import sys, warnings
from mlc_core import CheckpointManager, StorageError, open_checkpoint

try:
    open_checkpoint(sys.argv[1] + "/unet/epoch_2").load()
except StorageError as error:
    print(error)
warnings.simplefilter("ignore")
print(CheckpointManager(sys.argv[1], "unet").load_checkpoint().saved.name)
"""


def test_bad_sectors_of_a_real_disk(disks, faults):
    """The disk under a mounted file system does not give them back: an error that says so, and the one before."""
    disk = disks("ext4")
    manager = CheckpointManager(disk.mount, "unet", retention=KeepAll())
    manager.save_checkpoint(items={"data": 1}, epoch=1)
    (disk.mount / "far").write_bytes(bytes(1 << 20))
    path = manager.save_checkpoint(items={"weights": np.arange(6_000_000, dtype=np.uint8)}, epoch=2)
    place = _place_of(path / "weights.safetensors")
    with (path / "weights.safetensors").open() as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.sync()
    size = disk.image.stat().st_size
    os.truncate(disk.image, place + (1 << 20))
    try:
        with faults.case("a sector that cannot be read"):
            found = child(LOAD, disk.mount)
    finally:
        os.truncate(disk.image, size)

    assert (0, "") == (found.returncode, found.stderr)
    assert "weights.safetensors cannot be read (Input/output error): the disk is failing" in found.stdout
    assert found.stdout.endswith("epoch_1\n")


def _place_of(path):
    """Return where the last extent of *path* begins on its disk."""
    if shutil.which("filefrag") is None:
        pytest.skip("filefrag is not installed: no sector was taken away")
    said = subprocess.run(["filefrag", "-v", "-b4096", path], check=True, capture_output=True, text=True).stdout
    rows = [line.split(":") for line in said.splitlines() if line.strip()[:1].isdigit()]
    return 4096 * max(int(row[2].split("..")[0]) for row in rows)
