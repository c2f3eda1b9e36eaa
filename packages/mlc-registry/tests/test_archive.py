"""A registry in one file: out of one database, into another, and not a bit is different."""

import hashlib
import io
import json
import shutil
import tarfile

import pytest

from mlc_registry import (
    Architecture,
    Archive,
    ArchiveError,
    AuditError,
    CorruptArtifactError,
    ModelRegistry,
    StoreError,
    Tracking,
)


@pytest.fixture
def registry(place):
    """An empty registry, on each database."""
    with place.open() as opened:
        yield opened


@pytest.fixture
def filled(registry, weights, checkpoint):
    """Everything that can be in a registry."""
    return fill(registry, weights, checkpoint)


def fill(registry, weights, checkpoint):
    """Put everything into *registry*."""

    def publish(*texts, name="net", **options):
        for text in texts:
            registry.register_model(name, text, weights(f"{name} {text}"), **options)

    publish("1.0.0", "1.1.0+b5", description='Ünï "quoted"\n')
    registry.register_model("net", "2.0.0-rc.1", checkpoint, {"dice": [0.5, None]}, actor="ann")
    publish(
        "0.1.0",
        name="cat",
        tracking=Tracking(dataset="ct 1.2", epoch=3, metrics={"dice": 0.1 + 0.2}, parameters={"lr": [0.1, None]}),
        architecture=Architecture(model_class="medical:UNet", config={"channels": [1]}),
        dependencies={"net": "^1"},
        parent="net@1.0.0",
        tags={"task": "ct", "old": "x"},
        notes="# Ünï kitten",
    )
    publish("0.2.0", name="cat")
    statements, number = registry._backend.store.statements, registry.get("cat", "0.1.0").version
    statements.set_tags("cat", number, {"old": None, "owner": "ann"}, actor="ann")
    statements.write_policy("", actor="ann", reason="none")
    statements.remove("cat", registry.get("cat", "0.2.0").version, actor="ann", reason="too old")
    registry.promote("net", "1.0.0", "production", reason="first")
    registry.promote("net", "1.1.0", "production")
    registry.rollback("net", "production")
    registry.yank("net", "1.1.0", "bad labels")
    registry.outbox.add("deployer", "http://deploy.example/", from_start=True)
    registry.outbox.deliver("deployer", lambda line: None)
    registry.outbox.add("late", "http://late.example/")
    return registry


