"""The search for versions that fit together agrees with trying everything."""

import itertools
import re
from datetime import datetime, timezone

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry.dependencies.conflicts import explain_conflict
from mlc_registry.dependencies.resolving import ImpossibleError, Wish, overlap, solve
from mlc_registry.records import ModelVersion
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version
from mlc_registry.testing import ranges, versions

NAMES = ("a", "b", "c", "d")
NUMBERS = ("1.0.0", "1.1.0", "1.2.0-rc.1", "2.0.0")
TEXTS = st.sampled_from(["*", "^1", "1.0.0", "~1.1", ">=1.1", "<2", "2.x", "1.0.0 || 2.x", "^1.2.0-rc.1", "1.2.0-rc.1"])


NEED = re.compile(r"  (?:(\w) (\S+) needs|asked for is) (\w) (.+) \((?:(\S+) is the highest|which is there|.*in.*)\)")


@attrs.frozen
class Universe:
    """Versions of models in a dictionary."""

    published: dict

    def find(self, model, version):
        """Return it, yanked or not."""
        return self.published.get((model, version))

    def highest(self, model, intervals, *, yanked=False):
        """Return the highest that is not yanked, or that is."""
        found = [
            one
            for (name, version), one in self.published.items()
            if name == model and one.yanked == yanked and any(version in each for each in intervals)
        ]
        return max(found, key=lambda one: one.version, default=None)

    def list(self, model):
        """Return all of a model."""
        return [one for (name, _), one in self.published.items() if name == model]


def make(model, version, dependencies=(), *, yanked=False):
    """Return a version that was published."""
    return ModelVersion(
        model=model,
        version=Version.parse(version),
        digest=f"sha256:{model}{version}",
        size=1,
        directory=f"{model}/{version}",
        entry="",
        metadata={},
        description="",
        created_at=datetime.fromtimestamp(0, timezone.utc),
        created_by="",
        yanked=yanked,
        dependencies=dict(dependencies),
    )


def make_universe(*published):
    return Universe({(one.model, one.version): one for one in published})


@st.composite
def universes(draw):
    """Draw up to four models with up to four versions each that depend on each other in any way, circles too."""
    found = []
    for name in NAMES[: draw(st.integers(1, 4))]:
        others = [one for one in NAMES if one != name]
        for number in draw(st.lists(st.sampled_from(NUMBERS), min_size=1, unique=True)):
            wanted = draw(st.dictionaries(st.sampled_from(others), TEXTS, max_size=2))
            found.append(make(name, number, wanted, yanked=draw(st.integers(0, 7)) == 0))
    return make_universe(*found)


WISHES = st.dictionaries(st.sampled_from(NAMES), TEXTS, min_size=1, max_size=3)


def fits(choice, wishes, *, include=False, kept=()):
    """Say whether *choice*, a dictionary, holds what everybody asks for."""
    asked = [*wishes.items(), *(pair for one in choice.values() for pair in one.dependencies.items())]
    exact = {(name, Range.parse(text).exact) for name, text in wishes.items()} | set(kept)
    for name, text in asked:
        wanted = Range.parse(text, include_prereleases=include)
        found = choice.get(name)
        if found is None or found.version not in wanted:
            return False
        if found.yanked and wanted.exact is None and (name, found.version) not in exact:
            return False
    return True


def brute_force(universe, wishes, *, include=False):
    """Return whether any choice of versions fits."""
    choices = [[None, *universe.list(name)] for name in NAMES]
    combined = ({one.model: one for one in each if one is not None} for each in itertools.product(*choices))
    return any(fits(choice, wishes, include=include) for choice in combined)


def ask(wishes, *, include=False):
    return [Wish(name, text, Range.parse(text, include_prereleases=include)) for name, text in wishes.items()]


@given(universe=universes(), wishes=WISHES, include=st.booleans())
def test_finds_a_choice_exactly_if_there_is_one(universe, wishes, include):
    """And it satisfies every range, holds nothing that is not needed, and is the same each time."""
    asked = ask(wishes, include=include)
    if not brute_force(universe, wishes, include=include):
        with pytest.raises(ImpossibleError):
            solve(universe, asked, include_prereleases=include)
        return
    found = solve(universe, asked, include_prereleases=include)

    assert fits(found.chosen, wishes, include=include)
    assert all(one.version in wish.range for name, one in found.chosen.items() for wish in found.wishes[name])
    assert set(found.chosen) == set(found.wishes)
    for name, wishes_of in found.wishes.items():
        assert all(wish.by == "" or wish.by_model in found.chosen for wish in wishes_of), name
    assert found == solve(universe, asked, include_prereleases=include)


