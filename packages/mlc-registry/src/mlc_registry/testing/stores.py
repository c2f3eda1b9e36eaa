"""What every store of a registry does."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_registry.errors import InvalidNameError, StageConflictError
from mlc_registry.records import Architecture, Origin, Tracking
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version
from mlc_registry.testing.drafts import FILES, make_draft, publish
from mlc_registry.testing.strategies import ranges, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlc_registry.protocols import Store
    from mlc_registry.records import ModelVersion, Stage

__all__ = ["StoreContract"]


class StoreContract:
    """What holds for every `Store`. Subclass it and give the fixture `open_store`.

    `open_store` is a function without arguments that opens one and the same store each time; the place is fresh for
    each test.
    """

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        """Return how to open the store; override this."""
        msg = "give the fixture open_store"
        raise NotImplementedError(msg)

    @pytest.fixture
    def store(self, open_store: Callable[[], Store]) -> Iterator[Store]:
        """Return the store, opened."""
        store = open_store()
        yield store
        store.close()

    # ------------------------------------------------------------------ publishing

    def test_published_version_comes_back_as_it_was(self, store: Store) -> None:
        """Every fact about a version is kept."""
        draft = make_draft("1.2.3-rc.1+b5", metadata={"dice": 0.5, "ünï": ["x", None]}, description="The first.")

        published, is_new = store.publish(draft)

        assert is_new
        assert store.find("net", draft.version) == published
        assert "1.2.3-rc.1+b5" == str(published.version)
        assert ("net", draft.digest, 7) == (published.model, published.digest, published.size)
        assert (draft.directory, draft.entry) == (published.directory, published.entry)
        assert (draft.metadata, "The first.") == (published.metadata, published.description)
        assert ("ann", False, "") == (published.created_by, published.yanked, published.yank_reason)
        assert published.created_at.utcoffset() is not None
        assert FILES == tuple(store.list_files("net", draft.version))

    def test_facts_come_back_as_they_were(self, store: Store) -> None:
        """How it came to be, what it is, what it needs and what it was made from."""
        said = {
            "tracking": Tracking(
                run="exp_7",
                dataset="ct 1.2",
                epoch=0,
                metrics={"dice": 0.1 + 0.2, "loss": 1e-300},
                parameters={"lr": 0.1, "ünï": [None, {"x": True}]},
            ),
            "architecture": Architecture(model_class="medical.networks:UNet", config={"channels": [1, 2]}),
            "dependencies": {"backbone": "^1.2 || 3.x"},
            "parent": Origin(model="net", version=Version.parse("0.1.0-rc.1+b"), digest="sha256:dd"),
        }
        published = publish(store, "1.0.0", **said)

        assert said == {name: getattr(published, name) for name in said}
        assert published == store.find("net", published.version)
        plain = publish(store, "1.1.0")
        assert (Tracking(), None, {}, None, False) == (
            plain.tracking,
            plain.architecture,
            plain.dependencies,
            plain.parent,
            plain.removed,
        )

    def test_publishing_again_changes_nothing(self, store: Store) -> None:
        """The first one stays."""
        first = publish(store, "1.0.0")

        again, is_new = store.publish(make_draft("1.0.0", digest="sha256:other"))

        assert not is_new
        assert again == first == store.find("net", first.version)

    def test_build_metadata_makes_no_other_version(self, store: Store) -> None:
        """1.0.0+a and 1.0.0+b have no order between them, so only one of them can be there."""
        first = publish(store, "1.0.0+a")

        again, is_new = store.publish(make_draft("1.0.0+b"))

        assert not is_new
        assert "1.0.0+a" == str(again.version)
        assert (first,) == tuple(store.list_versions("net"))

    def test_names_that_differ_in_case_only_are_refused(self, store: Store) -> None:
        """Some file systems would put both models into one directory."""
        publish(store, "1.0.0", model="ResNet")

        with pytest.raises(InvalidNameError, match="ResNet"):
            store.publish(make_draft("1.0.0", model="resnet"))

        assert ["ResNet"] == [one.name for one in store.list_models()]
        assert store.find("resnet", Version.parse("1.0.0")) is None

    def test_publishers_at_once_do_not_lose_each_other(self, open_store: Callable[[], Store]) -> None:
        """Of all who publish one version at once exactly one is new, and everybody's own versions are there."""
        numbers = [Version(0, number, patch) for number in range(3) for patch in range(4)]
        outcomes: list[tuple[Version, bool]] = []

        def work() -> None:
            store = open_store()
            for number in numbers:
                _, is_new = store.publish(make_draft(str(number)))
                outcomes.append((number, is_new))
            store.close()

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        store = open_store()
        found = store.list_versions("net")
        store.close()

        assert sorted(numbers) == sorted(number for number, is_new in outcomes if is_new)
        assert sorted(numbers, reverse=True) == [one.version for one in found]

    # ------------------------------------------------------------------ finding

    def test_highest_is_the_highest_in_range(self, store: Store) -> None:
        """For whatever versions and ranges: the store finds what comparing version by version finds."""
        names = (f"net-{number}" for number in itertools.count())

        @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(published=st.sets(versions(), min_size=1, max_size=8), yanked=st.data(), text=ranges())
        def check(published: set[Version], yanked: st.DataObject, text: str) -> None:
            name = next(names)
            gone = yanked.draw(st.sets(st.sampled_from(sorted(published))))
            for number in published:
                publish(store, str(number), model=name)
            for number in gone:
                store.set_yanked(name, number, yanked=True, actor="ann", reason="bad")
            for include in (False, True):
                wanted = Range.parse(text, include_prereleases=include)
                for is_yanked, among in ((False, published - gone), (True, gone)):
                    found = store.highest(name, wanted.intervals, yanked=is_yanked)

                    expected = max((one for one in among if one in wanted), default=None)
                    assert expected == (found and found.version)

        check()

    def test_versions_are_listed_downwards(self, store: Store) -> None:
        """By precedence, not by text or time, yanked ones too; a limit takes the highest."""
        for text in ("1.9.0", "1.10.0", "1.0.0-rc.1", "1.0.0"):
            publish(store, text)
        store.set_yanked("net", Version.parse("1.9.0"), yanked=True, actor="ann", reason="")

        assert ["1.10.0", "1.9.0", "1.0.0", "1.0.0-rc.1"] == [str(one.version) for one in store.list_versions("net")]
        assert ["1.10.0"] == [str(one.version) for one in store.list_versions("net", limit=1)]

    def test_versions_are_listed_from_any_of_them(self, store: Store) -> None:
        """Page after page; what they are listed below need not be there."""
        texts = ["1.10.0", "1.9.0", "1.0.0", "1.0.0-rc.1"]
        for text in reversed(texts):
            publish(store, text)
        listed = [
            [str(one.version) for one in store.list_versions("net", limit=2, below=Version.parse(text))]
            for text in texts
        ]

        assert [["1.9.0", "1.0.0"], ["1.0.0", "1.0.0-rc.1"], ["1.0.0-rc.1"], []] == listed
        assert 4 == len(store.list_versions("net", below=Version.parse("2.0.0-a")))

    def test_digest_finds_the_highest_that_has_it(self, store: Store) -> None:
        """Of one model; what is yanked only if nothing else has it."""
        for text, digest, model in (
            ("1.9.0", "a", "net"),
            ("1.10.0", "a", "net"),
            ("2.0.0", "b", "net"),
            ("3.0.0", "a", "cat"),
        ):
            publish(store, text, digest=f"sha256:{digest * 64}", model=model)
        assert "1.10.0" == _text(store.find_digest("net", f"sha256:{'a' * 64}"))
        store.set_yanked("net", Version.parse("1.10.0"), yanked=True, actor="ann", reason="")
        store.set_yanked("net", Version.parse("2.0.0"), yanked=True, actor="ann", reason="")

        assert "1.9.0" == _text(store.find_digest("net", f"sha256:{'a' * 64}"))
        assert "2.0.0" == _text(store.find_digest("net", f"sha256:{'b' * 64}"))
        assert store.find_digest("net", f"sha256:{'a' * 63}") is None
        assert store.find_digest("dog", f"sha256:{'a' * 64}") is None

    def test_newest_is_what_was_published_last(self, store: Store) -> None:
        """Whatever its number, pre-release or not, unless it is yanked."""
        for text in ("2.0.0", "1.0.0", "1.0.1-rc.1"):
            publish(store, text)

        assert "1.0.1-rc.1" == _text(store.newest("net"))
        store.set_yanked("net", Version.parse("1.0.1-rc.1"), yanked=True, actor="ann", reason="")
        assert "1.0.0" == _text(store.newest("net"))

    def test_models_are_listed_by_name(self, store: Store) -> None:
        """With the number of their versions, the highest release and the newest."""
        for model, text in (("net", "1.0.0"), ("net", "2.0.0-rc.1"), ("cat", "0.1.0-a")):
            publish(store, text, model=model)
        found = [(one.name, one.versions, _shown(one.latest), _shown(one.newest)) for one in store.list_models()]

        assert [("cat", 1, None, "0.1.0-a"), ("net", 2, "1.0.0", "2.0.0-rc.1")] == found

    def test_unknown_model_has_nothing(self, store: Store) -> None:
        """A model that is not there is empty in every respect, and asking does not make it."""
        number = Version.parse("1.0.0")

        assert store.find("net", number) is None
        assert store.highest("net", Range.parse("*").intervals) is None
        assert store.newest("net") is None
        assert store.find_staged("net", "production") is None
        assert store.set_yanked("net", number, yanked=True, actor="ann", reason="") is None
        listed = (
            store.list_versions("net"),
            store.list_files("net", number),
            store.list_stages("net"),
            store.list_changes("net"),
            store.list_models(),
        )
        assert [()] * 5 == [tuple(one) for one in listed]

    def test_what_one_commits_another_sees_at_once(self, open_store: Callable[[], Store]) -> None:
        """No answer is remembered."""
        one, other = open_store(), open_store()
        everything = Range.parse("*").intervals

        assert other.highest("net", everything) is None
        publish(one, "1.0.0")
        assert "1.0.0" == _text(other.highest("net", everything))
        publish(other, "1.1.0")
        assert "1.1.0" == _text(one.highest("net", everything))
        one.set_yanked("net", Version.parse("1.1.0"), yanked=True, actor="ann", reason="")
        assert "1.0.0" == _text(other.highest("net", everything))
        one.close()
        other.close()

    def test_closing_twice_is_closing_once(self, open_store: Callable[[], Store]) -> None:
        """And what was published is there when it is opened again."""
        store = open_store()
        published = publish(store, "1.0.0")
        store.close()
        store.close()
        again = open_store()

        assert again.find("net", published.version) == published
        again.close()

    # ------------------------------------------------------------------ yanking and stages

    def test_yanking_is_kept_with_its_reason(self, store: Store) -> None:
        """And undone without a trace on the version, but in the history; marking twice for one reason is once."""
        published = publish(store, "1.0.0")
        number = published.version

        yanked = store.set_yanked("net", number, yanked=True, actor="bob", reason="bad labels")
        store.set_yanked("net", number, yanked=True, actor="cat", reason="bad labels")
        assert store.find("net", number) == yanked
        assert yanked is not None
        assert (True, "bad labels") == (yanked.yanked, yanked.yank_reason)
        worse = store.set_yanked("net", number, yanked=True, actor="cat", reason="worse")
        assert worse is not None
        assert (True, "worse") == (worse.yanked, worse.yank_reason)

        assert published == store.set_yanked("net", number, yanked=False, actor="bob", reason="good after all")
        assert [(one.kind, one.actor, one.reason) for one in store.list_changes("net")] == [
            ("registered", "ann", ""),
            ("yanked", "bob", "bad labels"),
            ("yanked", "cat", "worse"),
            ("unyanked", "bob", "good after all"),
        ]

    def test_stage_moves_and_remembers(self, store: Store) -> None:
        """A stage points to one version; its history says who moved it, why, from where and to where."""
        one, two = publish(store, "1.0.0").version, publish(store, "2.0.0").version

        before, after = _move(store, one, reason="first")
        assert before is None
        assert ("net", "production", one, "ann") == (after.model, after.name, after.version, after.actor)
        assert after == _move(store, two)[0]
        assert "2.0.0" == _text(store.find_staged("net", "production"))
        _move(store, one, kind="rolled back")
        assert [("production", one)] == [(each.name, each.version) for each in store.list_stages("net")]
        changes = store.list_changes("net", stage="production")
        assert [(each.kind, each.before, each.after) for each in changes] == [
            ("promoted", None, one),
            ("promoted", one, two),
            ("rolled back", two, one),
        ]
        assert ("first", "production", "net") == (changes[0].reason, changes[0].stage, changes[0].model)
        assert 5 == len(store.list_changes("net"))

    def test_stage_moves_only_from_what_was_expected(self, store: Store) -> None:
        """Who is second is told what the stage points to, and nothing changes."""
        one, two = publish(store, "1.0.0").version, publish(store, "2.0.0").version

        with pytest.raises(StageConflictError, match=r"1\.0\.0"):
            _move(store, two, expected=one)
        assert () == tuple(store.list_stages("net"))
        _move(store, one, expected="unset")
        with pytest.raises(StageConflictError, match=r"points to 1\.0\.0"):
            _move(store, two, expected="unset")
        with pytest.raises(StageConflictError, match=r"points to 1\.0\.0"):
            _move(store, two, expected=two)
        _move(store, two, expected=one)
        assert [one, two] == [each.after for each in store.list_changes("net", stage="production")]

    def test_demoted_stage_points_to_nothing(self, store: Store) -> None:
        """Its history keeps what it was, and it can be moved again as one that never was; nothing is demoted twice."""
        one = publish(store, "1.0.0").version
        demote = partial(store.move_stage, "net", "production", None, kind="demoted", actor="bob", reason="over")
        with pytest.raises(StageConflictError, match="nothing"):
            demote(expected=None)
        _, there = _move(store, one)
        with pytest.raises(StageConflictError, match=r"points to 1\.0\.0"):
            demote(expected=Version.parse("2.0.0"))

        assert (there, None) == demote(expected=one)
        assert store.find_staged("net", "production") is None
        assert () == tuple(store.list_stages("net"))
        last = store.list_changes("net", stage="production")[-1]
        assert ("demoted", one, one, "bob", "over") == (last.kind, last.before, last.after, last.actor, last.reason)
        assert one == _move(store, one, expected="unset")[1].version

    # ------------------------------------------------------------------ pages

    def test_models_and_changes_come_in_pages(self, store: Store) -> None:
        """Page behind page is the whole list; what a page is asked for behind need not be there."""
        for model in ("B", "a", "a-b", "a.b", "c"):
            publish(store, "1.0.0", model=model)
        for text in ("1.1.0", "1.2.0"):
            _move(store, publish(store, text).version)
        models = [one.name for one in store.list_models()]
        changes = store.list_changes("net")

        assert sorted(models) == models
        assert models[2:4] == [one.name for one in store.list_models(limit=2, after=models[1])]
        assert ["c", "net"] == [one.name for one in store.list_models(after="b")]
        assert sorted(one.number for one in changes) == [one.number for one in changes]
        assert list(changes[1:3]) == list(store.list_changes("net", limit=2, after=changes[0].number))
        moves = store.list_changes("net", stage="production")
        assert list(moves[1:]) == list(store.list_changes("net", stage="production", after=moves[0].number))


def _move(
    store: Store,
    version: Version,
    *,
    kind: Literal["promoted", "rolled back"] = "promoted",
    reason: str = "",
    expected: Version | Literal["unset"] | None = None,
) -> tuple[Stage | None, Stage]:
    before, after = store.move_stage(
        "net", "production", version, kind=kind, actor="ann", reason=reason, expected=expected
    )
    assert after is not None
    return before, after


def _text(found: ModelVersion | None) -> str | None:
    return None if found is None else str(found.version)


def _shown(version: Version | None) -> str | None:
    return None if version is None else str(version)
