"""What every store does that keeps what is said about versions after they were published."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from mlc_registry.errors import (
    InvalidMetadataError,
    InvalidTagError,
    PolicyConflictError,
    RemovedVersionError,
    StageConflictError,
    VersionNotFoundError,
)
from mlc_registry.metadata import LARGEST
from mlc_registry.semver.versions import Version
from mlc_registry.testing.drafts import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlc_registry.protocols import Statements, Store

__all__ = ["StatementsContract", "get_statements"]

ONE = Version.parse("1.0.0")
TWO = Version.parse("2.0.0")
ANN: dict[str, Any] = {"actor": "ann", "reason": "because"}


class StatementsContract:
    """What holds for the `Statements` of a `Store`. Subclass it beside `StoreContract`, with the same fixture."""

    @pytest.fixture
    def statements(self, store: Store) -> Statements:
        """Return what the store keeps, which has two versions."""
        publish(store, "1.0.0")
        publish(store, "2.0.0")
        return get_statements(store)

    def test_statements_are_kept_in_their_order(self, store: Store, statements: Statements) -> None:
        """Each comes back as it was kept, of the version that it is about, and is in the history of the model."""
        first = statements.state("net", ONE, kind="noted", details="# Ünï\n\nFirst.", **ANN)
        statements.state("net", TWO, kind="noted", details="Another.", **ANN)
        yes = statements.state("net", ONE, kind="approved", stage="production", **ANN)
        no = statements.state("net", ONE, kind="withdrawn", stage="production", actor="bob")
        again = statements.state("net", ONE, kind="noted", details="", actor="bob")

        assert ("net", "noted", "# Ünï\n\nFirst.", "") == (first.model, first.kind, first.details, first.stage)
        assert (ONE, None, "ann", "because") == (first.after, first.before, first.actor, first.reason)
        assert (first, again) == tuple(statements.list_all("net", ONE, kinds=("noted",)))
        assert (first, yes, no, again) == tuple(
            statements.list_all("net", ONE, kinds=("noted", "approved", "withdrawn", "signed"))
        )
        assert (yes, no) == tuple(statements.list_all("net", ONE, kinds=("approved", "withdrawn"), stage="production"))
        assert () == tuple(statements.list_all("net", ONE, kinds=("approved",), stage="staging"))
        assert () == tuple(statements.list_all("net", ONE, kinds=("signed",)))
        assert [first, yes, no, again] == [
            one for one in store.list_changes("net") if one.after == ONE and one.kind != "registered"
        ]

    def test_approvals_move_no_stage(self, store: Store, statements: Statements) -> None:
        """They are in its history, and it points to what it did."""
        statements.state("net", TWO, kind="approved", stage="production", actor="bob")

        assert () == tuple(store.list_stages("net"))
        assert ["approved"] == [one.kind for one in store.list_changes("net", stage="production")]

    def test_details_are_kept_with_a_move(self, store: Store, statements: Statements) -> None:
        """As the objections to a promotion that was forced."""
        moved: dict[str, Any] = {"kind": "promoted", "expected": None, **ANN}
        store.move_stage("net", "production", ONE, details="why not", **moved)
        store.move_stage("net", "production", TWO, **moved)

        assert ["why not", ""] == [one.details for one in store.list_changes("net", stage="production")]

    @pytest.mark.parametrize("taken_back", ["rolled back", "yanked", "removed", "withdrawn", "configured"])
    def test_what_is_taken_back_stops_a_move(self, store: Store, statements: Statements, taken_back: str) -> None:
        """If it was taken back since the line that was seen, and not of another model."""
        publish(store, "1.0.0", model="other")
        ledger = getattr(store, "ledger", None)
        assert ledger is not None  # whoever keeps statements keeps them in a ledger
        moved: dict[str, Any] = {"kind": "promoted", "expected": None, **ANN}
        store.move_stage("net", "staging", ONE, **moved)
        statements.state("net", ONE, kind="approved", stage="production", **ANN)
        before = ledger.read_head()[0]
        store.set_yanked("other", ONE, yanked=True, **ANN)
        store.move_stage("net", "staging", TWO, seen=before, **moved)
        steps: dict[str, Callable[[], object]] = {
            "rolled back": lambda: store.move_stage("net", "staging", ONE, kind="rolled back", expected=TWO, **ANN),
            "yanked": lambda: store.set_yanked("net", ONE, yanked=True, **ANN),
            "removed": lambda: statements.remove("net", ONE, **ANN),
            "withdrawn": lambda: statements.state("net", ONE, kind="withdrawn", stage="production", **ANN),
            "configured": lambda: statements.write_policy("{}", **ANN),
        }
        steps[taken_back]()

        with pytest.raises(StageConflictError, match="meanwhile"):
            store.move_stage("net", "production", TWO, seen=before, **moved)
        assert store.find_staged("net", "production") is None
        store.move_stage("net", "production", TWO, seen=ledger.read_head()[0], **moved)

    def test_tags_are_set_and_taken_off(self, store: Store, statements: Statements) -> None:
        """The others stay, and the history has a line about every change, and none if nothing did."""
        assert {"a": "1", "team/owner": "ünï"} == dict(
            statements.set_tags("net", ONE, {"team/owner": "ünï", "a": "1"}, **ANN)
        )
        assert {"a": "2", "b": ""} == dict(
            statements.set_tags("net", ONE, {"a": "2", "b": "", "team/owner": None, "none": None}, **ANN)
        )
        statements.set_tags("net", ONE, {"a": "2", "none": None}, **ANN)

        assert {"a": "2", "b": ""} == dict(statements.list_tags("net", ONE))
        assert {} == dict(statements.list_tags("net", TWO))
        assert 2 == len(statements.list_all("net", ONE, kinds=("tagged",)))

    def test_wrong_tags_change_nothing(self, store: Store, statements: Statements) -> None:
        """Not even those beside them."""
        for wrong in ({"": "x"}, {"-a": "x"}, {"a b": "x"}, {"a" * 64: "x"}, {"a": "x" * 257}, {"a": "x\ny"}):
            with pytest.raises(InvalidTagError):
                statements.set_tags("net", ONE, {"fine": "yes", **wrong}, **ANN)

        assert {} == dict(statements.list_tags("net", ONE))

    def test_tags_and_notes_of_a_draft_are_stated_with_it(self, store: Store) -> None:
        """As if they were stated at once, by whom it is published."""
        published = publish(store, "1.0.0", model="tagged", tags={"task": "ct"}, notes="First.")
        statements = get_statements(store)

        assert {"task": "ct"} == dict(statements.list_tags("tagged", published.version))
        assert ["registered", "tagged", "noted"] == [one.kind for one in store.list_changes("tagged")]
        (noted,) = statements.list_all("tagged", published.version, kinds=("noted",))
        assert ("First.", "ann") == (noted.details, noted.actor)

    def test_removed_version_stays_removed(self, store: Store, statements: Statements) -> None:
        """It is yanked, for the reason that it was removed for, and can never be had again; twice is once."""
        removed = statements.remove("net", ONE, actor="ann", reason="too old")
        again = statements.remove("net", ONE, actor="bob", reason="again")

        assert removed == again == store.find("net", ONE)
        assert (True, True, "too old") == (removed.removed, removed.yanked, removed.yank_reason)
        with pytest.raises(RemovedVersionError):
            store.set_yanked("net", ONE, yanked=False, actor="ann", reason="")
        assert removed == store.find("net", ONE)
        assert ["removed"] == [one.kind for one in store.list_changes("net") if one.kind != "registered"]

    def test_version_of_a_stage_is_not_removed(self, store: Store, statements: Statements) -> None:
        """Somebody uses it."""
        moved: dict[str, Any] = {"kind": "promoted", "actor": "ann", "reason": "", "expected": None}
        store.move_stage("net", "production", ONE, **moved)

        with pytest.raises(StageConflictError, match="production"):
            statements.remove("net", ONE, **ANN)
        store.move_stage("net", "production", TWO, **moved)
        assert statements.remove("net", ONE, **ANN).removed

    def test_removal_fails_if_anything_happened_since(self, store: Store, statements: Statements) -> None:
        """Whatever it was, it may need the version."""
        ledger = store.ledger  # type: ignore[attr-defined]
        seen = ledger.read_head()[0]
        statements.set_tags("net", TWO, {"keep": ""}, actor="ann")

        with pytest.raises(StageConflictError, match="changed since"):
            statements.remove("net", ONE, **ANN, seen=seen)
        assert statements.remove("net", ONE, **ANN, seen=seen + 1).removed

    def test_policy_is_what_was_configured_last(self, store: Store, statements: Statements) -> None:
        """With *expected*, only who knows what it is can write it anew; no model's history has it."""
        assert "" == statements.read_policy()
        statements.write_policy("one", expected="", **ANN)
        statements.write_policy("two", **ANN)
        with pytest.raises(PolicyConflictError):
            statements.write_policy("three", expected="one", **ANN)
        statements.write_policy("ünï", expected="two", **ANN)

        assert "ünï" == statements.read_policy()
        assert {"registered"} == {one.kind for one in store.list_changes("net")}

    def test_what_is_not_there_is_refused(self, statements: Statements) -> None:
        """Whatever is to be said about it."""
        missing = Version.parse("3.0.0")
        for attempt in (
            lambda name: statements.state(name, missing, kind="noted", details="x", actor="ann"),
            lambda name: statements.list_all(name, missing, kinds=("noted",)),
            lambda name: statements.set_tags(name, missing, {"a": "b"}, actor="ann"),
            lambda name: statements.list_tags(name, missing),
            lambda name: statements.remove(name, missing, actor="ann", reason=""),
        ):
            for name in ("net", "nothing"):
                with pytest.raises(VersionNotFoundError):
                    attempt(name)

    def test_what_cannot_be_kept_is_refused(self, statements: Statements) -> None:
        """Too much, half a character, and what only some databases take."""
        for wrong in ("x" * (LARGEST + 1), "\udcff", "a\0b"):
            with pytest.raises(InvalidMetadataError):
                statements.state("net", ONE, kind="noted", details=wrong, actor="ann")
            with pytest.raises(InvalidMetadataError):
                statements.write_policy(wrong, actor="ann")

        assert () == tuple(statements.list_all("net", ONE, kinds=("noted",)))
        assert "" == statements.read_policy()

    def test_whoever_speaks_at_once_is_heard(self, open_store: Callable[[], Store]) -> None:
        """Nobody's statement and nobody's tag is lost."""
        with_version = open_store()
        publish(with_version, "1.0.0")

        def work(name: str) -> None:
            store = open_store()
            for number in range(5):
                get_statements(store).set_tags("net", ONE, {f"{name}-{number}": name}, actor=name)
                get_statements(store).state("net", ONE, kind="approved", stage="production", actor=name)
            store.close()

        workers = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob", "cat")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        statements = get_statements(with_version)

        assert 15 == len(statements.list_tags("net", ONE))
        assert 15 == len(statements.list_all("net", ONE, kinds=("approved",)))
        with_version.close()


def get_statements(store: Store) -> Statements:
    """Return the statements of *store*."""
    found: Statements | None = getattr(store, "statements", None)
    assert found is not None
    return found
