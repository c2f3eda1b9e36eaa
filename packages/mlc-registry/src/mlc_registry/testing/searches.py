"""What every store does that answers searches: it finds what comparing version by version finds."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_registry.errors import InvalidQueryError
from mlc_registry.records import Query, Tracking
from mlc_registry.testing.drafts import make_draft, publish
from mlc_registry.testing.statements import get_statements
from mlc_registry.words import split_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_registry.protocols import Searches, Store
    from mlc_registry.records import ModelVersion

__all__ = ["SearchesContract", "queries"]

NAMES = ("net", "brain-tissue", "Brain_2")
WORDS = ("brain", "bra", "tissue", "Ünï", "STRASSE", "straße", "x")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=3).map(", ".join)
NUMBERS = (-1.5, 0.0, 0.1, 0.9, 1e300)
MARKS = ("", "ct 1.2", "CT 1.2")
SIGNS = {"<": operator.lt, "<=": operator.le, "==": operator.eq, ">=": operator.ge, ">": operator.gt}
TRACKINGS = st.builds(
    Tracking,
    run=st.sampled_from(MARKS),
    dataset=st.sampled_from(MARKS),
    commit=st.sampled_from(MARKS),
    checkpoint=st.sampled_from(MARKS),
    metrics=st.dictionaries(st.sampled_from(("dice", "val/loss")), st.sampled_from(NUMBERS)),
)
TAGS = st.dictionaries(st.sampled_from(("task", "team/owner")), st.sampled_from(("ct", "Brain", "")))
STAGES = ("staging", "production")
SAID = st.fixed_dictionaries(
    {"model": st.sampled_from(NAMES), "description": TEXTS, "tracking": TRACKINGS, "tags": TAGS, "notes": TEXTS}
)


def queries() -> st.SearchStrategy[Query]:
    """Draw queries, most of them with few conditions."""
    some = st.sampled_from((None, None, None, *MARKS[1:]))
    return st.builds(
        Query,
        model=st.sampled_from((None, None, None, *NAMES, "none")),
        tags=st.just({}) | st.dictionaries(st.sampled_from(("task", "team/owner")), st.none() | st.just("ct")),
        stage=st.sampled_from((None, None, None, *STAGES)),
        metrics=st.lists(
            st.tuples(st.sampled_from(("dice", "val/loss")), st.sampled_from(sorted(SIGNS)), st.sampled_from(NUMBERS)),
            max_size=2,
        ),
        dataset=some,
        run=some,
        commit=some,
        checkpoint=some,
        words=st.lists(st.sampled_from(("brain", "br", "b", "tissue", "unet", "üni", "strasse", "ct")), max_size=2),
        yanked=st.booleans(),
    )


@attrs.define
class _Known:
    """What was said about one version."""

    published: ModelVersion
    tags: Mapping[str, str]
    notes: str
    stages: tuple[str, ...] = ()

    def meets(self, query: Query) -> bool:
        """Compare one condition after the other."""
        tracking = self.published.tracking
        said = (self.published.model, self.published.description, tracking.dataset, self.notes)
        words = split_words(*said, *self.tags, *self.tags.values())
        return (
            query.model in {None, self.published.model}
            and all(key in self.tags and value in {None, self.tags[key]} for key, value in query.tags.items())
            and (query.stage is None or query.stage in self.stages)
            and all(
                name in tracking.metrics and SIGNS[sign](tracking.metrics[name], value)
                for name, sign, value in query.metrics
            )
            and all(
                getattr(query, one) in {None, getattr(tracking, one)}
                for one in ("dataset", "run", "commit", "checkpoint")
            )
            and all(one in words for one in query.words[:-1])
            and all(any(word.startswith(one) for word in words) for one in query.words[-1:])
            and (query.yanked or not self.published.yanked)
        )


@attrs.frozen
class _Change:
    """Something that happens to a version after it was published."""

    which: int
    task: str | None
    notes: str
    yanked: bool
    stage: str | None

    def make(self, store: Store, known: list[_Known]) -> None:
        """Let it happen, and note it."""
        one = known[self.which % len(known)]
        model, version = one.published.model, one.published.version
        actor: dict[str, Any] = {"actor": "ann", "reason": ""}
        one.tags = get_statements(store).set_tags(model, version, {"task": self.task}, **actor)
        one.notes = get_statements(store).state(model, version, kind="noted", details=self.notes, **actor).details
        changed = store.set_yanked(model, version, yanked=self.yanked, **actor)
        assert changed is not None
        one.published = changed
        if self.stage is not None:
            store.move_stage(model, self.stage, version, kind="promoted", expected=None, **actor)
            for each in known:
                if each.published.model == model:
                    each.stages = tuple(name for name in each.stages if name != self.stage)
            one.stages = (*one.stages, self.stage)


CHANGES = st.builds(
    _Change,
    st.integers(0, 1000),
    st.sampled_from((None, "ct", "x")),
    TEXTS,
    st.booleans(),
    st.sampled_from((None, *STAGES)),
)


class SearchesContract:
    """What holds for the `Searches` of a `Store` with `Statements`. Subclass it beside `StoreContract`."""

    def test_searches_find_what_comparing_finds(self, store: Store) -> None:
        """Whatever was published, tagged, noted, yanked and promoted, and however much of it a page holds."""
        numbers = itertools.count(1)
        known: list[_Known] = []

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            said=st.lists(SAID, max_size=2),
            changes=st.lists(CHANGES, max_size=2),
            asked=st.lists(queries(), min_size=2, max_size=4),
            limit=st.sampled_from((1, 2, 50)),
        )
        def check(said: list[Any], changes: list[_Change], asked: list[Query], limit: int) -> None:
            for one in said:
                published = publish(store, f"{next(numbers)}.0.0", **one)
                known.append(_Known(published, one["tags"], one["notes"]))
            for change in changes if known else ():
                change.make(store, known)
            for query in asked:
                expected = [one.published for one in reversed(known) if one.meets(query)]
                assert expected == _search(_get_searches(store), query, limit)

        check()

    def test_pages_go_on_where_they_ended(self, store: Store) -> None:
        """What is published meanwhile is before the first page; what is yanked meanwhile is gone."""
        for number in range(5):
            publish(store, f"1.{number}.0")
        searches = _get_searches(store)
        first = searches.search(Query(), limit=2)
        publish(store, "2.0.0")
        store.set_yanked("net", first.versions[0].version.parse("1.1.0"), yanked=True, actor="ann", reason="")
        second = searches.search(Query(), limit=2, after=first.next)

        assert ["1.4.0", "1.3.0"] == [str(one.version) for one in first.versions]
        assert ["1.2.0", "1.0.0"] == [str(one.version) for one in second.versions]
        assert second.next is None
        assert [] == [*searches.search(Query(model="cat")).versions]

    def test_what_is_no_page_is_refused(self, store: Store) -> None:
        """Even if it looks like one."""
        publish(store, "1.0.0")
        publish(store, "1.1.0")
        searches = _get_searches(store)
        token = searches.search(Query(), limit=1).next

        assert token is not None
        for wrong in ("", "x", "1", f"{token}0", token[:-1], token.upper() + " ", "🙂", "9" * 100):
            with pytest.raises(InvalidQueryError, match="no page"):
                searches.search(Query(), after=wrong)

    def test_dependents_are_the_versions_that_are_there(self, store: Store) -> None:
        """By model, the highest first, yanked ones too; removed ones depend on nothing."""
        for text, model in (("1.0.0", "seg"), ("1.10.0", "seg"), ("1.9.0", "seg"), ("0.1.0", "cls"), ("0.2.0", "cls")):
            store.publish(make_draft(text, model=model, dependencies={"backbone": "^1", "other": "*"}))
        publish(store, "1.0.0", model="backbone")
        number = make_draft("0.2.0").version
        get_statements(store).remove("cls", number, actor="ann", reason="")
        store.set_yanked("seg", make_draft("1.9.0").version, yanked=True, actor="ann", reason="")

        found = _get_searches(store).list_dependents("backbone")
        assert ["cls 0.1.0", "seg 1.10.0", "seg 1.9.0", "seg 1.0.0"] == [f"{one.model} {one.version}" for one in found]
        assert {"backbone": "^1", "other": "*"} == dict(found[0].dependencies)
        assert () == tuple(_get_searches(store).list_dependents("seg"))


def _search(searches: Searches, query: Query, limit: int) -> list[ModelVersion]:
    page = searches.search(query, limit=limit)
    found = list(page.versions)
    while page.next is not None:
        assert len(page.versions) == limit
        page = searches.search(query, limit=limit, after=page.next)
        found += page.versions
    return found


def _get_searches(store: Store) -> Searches:
    found: Searches | None = getattr(store, "searches", None)
    assert found is not None
    return found