@pytest.fixture
def saved(filled, tmp_path):
    """Its export."""
    filled.archive.save(tmp_path / "registry.tar")
    return tmp_path / "registry.tar"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where an export is kept that many tests read."""
    return tmp_path_factory.mktemp("kept") / "registry.tar"


@pytest.fixture
def sqlite_saved(kept, new_place, weights, checkpoint):
    """An export of one database, as all of them write the same; made once."""
    if not kept.exists():
        with new_place("sqlite").open() as registry:
            fill(registry, weights, checkpoint).archive.save(kept)
    return kept


@pytest.fixture
def target(new_place, empty_registry):
    """Another registry, an empty one."""
    place = new_place("sqlite")
    shutil.copytree(empty_registry, place.root)
    with place.open() as opened:
        yield opened


def _rows(registry):
    with registry._backend.store.rows.read() as tables:
        return {name: list(rows) for name, rows in tables.items()}


def test_round_trip_is_lossless(filled, saved, new_place, tmp_path):
    """From here to PostgreSQL to SQLite: every row, every file, every digest; and the last export is the first."""
    head = filled.audit.head
    source = saved
    for number, kind in enumerate(("postgresql", "sqlite")):
        with new_place(kind).open() as other:
            assert head == other.archive.restore(source).head
            assert _rows(filled) == _rows(other)
            assert filled.outbox.list() == other.outbox.list()
            for words, asked in (
                (["kit"], {"tags": {"owner": "ann"}, "metrics": ["dice>0.3"], "dataset": "ct 1.2"}),
                (["quoted"], {"yanked": True, "stage": "production"}),
                ([], {"yanked": True}),
            ):
                assert filled.search(*words, **asked) == other.search(*words, **asked)
                assert filled.search(*words, **asked).versions
            searches = other._backend.store.searches
            assert ["cat"] == [one.model for one in searches.list_dependents("net")]
            for one in other.list_versions("net"):
                if not one.yanked:
                    other.verify("net", one.version)
            source = tmp_path / f"again-{number}.tar"
            other.archive.save(source)
            assert saved.read_bytes() == source.read_bytes()
            other.register_model("net", "3.0.0", __file__)
            other.promote("net", "3.0.0", "production")
            assert other.audit.verify(expected_head=head).lines == filled.audit.verify().lines + 2
            if other._backend.view is not None:
                assert "3.0.0" == str((other.view.root / "net" / "latest").readlink())


def test_identical_files_are_stored_once(registry, weights, tmp_path):
    """However many versions they are in."""
    for number in range(3):
        registry.register_model("net", f"1.{number}.0", weights("same"))
    registry.archive.save(tmp_path / "registry.tar")

    with tarfile.open(tmp_path / "registry.tar") as archive:
        assert [f"files/{hashlib.sha256(b'same').hexdigest()}"] == [
            name for name in archive.getnames() if name.startswith("files/")
        ]


def test_empty_registry_is_moved_too(registry, target, tmp_path):
    """And stays one that can be imported into."""
    assert 0 == registry.archive.save(tmp_path / "registry.tar").lines
    target.archive.restore(tmp_path / "registry.tar")

    assert 0 == target.archive.restore(tmp_path / "registry.tar").lines


def test_export_overwrites_nothing(filled, saved, tmp_path):
    """And a place that is not there is said."""
    before = saved.read_bytes()
    with pytest.raises(ArchiveError, match="is there already"):
        filled.archive.save(saved)
    with pytest.raises(ArchiveError, match="cannot be written: No such file"):
        filled.archive.save(tmp_path / "nowhere" / "registry.tar")

    assert before == saved.read_bytes()


def test_export_is_made_beside_others(filled, tmp_path, monkeypatch):
    """Neither another export at the same time nor a link that somebody put there is written to."""
    theirs = tmp_path / "theirs"
    (tmp_path / ".registry.tar.partial").symlink_to(theirs)
    (tmp_path / "dangling.tar").symlink_to(theirs)
    fill = Archive._fill

    def meanwhile(archive, tar):
        (tmp_path / "registry.tar").write_bytes(b"another's")
        return fill(archive, tar)

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "_fill", meanwhile)
        for name in ("registry.tar", "dangling.tar"):
            with pytest.raises(ArchiveError, match="is there already"):
                filled.archive.save(tmp_path / name)

    assert b"another's" == (tmp_path / "registry.tar").read_bytes()
    assert not theirs.exists()
    assert [] == list(tmp_path.glob(".mlc-export*"))


def test_export_tells_of_one_moment(filled, target, publish, tmp_path, monkeypatch):
    """What is written while it is made is either in it, or not counted."""
    from mlc_registry.stores.ledger import SqlLedger

    verify = SqlLedger.verify
    lines = filled.audit.verify().lines

    def meanwhile(ledger, *, expected_head=None):
        monkeypatch.undo()
        publish("7.0.0")
        return verify(ledger, expected_head=expected_head)

    monkeypatch.setattr(SqlLedger, "verify", meanwhile)
    found = filled.archive.save(tmp_path / "registry.tar")

    assert lines == found.lines
    assert lines + 1 == filled.audit.verify().lines
    assert found == target.archive.restore(tmp_path / "registry.tar")


@pytest.mark.parametrize("path", ["/", "a\0b", "x" * 300])
def test_paths_that_cannot_be_are_errors_with_a_type(registry, path, monkeypatch, tmp_path):
    """Of exports, imports, and registries."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchiveError):
        registry.archive.save(path)
    with pytest.raises(ArchiveError):
        registry.archive.restore(path)
    if path != "/":
        for create in (True, False):
            with pytest.raises(StoreError):
                ModelRegistry(path, create=create)


def test_what_does_not_fit_is_not_exported(filled, place, tmp_path):
    """Neither a damaged file nor a history that was changed; nothing is left of the attempt."""
    path = filled.get_model_path("cat")
    path.chmod(0o644)
    path.write_text("CAT 0.1.0")
    with pytest.raises(CorruptArtifactError, match="is not what was published"):
        filled.archive.save(tmp_path / "registry.tar")
    path.unlink()
    with pytest.raises(CorruptArtifactError, match="unreadable: No such file"):
        filled.archive.save(tmp_path / "registry.tar")
    place.tamper("UPDATE change SET actor = 'nobody' WHERE id = 2")
    with pytest.raises(AuditError, match="line 2"):
        filled.archive.save(tmp_path / "registry.tar")

    assert [] == list(tmp_path.glob("*registry.tar*"))


def test_registry_that_holds_something_takes_no_import(filled, saved):
    """Two histories do not become one."""
    with pytest.raises(ArchiveError, match="is not empty"):
        filled.archive.restore(saved)


