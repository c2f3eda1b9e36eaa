"""What a lock file says is what was locked, and no other file is taken for one."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry.dependencies.locks import Lock, Locked, read_lock, write_lock
from mlc_registry.errors import LockError
from mlc_registry.testing import ranges, versions

MODELS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


@st.composite
def locks(draw):
    """Draw whole locks."""
    names = draw(st.lists(MODELS, min_size=1, max_size=4, unique=True))
    asked = draw(st.dictionaries(st.sampled_from(names), ranges(), min_size=1))
    models = {}
    for name in sorted(names):
        required = {f"{by} 1.0.0": draw(ranges()) for by in draw(st.lists(MODELS, max_size=2, unique=True))}
        if name in asked:
            required[""] = asked[name]
        models[name] = Locked(version=draw(versions()), digest=draw(DIGESTS), required=required)
    return Lock(registry="registry", requirements=asked, models=models, include_prereleases=draw(st.booleans()))


EXAMPLE = {
    "format": "mlc-lock/1",
    "include_prereleases": False,
    "models": {"net": {"digest": f"sha256:{'0' * 64}", "required": {"": "^1"}, "version": "1.0.0"}},
    "registry": "registry",
    "requirements": ["net@^1"],
}


@pytest.fixture(scope="module")
def lock_folder(tmp_path_factory):
    """A directory for one lock file after the other."""
    return tmp_path_factory.mktemp("locks")


@pytest.fixture
def lock_file(tmp_path):
    """Write something as a lock file and return its path."""

    def write(content):
        path = tmp_path / "mlc.lock"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


@given(lock=locks())
def test_what_is_written_is_read(lock_folder, lock):
    """And written again, it is the same to the byte."""
    path = lock_folder / "mlc.lock"
    write_lock(lock, path)
    content = path.read_bytes()
    found = read_lock(path)
    write_lock(found, path)

    assert lock == found
    assert list(lock.requirements) == list(found.requirements)
    assert content == path.read_bytes()
    assert content.endswith(b"}\n")
    assert [path] == list(path.parent.iterdir())


@given(
    content=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(EXAMPLE)), inner, max_size=5),
    ).map(lambda value: json.dumps(value).encode())
)
def test_nothing_else_is_a_lock_file(lock_folder, content):
    """Whatever is in it, there is one kind of error."""
    path = lock_folder / "mlc.lock"
    path.write_bytes(content)
    with pytest.raises(LockError, match=r"mlc\.lock"):
        read_lock(path)


def change(path, value):
    content = copy.deepcopy(EXAMPLE)
    place = content
    for one in path[:-1]:
        place = place[one]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("format",), "mlc-lock/2", "'mlc-lock/1' is what can be read"),
        (("registry",), 7, "registry is a int"),
        (("registry",), KeyError, "it has no 'registry'"),
        (("more",), 1, "unknown 'more'"),
        (("requirements",), [], "requires nothing"),
        (("requirements",), ["net@^1", "net@^2"], "'net' is required twice"),
        (("requirements",), ["other@^1"], "requires other"),
        (("requirements",), ["net@"], "says no version"),
        (("requirements",), ["../net@^1"], "cannot name a model"),
        (("models", "net", "version"), "1.0", "no semantic version"),
        (("models", "net", "digest"), "sha256:../../etc/passwd", "the digest of net is"),
        (("models", "net", "digest"), f"md5:{'0' * 64}", "the digest of net is"),
        (("models", "net", "required"), {"app 1.0.0": "production"}, "no range"),
        (("models", "net", "required"), {"": 1}, "is a int"),
        (("models", "net"), [], "net is a list"),
        (("models", "../net"), EXAMPLE["models"]["net"], "cannot name a model"),
        (("include_prereleases",), "yes", "is a str"),
    ],
)
def test_damage_is_named(lock_file, path, value, says):
    """Where it is, and how to mend it."""
    assert read_lock(lock_file(EXAMPLE)).requirements == {"net": "^1"}
    with pytest.raises(LockError, match="is damaged") as found:
        read_lock(lock_file(change(path, value)))

    assert says in str(found.value)
    assert "mlc registry lock" in str(found.value)


def test_a_lock_file_of_no_sensible_size_is_not_read(lock_file):
    """Nor is one that is nested without end, and nobody waits for either."""
    with pytest.raises(LockError, match="more than"):
        read_lock(lock_file(b" " * (17 << 20)))
    with pytest.raises(LockError, match="damaged"):
        read_lock(lock_file(b"[" * 100_000))


def test_a_lock_file_that_is_not_there_is_said_so(tmp_path):
    """As is a directory, and a place that cannot be written to."""
    with pytest.raises(LockError, match="No such file"):
        read_lock(tmp_path / "mlc.lock")
    with pytest.raises(LockError, match="cannot be read"):
        read_lock(tmp_path)
    lock = Lock(registry="", requirements={}, models={})
    with pytest.raises(LockError, match="cannot be written"):
        write_lock(lock, tmp_path / "nowhere" / "mlc.lock")


@pytest.mark.parametrize("path", [".", "/", "a\0b", "x" * 300])
def test_paths_that_cannot_be_are_errors_with_a_type(path, tmp_path, monkeypatch):
    """However they cannot be."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockError, match=r"cannot be written|no path does"):
        write_lock(Lock(registry="", requirements={}, models={}), path)
    with pytest.raises(LockError, match=r"cannot be read|no path does"):
        read_lock(path)
