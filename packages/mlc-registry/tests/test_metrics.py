"""What gates compare is what searches find."""

import itertools
import math
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_registry import InvalidQueryError, MissingMetricWarning, ModelRegistry, Policy, Tracking, metrics_of

NAMES = ("dice", "val/loss", "ünï")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-5, 5)
ANYTHING = NUMBERS | st.booleans() | st.none() | st.text(max_size=3) | st.lists(NUMBERS, max_size=1)


@pytest.fixture
def kept(place):
    """A registry on each database."""
    with place.open() as registry:
        yield registry


def _gate(registry, name, minimum):
    gate = {"check": "metric_gate", "metric": name, "minimum": minimum}
    registry.policy.write(Policy.from_dict({"stages": {"a": {"checks": [gate]}}}))


def test_gate_passes_what_a_search_finds(kept, weights):
    """Wherever a metric is stated, and whatever else is stated there."""
    numbers = itertools.count()
    path = weights()

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        stated=st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3),
        tracked=st.dictionaries(st.sampled_from(NAMES), NUMBERS, max_size=2),
        name=st.sampled_from(NAMES),
        minimum=NUMBERS,
    )
    def check(stated, tracked, name, minimum):
        version = f"0.{next(numbers)}.0"
        published = kept.register_model(
            "net", version, path, {"metrics": stated}, tracking=Tracking(metrics=tracked), tags={"is": version}
        )
        _gate(kept, name, float(minimum))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingMetricWarning)
            found = kept.search(metrics=f"{name}>={float(minimum)!r}", tags={"is": version}).versions

        assert [published] * (not kept.policy.check("net", version, "a")) == list(found)
        assert [published] * (metrics_of(published).get(name, -math.inf) >= minimum) == list(found)

    check()
    kept.audit.verify()


def test_metric_that_nobody_states_is_said(kept, weights, mlc, place):
    """Of all models, or of the one that is asked for; one that is only too small is not."""
    kept.register_model("net", "1.0.0", weights(), tracking=Tracking(metrics={"dice": 0.5}))
    kept.register_model("cat", "1.0.0", weights())
    for options in ({"metrics": "dyce>0"}, {"metrics": "dice>0", "model": "cat"}):
        with pytest.warns(MissingMetricWarning, match=r"no version.* has a metric 'd.ce'"):
            assert () == tuple(kept.search(**options).versions)
    assert () == tuple(kept.search(metrics="dice>0.5").versions)
    where = ("--registry", place.root, "--artifacts", place.artifacts)
    assert "no version has a metric 'dyce'" in mlc("registry", "search", "--metric", "dyce>0", *where)[2]


def test_metric_beside_the_metrics_is_none(kept, weights):
    """The gate says where it belongs."""
    kept.register_model("net", "1.0.0", weights(), {"dice": 0.91})
    _gate(kept, "dice", 0.9)
    (objection,) = kept.policy.check("net", "1.0.0", "a")

    assert "'dice' in its metadata, where it is no metric; state it in `tracking` (--metric)" in str(objection)


def test_not_equal_is_refused_by_name(registry):
    """It is no name that ends in a mark."""
    with pytest.raises(InvalidQueryError, match="there is no !="):
        registry.search(metrics="dice!=0.9")


def test_older_registry_finds_what_its_metadata_state(bare_place, weights):
    """Of all versions that were published before, once, and of no other."""
    with bare_place.open() as registry:
        registry.register_model("net", "1.0.0", weights(), {"metrics": {"dice": 0.9, "name": "x"}})
        both = {"metadata": {"metrics": {"dice": 1}}, "tracking": Tracking(metrics={"dice": 2})}
        registry.register_model("net", "1.1.0", weights(), **both)
        registry.register_model("net", "1.2.0", weights(), {"note": '"metrics"'})
    bare_place.tamper(
        "DELETE FROM metric WHERE version_id = 1", "UPDATE mlc_registry_revision SET version_num = '0005'"
    )

    with ModelRegistry(bare_place.root, artifacts=bare_place.artifacts) as registry:
        assert ["1.1.0", "1.0.0"] == [str(one.version) for one in registry.search(metrics="dice>0").versions]
        assert ["1.1.0"] == [str(one.version) for one in registry.search(metrics="dice>=2").versions]
        registry.audit.verify()