def test_artifacts_of_another_registry_take_no_import(filled, saved, place, tmp_path):
    """A copy goes by the name of its original, so it would sweep away what is not its own."""
    with ModelRegistry(tmp_path / "copy", artifacts=place.artifacts) as copy:
        with pytest.raises(ArchiveError, match=r"another registry.*--artifacts"):
            copy.archive.restore(saved)
        assert not copy.list_models()
    filled.audit.verify()


def test_listener_is_something(target, saved, filled):
    """Whatever the registry holds."""
    target.outbox.add("mine", "http://mine.example/")

    with pytest.raises(ArchiveError, match="there is a listener"):
        target.archive.restore(saved)
    assert () == tuple(target.list_models())


def _unpack(path):
    with tarfile.open(path) as archive:
        return [(one, archive.extractfile(one).read()) for one in archive]


def _pack(path, members):
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _edit(name, change):
    """Let *change* replace the rows of a table."""

    def edit(members):
        for index, (member, content) in enumerate(members):
            if member.name == f"tables/{name}.jsonl":
                rows = [json.loads(line) for line in content.splitlines()]
                change(rows)
                members[index] = (member, b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    return edit


def _add(name, content=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return lambda members: members.append((member, content))


def _replace(index, content):
    return lambda members: members.__setitem__(index, (members[index][0], content))


def metrics(text):
    """Return facts with these metrics."""
    return f'{{"tracking":{{"metrics":{text}}}}}'


def needs(text):
    """Return facts with these dependencies."""
    return f'{{"dependencies":{text}}}'


@pytest.mark.parametrize(
    ("edit", "error", "part"),
    [
        (_add("../../etc/passwd", b"x"), ArchiveError, "does not belong"),
        (_add("/etc/passwd", b"x"), ArchiveError, "does not belong"),
        (_add("files/" + "0" * 64, kind=tarfile.SYMTYPE, link="/etc/passwd"), ArchiveError, "no plain file"),
        (_add("files/" + "0" * 64, kind=tarfile.LNKTYPE, link="registry.json"), ArchiveError, "no plain file"),
        (_add("files", kind=tarfile.DIRTYPE), ArchiveError, "no plain file"),
        (_add("files/x", kind=tarfile.CHRTYPE), ArchiveError, "no plain file"),
        (_add("registry.json", b"{}"), ArchiveError, "is there twice"),
        (_add("files/" + "0" * 64, b"x"), ArchiveError, "is of no version"),
        (lambda members: members.append(members[-1]), ArchiveError, "is there twice"),
        (lambda members: members.pop(), ArchiveError, "files are missing"),
        (lambda members: members.pop(0), ArchiveError, "does not begin with registry.json"),
        (lambda members: members.pop(3), ArchiveError, "tables/file.jsonl is missing"),
        (lambda members: members.clear(), ArchiveError, "does not begin"),
        (_replace(0, b"{}"), ArchiveError, "its format is None"),
        (_replace(0, b"[]"), ArchiveError, "no object"),
        (_replace(0, b"{"), ArchiveError, "no JSON"),
        (_replace(0, b'{"format": "mlc-registry-export/2", "head": ""}'), ArchiveError, "upgrade mlc-registry"),
        (lambda members: _replace(-1, b"x" * len(members[-1][1]))(members), ArchiveError, "has other content"),
        (_edit("file", lambda rows: rows[0].update(path="../x")), ArchiveError, "a file would go to '../x'"),
        (_edit("file", lambda rows: rows[0].update(path="/etc/x")), ArchiveError, "a file would go to"),
        (_edit("file", lambda rows: rows[0].update(path="a//b")), ArchiveError, "a file would go to"),
        (_edit("file", lambda rows: rows[0].update(path="a\0b")), ArchiveError, "a file would go to"),
        (_edit("file", lambda rows: rows[0].update(path="")), ArchiveError, "a file would go to"),
        (_edit("file", lambda rows: rows[0].update(path="other")), AuditError, "other files"),
        (_edit("file", lambda rows: rows[0].update(size="1")), ArchiveError, "no size"),
        (_edit("file", lambda rows: rows.append(rows[0])), ArchiveError, "two files go to"),
        (_edit("model", lambda rows: rows[0].update(name="../x")), ArchiveError, "cannot name a model"),
        (_edit("version", lambda rows: rows[0].update(version="1.x")), ArchiveError, "1.x"),
        (_edit("version", lambda rows: rows[0].update(entry="../x")), ArchiveError, "is at '../x'"),
        (_edit("version", lambda rows: rows[0].update(model_id=9)), ArchiveError, "has no model"),
        (_edit("model", lambda rows: rows[0].update(id=[1])), ArchiveError, "a row of model has '[1]' as its id"),
        (_edit("version", lambda rows: rows[0].update(id={})), ArchiveError, "a row of version has '{}' as its id"),
        (_edit("version", lambda rows: rows[0].update(model_id=[1])), ArchiveError, "as its model_id"),
        (_edit("version", lambda rows: rows[0].update(model_id=True)), ArchiveError, "as its model_id"),
        (_edit("file", lambda rows: rows[0].update(version_id=[1])), ArchiveError, "as its version_id"),
        (_edit("version", lambda rows: rows[0].update(yanked="no")), ArchiveError, "not as it should be: yanked"),
        (_edit("version", lambda rows: rows[0].update(facts="{")), ArchiveError, "facts about a version that cannot"),
        (_edit("version", lambda rows: rows[0].update(facts="[]")), ArchiveError, "facts about a version that cannot"),
        (_edit("version", lambda rows: rows[0].update(facts="{ }")), ArchiveError, "not written as"),
        (_edit("version", lambda rows: rows[0].update(facts=metrics('{"a":"x"}'))), ArchiveError, "is not a number"),
        (_edit("version", lambda rows: rows[0].update(facts=metrics("[1]"))), ArchiveError, "tracking.metrics"),
        (_edit("version", lambda rows: rows[0].update(facts=needs('{"../x":"*"}'))), ArchiveError, "cannot name a mod"),
        (_edit("version", lambda rows: rows[0].update(facts=needs('{"net":"*"}'))), AuditError, "says other things"),
        (_edit("version", lambda rows: rows[0].update(metadata='{"a":1}')), AuditError, "says other things"),
        (_edit("version", lambda rows: rows[0].update(created_by="x")), AuditError, "by somebody else"),
        (_edit("version", lambda rows: rows[0].update(removed=True)), ArchiveError, "is of no version"),
        (_edit("version", lambda rows: rows[4].update(removed=False)), ArchiveError, "files are missing"),
        (_edit("tag", lambda rows: rows[0].update(key="../x")), ArchiveError, "cannot be the key of a tag"),
        (_edit("tag", lambda rows: rows[0].update(value="a\nb")), ArchiveError, "tag 'owner' cannot be"),
        (_edit("tag", lambda rows: rows[0].update(value="x")), AuditError, "tag 'owner' of cat 0.1.0"),
        (_edit("tag", lambda rows: rows.pop()), AuditError, "tag 'task' of cat 0.1.0"),
        (_edit("tag", lambda rows: rows[0].update(version_id=99)), ArchiveError, "do not fit together"),
        (_edit("change", lambda rows: rows[2].update(details="x")), AuditError, "line 3"),
        (_edit("change", lambda rows: rows[2].update(after_id=None)), AuditError, "line 3"),
        (_edit("version", lambda rows: rows[0].update(size=-1)), ArchiveError, "not as it should be: size"),
        (_edit("version", lambda rows: rows[0].update(digest="sha256:x")), AuditError, "has the digest"),
        (_edit("version", lambda rows: rows[0].update(extra=1)), ArchiveError, "not as it should be: extra"),
        (_edit("version", lambda rows: rows[0].update(description="\0")), ArchiveError, "not as it should be: descr"),
        (_edit("version", lambda rows: rows.append({**rows[0], "id": 9})), ArchiveError, "rows of version do not fit"),
        (_edit("change", lambda rows: rows[2].update(actor="nobody")), AuditError, "line 3"),
        (_edit("change", lambda rows: rows.pop()), AuditError, "no line has the digest"),
        (_edit("stage", lambda rows: rows[0].update(version_id=2)), AuditError, "was moved"),
        (_edit("listener", lambda rows: rows[0].update(position=None)), ArchiveError, "as it should be: position"),
    ],
)
def test_hostile_export_is_refused_whole(sqlite_saved, target, tmp_path, edit, error, part):
    """Nothing is imported, nothing is left over, and nothing is written anywhere else."""
    members = _unpack(sqlite_saved)
    edit(members)
    _pack(tmp_path / "hostile.tar", members)

    with pytest.raises(error) as caught:
        target.archive.restore(tmp_path / "hostile.tar")
    assert part in str(caught.value)
    assert {name: [] for name in _rows(target)} == _rows(target)
    assert [] == [one for one in target._backend.artifacts._root.rglob("*") if one.is_file()]
    target.archive.restore(sqlite_saved)


def test_export_that_was_cut_off_is_refused(sqlite_saved, target, tmp_path):
    """Wherever it ends."""
    whole = sqlite_saved.read_bytes()
    end = sum(512 + (len(content) + 511) // 512 * 512 for _, content in _unpack(sqlite_saved))
    for size in range(0, end, 700):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(ArchiveError):
            target.archive.restore(tmp_path / "cut.tar")
    for path in (tmp_path / "nowhere.tar", tmp_path):
        with pytest.raises(ArchiveError, match="no export"):
            target.archive.restore(path)

    assert () == tuple(target.list_models())


def test_disk_that_is_full_is_an_error_with_a_type(sqlite_saved, target, monkeypatch):
    """And nothing is imported."""
    import mlc_registry.history.imports

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mlc_registry.history.imports, "sync_directory", full)
    with pytest.raises(StoreError, match=r"nothing was imported.*No space"):
        target.archive.restore(sqlite_saved)
    assert () == tuple(target.list_models())


def test_files_that_cannot_be_linked_are_copied(registry, target, weights, tmp_path, monkeypatch):
    """As on file systems without links."""
    import mlc_registry.history.imports

    registry.register_model("net", "1.0.0", weights("same"))
    registry.archive.save(tmp_path / "registry.tar")

    def refuse(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(mlc_registry.history.imports.os, "link", refuse)
    target.archive.restore(tmp_path / "registry.tar")
    target.verify("net")


def test_files_stay_if_the_commit_may_have_succeeded(sqlite_saved, target, monkeypatch):
    """A connection that was lost while committing says nothing about the commit; the next import is not in the way."""
    from mlc_registry.stores.rows import SqlRows

    with monkeypatch.context() as patch:

        def lose(self, rows, *, head):
            msg = "the connection was lost"
            raise StoreError(msg)

        patch.setattr(SqlRows, "write", lose)
        with pytest.raises(StoreError, match="was lost"):
            target.archive.restore(sqlite_saved)
    left = sorted(one for one in target._backend.artifacts._root.rglob("*") if one.is_file())
    target.archive.restore(sqlite_saved)

    assert left
    assert left == [one for one in left if one.is_file()]
    target.verify("net", "1.0.0")
    assert "1.0.0~" in target.get("net", "1.0.0").directory


def test_database_that_fails_is_said(filled, tmp_path, monkeypatch):
    """And nothing is exported."""
    from mlc_registry.stores.ledger import SqlLedger

    def lose(self, *, expected_head):
        msg = "the connection was lost"
        raise StoreError(msg)

    monkeypatch.setattr(SqlLedger, "verify", lose)
    with pytest.raises(StoreError, match="was lost"):
        filled.archive.save(tmp_path / "registry.tar")
    assert not (tmp_path / "registry.tar").exists()


def test_rows_are_checked_by_the_store_too(target):
    """Whoever writes them."""
    rows = {name: [] for name in ("model", "version", "file", "stage", "tag", "change", "listener")}
    rows["version"] = [dict.fromkeys(["model_id", "id", "size", "created_at"], 1)]
    rows["version"][0] |= dict.fromkeys(["digest", "directory", "entry", "metadata", "description"], "")
    rows["version"][0] |= {"created_by": "", "yank_reason": "", "prerelease": False, "yanked": False, "version": "1.x"}

    with pytest.raises(ArchiveError, match="a row of version"):
        target._backend.store.rows.write(rows, head="")


def test_store_without_rows_says_so():
    """A plugin's may have none."""
    with pytest.raises(StoreError, match="content of object cannot be moved"):
        Archive(object(), None)


def test_commands_export_and_import(mlc, filled, place, new_place, tmp_path):
    """From one registry into another, which is made."""
    other = new_place("sqlite")
    from_here = ("--registry", place.root, "--artifacts", place.artifacts)
    status, out, err = mlc("registry", "export", tmp_path / "x.tar", *from_here)
    head = filled.audit.head

    assert (0, "") == (status, err)
    assert f"5 versions and 14 lines of history exported to {tmp_path}/x.tar; head {head}\n" == out
    assert 1 == mlc("registry", "export", tmp_path / "x.tar", *from_here)[0]
    status, out, _ = mlc("registry", "import", tmp_path / "x.tar", "--registry", other.root)
    assert (0, f"5 versions and 14 lines of history imported from {tmp_path}/x.tar; head {head}\n") == (status, out)
    said = json.loads(mlc("registry", "export", tmp_path / "y.tar", "--json", *from_here)[1])
    assert {"path": str(tmp_path / "y.tar"), "lines": 14, "versions": 5, "head": head} == said
    assert 1 == mlc("registry", "import", tmp_path / "x.tar", "--registry", other.root)[0]
