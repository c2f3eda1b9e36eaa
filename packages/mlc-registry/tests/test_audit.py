"""The sealed history: what was changed behind the registry's back is found, whatever it was."""

import hashlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import Audit, Audited, AuditError, InvalidMetadataError, StoreError, Tracking
from mlc_registry.history.chain import START, seal


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, copy_place):
    """A registry on each database: with a history, if the test asks for one."""
    fill = _fill if "history" in request.fixturenames else _leave
    return copy_place(request.param, f"audited{fill.__name__}", fill)


@pytest.fixture
def registry(place):
    """Opened."""
    with place.open() as opened:
        yield opened


@pytest.fixture
def history(registry):
    """Seven lines about two models."""
    return list(registry.audit.lines())


def _leave(registry, folder):
    pass


def _fill(registry, folder):
    for name, version in (("net", "1.0.0"), ("net", "1.1.0"), ("cat", "0.1.0")):
        (folder / "model.bin").write_text(f"{name} {version}")
        about = {"description": "First."} if name == "net" else {}
        registry.register_model(name, version, folder / "model.bin", actor="ann", **about)
    registry.promote("net", "1.0.0", "production", reason="first", actor="ann")
    registry.promote("net", "1.1.0", "production", actor="bob")
    registry.rollback("net", "production", reason="drift", actor="ann")
    registry.yank("net", "1.1.0", "bad labels", actor="ann")


def test_whole_history_is_verified(registry, history):
    """Every line, every version; the head is the last line's digest, and every head of the past is still there."""
    found = registry.audit.verify()

    assert Audited(lines=7, versions=3, head=history[-1].digest) == found
    assert registry.audit.head == found.head
    for line in history:
        assert found == registry.audit.verify(expected_head=line.digest)
    assert found == registry.audit.verify(expected_head=START)


def test_empty_history_is_whole(registry):
    """It has a head, too."""
    assert (
        Audited(lines=0, versions=0, head=START)
        == registry.audit.verify()
        == registry.audit.verify(expected_head=START)
    )
    assert [] == list(registry.audit.lines())


def test_lines_tell_everything_in_order(registry, history):
    """All models, numbered without gaps; what no line tells of did not happen."""
    assert list(range(1, 8)) == [one.number for one in history]
    assert [("net", "1.1.0"), ("cat", "0.1.0")] == [(one.model, one.after) for one in history[1:3]]
    last = history[-2]
    assert ("rolled back", "production", "1.1.0", "1.0.0") == (last.kind, last.stage, last.before, last.after)
    assert ("ann", "drift") == (last.actor, last.reason)
    assert registry.get("net", "1.0.0").digest == last.content
    assert history[4:] == list(registry.audit.lines(after=4))
    assert [one.at for one in registry.history("net")] == [one.at for one in history if one.model == "net"]


