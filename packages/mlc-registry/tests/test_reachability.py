"""What may be removed, against a search through everything that is needed."""

from datetime import datetime, timedelta, timezone

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry.dependencies.locks import Lock, Locked
from mlc_registry.dependencies.resolving import ImpossibleError, Wish, solve
from mlc_registry.records import ModelVersion, Origin
from mlc_registry.retention.reachability import Facts, RetentionRule, plan_retention
from mlc_registry.semver.ranges import Range
from mlc_registry.semver.versions import Version

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
NAMES = ("a", "b", "c")
NUMBERS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1", "2.0.0", "2.1.0")
TEXTS = st.sampled_from(["*", "^1", "1.0.0", "~1.1", ">=1.1", "<2", "2.x", "1.0.0 || 2.x", "^2.0.0-rc.1"])


def make(model, version, dependencies=(), *, age=100, yanked=False, parent=None):
    """Return a version that was published so many days ago."""
    return ModelVersion(
        model=model,
        version=Version.parse(version),
        digest=f"sha256:{model}{version}",
        size=10,
        directory=f"{model}/{version}",
        entry="",
        metadata={},
        description="",
        created_at=NOW - timedelta(days=age),
        created_by="",
        yanked=yanked,
        dependencies=dict(dependencies),
        parent=parent,
    )


def make_facts(*published, **others):
    """Return facts of what was *published*, in that order."""
    versions, newest = {}, {}
    for one in published:
        versions.setdefault(one.model, []).append(one)
        if not one.yanked:
            newest[one.model] = one.version
    for listed in versions.values():
        listed.sort(key=lambda one: one.version, reverse=True)
    return Facts(versions=versions, newest=newest, **others)


@st.composite
def worlds(draw):
    """Draw facts: some models with versions of any age that depend on each other, stages, tags and lock files."""
    published = []
    for name in NAMES[: draw(st.integers(1, 3))]:
        others = [one for one in NAMES if one != name]
        for number in draw(st.lists(st.sampled_from(NUMBERS), min_size=1, unique=True)):
            wanted = draw(st.dictionaries(st.sampled_from(others), TEXTS, max_size=1))
            earlier = draw(st.sampled_from([None, None, *published]))
            origin = earlier and Origin(model=earlier.model, version=earlier.version, digest=earlier.digest)
            yanked, age = draw(st.integers(0, 5)) == 0, draw(st.sampled_from([1, 100, 100, 100]))
            published.append(make(name, number, wanted, age=age, yanked=yanked, parent=origin))
    some = st.lists(st.sampled_from(published), max_size=1)
    locked = {one.model: Locked(version=one.version, digest=one.digest, required={"": "*"}) for one in draw(some)}
    return make_facts(
        *published,
        staged=[(one.model, one.version, "stage production") for one in draw(some)],
        tagged=[(one.model, one.version, "tagged keep") for one in draw(some)],
        locks={"mlc.lock": Lock(registry="", requirements={}, models=locked)},
    )


RULES = st.builds(
    RetentionRule,
    keep_releases=st.integers(0, 2),
    keep_prereleases=st.integers(0, 1),
    min_age=st.sampled_from([timedelta(0), timedelta(days=30)]),
    keep_parents=st.booleans(),
)


def everything(facts):
    return [one for listed in facts.versions.values() for one in listed]


def without(facts, gone):
    """Return *facts* as they are once what is *gone* was removed."""
    numbers = {(one.model, one.version) for one in gone}
    versions = {
        name: [one for one in listed if (name, one.version) not in numbers] for name, listed in facts.versions.items()
    }
    return attrs.evolve(facts, versions=versions)


def is_chosen(facts, asker, found):
    wish = Wish(asker.model, "", Range.parse(str(asker.version)))
    try:
        return solve(facts, [wish]).chosen.get(found.model) == found
    except ImpossibleError:
        return False


@given(facts=worlds(), rule=RULES)
def test_nothing_that_is_needed_is_removed(facts, rule):
    """Each rule of what stays, said once more and apart from the others."""
    plan = plan_retention(facts, rule, now=NOW)
    gone = {(one.model, one.version) for one in plan.removed}
    kept = [one.published for one in plan.kept]

    assert len(everything(facts)) == len(gone) + len(kept)
    for model, version, _ in (*facts.staged, *facts.tagged):
        assert (model, version) not in gone
    for name, locked in facts.locks["mlc.lock"].models.items():
        assert (name, locked.version) not in gone
    for name, listed in facts.versions.items():
        usable = [one.version for one in listed if not one.yanked]
        releases = [one for one in usable if not one.is_prerelease]
        assert not releases or (name, max(releases)) not in gone
        assert (name, facts.newest.get(name)) not in gone
        for major in (1, 2):
            of_major = sorted(one for one in releases if one.major == major)
            assert gone.isdisjoint((name, one) for one in of_major[len(of_major) - rule.keep_releases :])
    assert all(NOW - one.created_at >= rule.min_age for one in plan.removed)
    for one in kept:
        if rule.keep_parents and one.parent:
            assert (one.parent.model, one.parent.version) not in gone
        for name, text in one.dependencies.items():
            wanted = Range.parse(text)
            best = facts.find(name, wanted.exact) if wanted.exact else facts.highest(name, wanted.intervals)
            assert best is None or (name, best.version) not in gone