@given(universe=universes(), wishes=WISHES)
def test_what_was_chosen_stays_if_it_is_preferred(universe, wishes):
    """So that an update of one model leaves the others where they are."""
    if not brute_force(universe, wishes):
        return
    found = solve(universe, ask(wishes)).chosen
    for name in found:
        kept = {other: one.version for other, one in found.items() if other != name}
        again = solve(universe, ask(wishes), preferred=kept).chosen
        assert fits(again, wishes, kept=kept.items())
        if name in wishes and not found[name].dependencies:
            assert found == again


@given(universe=universes(), wishes=WISHES)
def test_explanations_are_true(universe, wishes):
    """Who needs what, that no version suits them, and that the way out is one."""
    asked = ask(wishes)
    try:
        solve(universe, asked)
    except ImpossibleError as error:
        lines = explain_conflict(universe, asked, error).splitlines()
    else:
        return
    needs = {}
    for line in lines[1:-1]:
        if found := NEED.fullmatch(line):
            asker, version, model, text, best = found.groups()
            if asker is None:
                assert text == wishes[model]
            else:
                assert text == universe.find(asker, Version.parse(version)).dependencies[model]
            if best is not None:
                assert Version.parse(best) in Range.parse(text)
            needs.setdefault(model, []).append(Range.parse(text))
        else:
            model = re.match(r"  no version of (\w) is in ", line)[1]
            assert len(needs[model]) > 1
            usable = [one for one in universe.list(model) if all(one.version in each for each in needs[model])]
            assert all(one.yanked for one in usable)
    assert needs
    way = re.search(r"ask for (\w)@(\S+)$", lines[-1])
    if way is not None:
        assert solve(universe, ask({**wishes, way[1]: way[2]}))
    elif "--pre" in lines[-1]:
        assert solve(universe, ask(wishes, include=True), include_prereleases=True)


@given(texts=st.lists(ranges(), min_size=1, max_size=3), version=versions())
def test_overlap_is_what_is_in_all_ranges(texts, version):
    """By intervals as one by one."""
    wanted = [Range.parse(text) for text in texts]

    assert all(version in one for one in wanted) == any(version in one for one in overlap(wanted))


@given(universe=universes(), name=st.sampled_from(NAMES), text=TEXTS)
def test_one_model_gets_what_it_would_get_alone(universe, name, text):
    """With nothing to depend on, the highest that is in the range."""
    bare = Universe({key: attrs.evolve(one, dependencies={}) for key, one in universe.published.items()})
    wanted = Range.parse(text)
    expected = bare.find(name, wanted.exact) if wanted.exact else bare.highest(name, wanted.intervals)
    if expected is None:
        with pytest.raises(ImpossibleError):
            solve(bare, ask({name: text}))
    else:
        assert {name: expected} == solve(bare, ask({name: text})).chosen


def test_candidates_are_looked_for_one_at_a_time():
    """A model with very many versions costs as many questions as are needed to decide."""
    published = [make("a", f"1.{number}.0") for number in range(500)]
    asked = []

    class Counting(Universe):
        def highest(self, model, intervals, *, yanked=False):
            asked.append(model)
            return super().highest(model, intervals)

    counting = Counting(make_universe(*published).published)

    assert "1.499.0" == str(solve(counting, ask({"a": "^1"})).chosen["a"].version)
    assert 1 == len(asked)


def test_a_circle_is_a_choice_like_any_other():
    """Two models that need each other, at the versions that fit."""
    universe = make_universe(
        make("a", "1.0.0", {"b": "^1"}), make("a", "2.0.0", {"b": "^2"}), make("b", "1.0.0", {"a": "^1"})
    )
    found = solve(universe, ask({"a": "*"}))

    assert {"a": "1.0.0", "b": "1.0.0"} == {name: str(one.version) for name, one in found.chosen.items()}
    assert ("", "b 1.0.0") == tuple(one.by for one in found.wishes["a"])