def test_anybody_can_compute_the_digest(history):
    """With any JSON and any SHA-256, from what the log prints."""
    previous = START
    for one in history:
        names = ["model", "kind", "stage", "before", "after", "content", "actor", "reason", "details"]
        facts = {name: getattr(one, name) for name in names}
        seconds = one.at.replace(microsecond=0).timestamp()
        facts |= {"id": one.number, "at": int(seconds) * 1_000_000 + one.at.microsecond, "previous": previous}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        assert one.digest == previous


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.none()))
def test_canonical_json_is_everybodys_json(facts):
    """What orjson writes, Python's own json writes too."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert text.encode() == orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
    assert seal(START, facts) != seal(seal(START, {}), facts)


SWAP = "; ".join(f"UPDATE change SET id = {new} WHERE id = {old}" for old, new in ((4, 99), (5, 4), (99, 5)))
COLUMNS = "model_id, kind, stage, before_id, after_id, actor, reason, at, content, details, digest"


@pytest.mark.parametrize(
    ("statement", "line", "part"),
    [
        ("UPDATE change SET actor = 'nobody' WHERE id = 4", 4, "line 4 (promoted net 1.0.0, by nobody) was edited"),
        ("UPDATE change SET reason = '' WHERE id = 6", 6, "line 6"),
        ("UPDATE change SET at = at + 1 WHERE id = 1", 1, "line 1"),
        ("UPDATE change SET after_id = 1, before_id = NULL WHERE id = 5", 5, "line 5"),
        ("UPDATE change SET content = 'sha256:other' WHERE id = 2", 2, "line 2"),
        ("UPDATE change SET digest = 'sha256:other' WHERE id = 7", 7, "line 7"),
        ("UPDATE model SET name = 'dog' WHERE name = 'cat'", 3, "line 3 (registered dog 0.1.0"),
        ("UPDATE version SET version = '1.0.1' WHERE version = '1.0.0'", 1, "line 1"),
        ("DELETE FROM change WHERE id = 3", 3, "line 3 is missing"),
        ("DELETE FROM change WHERE id IN (1, 2)", 1, "lines 1 to 2 are missing"),
        ("DELETE FROM change WHERE id = 3; UPDATE change SET id = id - 1 WHERE id > 3", 3, "line 3"),
        (SWAP, 4, "line 4 (promoted net 1.1.0, by bob) is in the place of line 5"),
        (f"INSERT INTO change (id, {COLUMNS}) SELECT 8, {COLUMNS} FROM change WHERE id = 7", 8, "line 8"),
        ("UPDATE version SET digest = 'sha256:other' WHERE version = '1.1.0'", None, "net 1.1.0 has the digest sha"),
        ("UPDATE file SET digest = 'sha256:other' WHERE version_id = 2", None, "net 1.1.0 has other files"),
        ("DELETE FROM file WHERE version_id = 2", None, "net 1.1.0 has other files"),
        ("UPDATE version SET yanked = NOT yanked WHERE id = 2", None, "net 1.1.0 is not yanked, which"),
        ("UPDATE version SET yanked = NOT yanked WHERE id = 3", None, "cat 0.1.0 is yanked, which"),
        ("UPDATE stage SET version_id = 2", None, "stage 'production' of net was moved"),
        ("UPDATE version SET yank_reason = 'none' WHERE id = 2", None, "net 1.1.0 is yanked for the reason 'none'"),
        ("UPDATE version SET metadata = '[]' WHERE id = 3", None, "cat 0.1.0 says other things"),
        ("UPDATE version SET description = '' WHERE id = 2", None, "net 1.1.0 says other things"),
        ("UPDATE version SET entry = 'x' WHERE id = 3", None, "cat 0.1.0 says other things"),
        ("UPDATE version SET facts = '{\"parent\":null}' WHERE id = 3", None, "cat 0.1.0 says other things"),
        ("UPDATE version SET created_by = 'bob' WHERE id = 3", None, "cat 0.1.0 was registered at another time"),
        ("UPDATE version SET created_at = 0 WHERE id = 3", None, "cat 0.1.0 was registered at another time"),
        ("UPDATE version SET removed = NOT removed WHERE id = 2", None, "net 1.1.0 is removed, which"),
        ("UPDATE change SET details = '' WHERE id = 1", 1, "line 1"),
        ("INSERT INTO tag (version_id, key, value) VALUES (3, 'a', 'b')", None, "tag 'a' of cat 0.1.0 was set or"),
        ("DELETE FROM stage", None, "stage 'production' of net was moved"),
        ("UPDATE version SET sort_key = digest WHERE id = 3", None, "cat 0.1.0 is sorted as another"),
        ("UPDATE version SET prerelease = NOT prerelease WHERE id = 3", None, "cat 0.1.0 is sorted as another"),
        ("UPDATE version SET size = size + 1 WHERE id = 3", None, "cat 0.1.0 has another size"),
        ("UPDATE stage SET actor = 'bob'", None, "stage 'production' of net was moved, or by"),
        ("UPDATE stage SET reason = ''", None, "stage 'production' of net was moved, or by"),
        ("UPDATE stage SET at = 0", None, "stage 'production' of net was moved, or by"),
        ("INSERT INTO mark (kind, value, version_id) VALUES ('run', 'x', 3)", None, "cat 0.1.0 is found by other"),
        ("INSERT INTO metric (name, value, version_id) VALUES ('dice', 1, 3)", None, "cat 0.1.0 is found by other"),
        ("INSERT INTO dependency (name, version_id) VALUES ('net', 3)", None, "cat 0.1.0 is found by other"),
        ("INSERT INTO word (word, version_id) VALUES ('dog', 3)", None, "cat 0.1.0 is found by other words"),
        ("DELETE FROM word WHERE version_id = 2", None, "net 1.1.0 is found by other words"),
    ],
)  # fmt: skip
def test_whatever_was_changed_is_found(registry, history, place, statement, line, part):
    """By somebody who took the triggers away; named by the first line that does not fit, or by what does not."""
    if not place.is_sqlite:
        statement = statement.replace("sort_key = digest", "sort_key = digest::bytea")
    place.tamper(*statement.split("; "))

    with pytest.raises(AuditError, match="was changed") as caught:
        registry.audit.verify()
    assert part in str(caught.value)
    assert line == caught.value.line


@pytest.mark.parametrize(
    "statements",
    [
        ("UPDATE change SET after_id = 4 WHERE id = 5",),
        ("UPDATE change SET after_id = 3 WHERE id = 6", "UPDATE stage SET version_id = 3"),
        ("UPDATE change SET before_id = 4 WHERE id = 6",),
        ("INSERT INTO model (id, name) VALUES (3, 'dog')", "UPDATE version SET model_id = 3 WHERE id = 1"),
    ],
)
def test_version_of_another_model_is_found(registry, publish, place, statements):
    """Even if it has the same number and the same files, so that every name in the line is as it was."""
    publish("1.0.0", "1.1.0")
    publish("1.0.0", "1.1.0", name="cat")
    registry.promote("net", "1.1.0", "production")
    registry.promote("net", "1.0.0", "production")
    place.tamper(*statements)

    with pytest.raises(AuditError, match="of another model"):
        registry.audit.verify()


@pytest.mark.parametrize(
    "statement", ["UPDATE metric SET value = 0.3", "DELETE FROM mark", "DELETE FROM dependency WHERE name = 'cat'"]
)
def test_searches_find_what_was_registered(registry, weights, place, statement):
    """Or it is found that they do not."""
    tracking = Tracking(run="r1", metrics={"dice": 0.1 + 0.2, "loss": 1})
    registry.register_model("cat", "1.0.0", weights("cat"))
    registry.register_model("net", "1.0.0", weights("net"), tracking=tracking, dependencies={"cat": "^1"})
    assert 2 == registry.audit.verify().lines
    place.tamper(statement)

    with pytest.raises(AuditError, match=r"net 1\.0\.0 is found by other"):
        registry.audit.verify()


@pytest.mark.parametrize(
    ("statement", "line", "part"),
    [
        ("UPDATE tag SET value = 'mr' WHERE key = 'task'", None, "tag 'task' of net 1.0.0"),
        ("DELETE FROM tag WHERE key = 'owner'", None, "tag 'owner' of net 1.0.0"),
        ("DELETE FROM tag", None, "of net 1.0.0 was set or taken off"),
        ("INSERT INTO tag (version_id, key, value) VALUES (1, 'old', 'x')", None, "tag 'old' of net 1.0.0"),
        ("UPDATE version SET removed = NOT removed WHERE id = 2", None, "net 1.1.0 is not removed, which"),
        ("UPDATE change SET details = '# Better' WHERE kind = 'noted'", 10, "line 10 (noted net 1.0.0"),
        ("UPDATE change SET details = '{}' WHERE kind = 'configured'", 13, "line 13 (configured"),
        ("UPDATE change SET model_id = 1, after_id = 1 WHERE kind = 'configured'", 13, "line 13"),
        ("UPDATE change SET stage = 'staging' WHERE kind = 'approved'", 11, "line 11 (approved net 1.0.0"),
        ("DELETE FROM change WHERE kind = 'withdrawn'", 12, "line 12 is missing"),
    ],
)  # fmt: skip
def test_whatever_is_stated_is_sealed(registry, history, place, statement, line, part):
    """Tags, notes, approvals, removals and the policy: what was changed of them is found."""
    statements = registry._backend.store.statements
    number = registry.get("net", "1.0.0").version
    statements.set_tags("net", number, {"task": "ct", "owner": "ann", "old": "x"}, actor="ann")
    statements.set_tags("net", number, {"old": None}, actor="ann")
    statements.state("net", number, kind="noted", details="# Good", actor="ann")
    statements.state("net", number, kind="approved", stage="production", actor="bob")
    statements.state("net", number, kind="withdrawn", stage="production", actor="bob")
    statements.write_policy('{"stages":{}}', actor="ann")
    statements.remove("net", registry.get("net", "1.1.0").version, actor="ann", reason="too old")
    assert 14 == registry.audit.verify().lines
    place.tamper(statement)

    with pytest.raises(AuditError, match="was changed") as caught:
        registry.audit.verify()
    assert part in str(caught.value)
    assert line == caught.value.line


def test_line_of_no_known_kind_is_found(registry, history, place, monkeypatch):
    """Even if it is sealed: somebody who owns the database can seal whatever they like."""
    from mlc_registry.stores.ledger import append_line

    told = {"model_id": 1, "after_id": 1, "actor": "ann", "reason": "", "at": 0}
    with registry._backend.store._transaction() as connection:
        append_line(connection, kind="deleted", **told)
    with pytest.raises(AuditError, match=r"line 8 \(deleted net 1\.0\.0, by ann\) is of a kind that"):
        registry.audit.verify()


def test_tags_that_cannot_be_read_are_found(registry, history):
    """Sealed, but no JSON."""
    from mlc_registry.stores.ledger import append_line

    told = {"model_id": 1, "after_id": 1, "actor": "ann", "reason": "", "at": 0}
    with registry._backend.store._transaction() as connection:
        append_line(connection, kind="tagged", details="[1]", **told)
    with pytest.raises(AuditError, match=r"line 8 .* does not say which tags"):
        registry.audit.verify()


def test_version_that_no_line_registered_is_found(registry, history, place):
    """Slipped in by SQL."""
    columns = (
        "model_id, prerelease, digest, size, directory, entry, metadata, description, created_at, created_by, yanked, "
        "yank_reason"
    )
    place.tamper(
        f"INSERT INTO version (id, version, sort_key, {columns}) "
        f"SELECT 9, '9.0.0', sort_key, {columns.replace('model_id', '2')} FROM version WHERE id = 1"
    )

    with pytest.raises(AuditError, match=r"cat 9\.0\.0 is there, but no line"):
        registry.audit.verify()


def test_version_that_is_gone_is_found(registry, history, place):
    """With its line, which tells of something that is not there; the line stays in sight."""
    place.tamper("DELETE FROM file WHERE version_id = 3", "DELETE FROM version WHERE id = 3")

    with pytest.raises(AuditError, match="line 3 "):
        registry.audit.verify()


def test_history_that_was_cut_off_fits_until_the_head_is_compared(registry, history, place):
    """What is left is a history; only who noted the head knows of more."""
    head = registry.audit.head
    place.tamper(
        "DELETE FROM change WHERE id = 7", "UPDATE version SET yanked = NOT yanked, yank_reason = '' WHERE id = 2"
    )

    assert 6 == registry.audit.verify().lines
    with pytest.raises(AuditError, match=r"no line has the digest sha256.*the 6 lines .* cut off"):
        registry.audit.verify(expected_head=head)


def test_head_must_be_a_digest(registry):
    """A typing error is no accusation."""
    with pytest.raises(AuditError, match="'abc' is no head"):
        registry.audit.verify(expected_head="abc")


def test_lines_go_on_after_what_is_there(registry, history, publish):
    """Who noted a head finds what came later fitting."""
    publish("2.0.0")

    assert 8 == registry.audit.verify(expected_head=history[-1].digest).lines


def test_older_code_cannot_write_a_line_that_is_not_sealed(registry, history, place):
    """The database refuses."""
    import sqlalchemy.exc

    columns = "model_id, kind, stage, before_id, after_id, actor, reason, at"
    with pytest.raises(sqlalchemy.exc.IntegrityError), place.behind() as connection:
        connection.exec_driver_sql(f"INSERT INTO change (id, {columns}) SELECT 99, {columns} FROM change WHERE id = 7")


def test_half_a_character_is_refused_by_type(registry, history, weights):
    """As a file name that is no UTF-8 leaves it; nothing of it is written."""
    broken = "bad \udcff"
    for attempt in (
        lambda: registry.promote("net", "1.0.0", "staging", reason=broken),
        lambda: registry.yank("net", "1.0.0", broken),
        lambda: registry.register_model("net", "4.0.0", weights("four"), description=broken),
        lambda: registry.register_model("net", "4.0.0", weights("four"), actor=broken),
    ):
        with pytest.raises((InvalidMetadataError, StoreError)):
            attempt()

    assert 7 == registry.audit.verify().lines


@pytest.mark.parametrize("broken", ["a\0b", "x" * 65537])
def test_what_no_backup_could_bring_back_is_refused(registry, history, weights, broken, tmp_path):
    """A null character, or a book for a reason; nothing is written, so every export can be imported."""
    before = sorted(tmp_path.rglob("*"))
    for attempt in (
        lambda: registry.promote("net", "1.0.0", "staging", reason=broken),
        lambda: registry.promote("net", "1.0.0", "staging", actor=broken),
        lambda: registry.yank("net", "1.0.0", broken),
        lambda: registry.policy.approve("net", "1.0.0", "staging", actor=broken),
        lambda: registry.releases.tag("net", "1.0.0", {"task": "ct"}, reason=broken),
        lambda: registry.register_model("net", "4.0.0", __file__, actor=broken),
        lambda: registry.register_model("net", "4.0.0", __file__, description=17 * broken),
    ):
        with pytest.raises(InvalidMetadataError, match=r"cannot be kept|can keep"):
            attempt()

    assert 7 == registry.audit.verify().lines
    assert [one for one in before if one.suffix not in {".db-wal", ".db-shm"}] == [
        one for one in sorted(tmp_path.rglob("*")) if one.suffix not in {".db-wal", ".db-shm"}
    ]


def test_another_reason_is_another_line(registry, history):
    """Yanking again for the same one is none; what is there is the last one."""
    assert "worse" == registry.yank("net", "1.1.0", "worse", actor="bob").yank_reason
    registry.yank("net", "1.1.0", "worse", actor="ann")

    assert 8 == registry.audit.verify().lines
    assert ("yanked", "worse", "bob") == [(one.kind, one.reason, one.actor) for one in registry.audit.lines()][-1]


def test_verifying_is_in_nobodys_way(registry, history, publish):
    """It reads as of one moment; writers go on, and are not seen."""
    with registry._backend.store._snapshot() as connection:
        from mlc_registry.stores.verification import verify

        assert 7 == verify(connection).lines
        publish("3.0.0")
        assert 7 == verify(connection).lines
    assert 8 == registry.audit.verify().lines


def test_store_without_a_ledger_says_so():
    """A plugin's may have none."""
    with pytest.raises(StoreError, match="object keeps no sealed history"):
        Audit(object())


def test_commands_verify_and_tell(mlc, registry, history, place, monkeypatch):
    """Without a place for files, as none is read."""
    monkeypatch.setenv("MLC_REGISTRY", place.root)
    head = history[-1].digest

    assert (0, f"ok  7 lines  3 versions  head {head}\n", "") == mlc("registry", "audit", "verify")
    status, out, _ = mlc("registry", "audit", "verify", "--head", head, "--json")
    assert (0, {"lines": 7, "versions": 3, "head": head}) == (status, json.loads(out))
    told = json.loads(mlc("registry", "audit", "log", "--json")[1])
    assert [one.digest for one in history] == [one["digest"] for one in told]
    assert [7] == [one["number"] for one in json.loads(mlc("registry", "audit", "log", "--after", "6", "--json")[1])]
    assert "rolled back" in mlc("registry", "audit", "log")[1]
    assert 1 == mlc("registry", "audit", "verify", "--head", f"sha256:{'1' * 64}")[0]
    place.tamper("UPDATE change SET actor = 'nobody' WHERE id = 4")
    status, out, err = mlc("registry", "audit", "verify")
    assert (1, "") == (status, out)
    assert "line 4" in err