@given(facts=worlds(), rule=RULES)
def test_what_stays_works_as_before(facts, rule):
    """Each version that stays resolves to the same versions as before."""
    plan = plan_retention(facts, rule, now=NOW)
    left = without(facts, plan.removed)
    for one in plan.kept:
        asked = [Wish(one.published.model, "", Range.parse(str(one.published.version)))]
        try:
            before = solve(facts, asked).chosen
        except ImpossibleError:
            continue
        assert before == solve(left, asked).chosen


@given(facts=worlds(), rule=RULES)
def test_there_is_nothing_left_to_do_afterwards(facts, rule):
    """A second plan is empty, and keeps everything for reasons of its own."""
    plan = plan_retention(facts, rule, now=NOW)
    again = plan_retention(without(facts, plan.removed), rule, now=NOW)

    assert () == again.removed
    assert [one.published for one in plan.kept] == [one.published for one in again.kept]


@given(facts=worlds(), rule=RULES)
def test_every_reason_is_true(facts, rule):
    """What is said of each version that stays holds, and all of it is said."""
    plan = plan_retention(facts, rule, now=NOW)
    kept = {f"{one.published.model} {one.published.version}": one.published for one in plan.kept}
    for one in plan.kept:
        found = one.published
        assert one.reasons
        assert len(set(one.reasons)) == len(one.reasons)
        for why in one.reasons:
            asker = kept.get(" ".join(why.split(" ")[:2]))
            if asker is None:
                continue
            if why.endswith("resolves to it"):
                assert is_chosen(facts, asker, found)
            elif why.endswith("was made from it"):
                assert (found.model, found.version) == (asker.parent.model, asker.parent.version)
            else:
                assert found.version in Range.parse(asker.dependencies[found.model])
                assert why.endswith(f"needs {asker.dependencies[found.model]}")
        assert ("stage production" in one.reasons) == any(
            (found.model, found.version) == pair[:2] for pair in facts.staged
        )


def test_reasons_are_all_named():
    """An example, from a stage to what it was made from."""
    base = make("encoder", "1.0.0")
    facts = make_facts(
        base,
        make("encoder", "1.1.0"),
        make("encoder", "1.2.0", parent=Origin(model="encoder", version=base.version, digest=base.digest)),
        make("encoder", "2.0.0", age=3),
        make("app", "1.0.0", {"encoder": "^1"}),
        staged=[("app", Version.parse("1.0.0"), "stage production")],
    )
    plan = plan_retention(facts, RetentionRule(keep_releases=0, min_age=timedelta(days=7)), now=NOW)

    assert ["encoder 1.1.0"] == [f"{one.model} {one.version}" for one in plan.removed]
    assert 10 == plan.size
    assert {
        "app 1.0.0": ("stage production", "latest", "newest"),
        "encoder 2.0.0": ("latest", "newest", "younger than 7 days"),
        "encoder 1.2.0": ("app 1.0.0 needs ^1", "app 1.0.0 resolves to it"),
        "encoder 1.0.0": ("encoder 1.2.0 was made from it",),
    } == {f"{one.published.model} {one.published.version}": one.reasons for one in plan.kept}


def test_what_suits_all_stays():
    """Two that each like something higher can still be had together."""
    facts = make_facts(
        *[make("c", number) for number in ("1.0.0", "1.1.0", "2.0.0", "2.1.0", "3.0.0")],
        make("a", "1.0.0", {"c": "~1.0 || ~2.0"}),
        make("b", "1.0.0", {"c": "~1.0 || ~2.1"}),
    )
    plan = plan_retention(facts, RetentionRule(keep_releases=0), now=NOW)

    assert ["1.1.0"] == [str(one.version) for one in plan.removed]
    (common,) = [one for one in plan.kept if str(one.published.version) == "1.0.0" and one.published.model == "c"]
    assert ("the highest that suits everything that stays",) == common.reasons


@pytest.mark.parametrize(
    "options", [{"keep_releases": -1}, {"keep_prereleases": True}, {"min_age": 7}, {"min_age": timedelta(days=-1)}]
)
def test_a_rule_that_cannot_be_meant_is_refused(options):
    """Before anything is planned."""
    with pytest.raises(ValueError, match=next(iter(options))):
        RetentionRule(**options)
