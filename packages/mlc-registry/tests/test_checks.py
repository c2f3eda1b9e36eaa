"""The checks that a policy can ask for."""

import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_hooks import OptionsError
from mlc_registry import CorruptArtifactError, PolicyError, Tracking, promotion_checks
from mlc_registry.testing import PromotionCheckContract, make_promotion

NUMBERS = st.floats(-10, 10) | st.integers(-3, 3)


def with_metrics(version="1.0.0", **metrics):
    """Return a version that states *metrics*."""
    return make_promotion(version, tracking=Tracking(metrics=metrics)).version


class TestMetricGate(PromotionCheckContract):
    """It keeps the promises of a check."""

    @pytest.fixture
    def check(self):
        """Ask for both."""
        return promotion_checks().make("metric_gate", metric="dice", minimum=0.9, not_worse=True)

    @pytest.fixture
    def fine(self):
        """Better than what is there."""
        return attrs.evolve(make_promotion(current=with_metrics(dice=0.91)), version=with_metrics("1.1.0", dice=0.92))

    @pytest.fixture
    def bad(self):
        """Good enough, but worse than what is there."""
        return attrs.evolve(make_promotion(current=with_metrics(dice=0.95)), version=with_metrics("1.1.0", dice=0.92))


class TestApproval(PromotionCheckContract):
    """It keeps the promises of a check."""

    @pytest.fixture
    def check(self):
        """Ask for two others."""
        return promotion_checks().make("approval", count=2, not_publisher=True)

    @pytest.fixture
    def fine(self):
        """Two others have."""
        return make_promotion(approved_by=["ann", "bob", "eve"])

    @pytest.fixture
    def bad(self):
        """One of the two has published it."""
        return make_promotion(approved_by=["ann", "bob"])


class TestIntact(PromotionCheckContract):
    """It keeps the promises of a check."""

    @pytest.fixture
    def check(self):
        """Ask for nothing more."""
        return promotion_checks().make("intact")

    @pytest.fixture
    def fine(self, tmp_path):
        """Nothing is found."""
        (tmp_path / "model.bin").write_text("weights")
        return make_promotion(path=tmp_path / "model.bin")

    @pytest.fixture
    def bad(self):
        """A file is gone."""

        def fail():
            msg = "net 1.0.0 is not what was published:\n  model.bin is missing"
            raise CorruptArtifactError(msg)

        return make_promotion(verify=fail)


class TestDescribed(PromotionCheckContract):
    """It keeps the promises of a check."""

    @pytest.fixture
    def check(self):
        """Ask for nothing more."""
        return promotion_checks().make("described")

    @pytest.fixture
    def fine(self):
        """Notes will do."""
        return make_promotion(notes="Better on thin slices.")

    @pytest.fixture
    def bad(self):
        """Blanks say nothing."""
        return make_promotion(notes=" \n", description="\t")


@given(value=NUMBERS, minimum=st.none() | NUMBERS, maximum=st.none() | NUMBERS, in_tracking=st.booleans())
def test_limits_are_kept(value, minimum, maximum, in_tracking):
    """Both ends belong to what is allowed, wherever the metric is stated."""
    options = {"metric": "loss", "minimum": minimum, "maximum": maximum}
    if (minimum is None and maximum is None) or (None not in {minimum, maximum} and minimum > maximum):
        with pytest.raises(PolicyError):
            promotion_checks().make("metric_gate", **options)
        return
    stated = (
        {"tracking": Tracking(metrics={"loss": value})} if in_tracking else {"metadata": {"metrics": {"loss": value}}}
    )
    said = promotion_checks().make("metric_gate", **options).object_to(make_promotion(**stated))

    assert ("" == said) == ((minimum is None or minimum <= value) and (maximum is None or value <= maximum))


@given(value=NUMBERS, there=NUMBERS, mode=st.sampled_from(["max", "min"]), tolerance=st.floats(0, 2))
def test_no_worse_than_what_is_there(value, there, mode, tolerance):
    """By the tolerance at most."""
    gate = promotion_checks().make("metric_gate", metric="m", not_worse=True, mode=mode, tolerance=tolerance)
    promotion = attrs.evolve(make_promotion(current=with_metrics(m=there)), version=with_metrics("2.0.0", m=value))
    worse = value < there - tolerance if mode == "max" else -value < -there - tolerance

    assert bool(gate.object_to(promotion)) == worse
    assert "" == gate.object_to(attrs.evolve(promotion, current=None))
    assert "" == gate.object_to(attrs.evolve(promotion, current=promotion.version))


@pytest.mark.parametrize("stated", [math.nan, math.inf, "0.9", None, True, [0.9]])
def test_what_is_no_number_does_not_pass(stated):
    """NaN is not below any minimum, and passes all the same nowhere."""
    gate = promotion_checks().make("metric_gate", metric="dice", minimum=-1)

    assert "no number that can be compared" in gate.object_to(make_promotion(metadata={"metrics": {"dice": stated}}))


def test_what_is_not_stated_does_not_pass():
    """Neither of the version nor of the one that it is compared with."""
    gate = promotion_checks().make("metric_gate", metric="dice", not_worse=True)
    promotion = attrs.evolve(make_promotion(), version=with_metrics("2.0.0", dice=1))

    assert "1.0.0 has no metric 'dice' (it has: iou)" in gate.object_to(
        attrs.evolve(make_promotion(), version=with_metrics(iou=0.5))
    )
    said = gate.object_to(attrs.evolve(promotion, current=with_metrics("1.5.0")))
    assert "cannot be compared with what production has: 1.5.0 has no metric 'dice' (it has: none)" in said
    assert "" == gate.object_to(promotion)


def test_whose_approval_counts():
    """Those that are named, and not the publisher's."""
    make = promotion_checks().make
    given_by_two = make_promotion(publisher="ann", approved_by=["ann", "bob"])

    assert "" == make("approval", count=2).object_to(given_by_two)
    assert "" == make("approval", by=["bob"]).object_to(given_by_two)
    said = make("approval", by=["ann", "eve"], not_publisher=True).object_to(given_by_two)
    assert "ann published it and does not count. 1 more of eve must: mlc registry approve net@1.0.0 production" in said


@pytest.mark.parametrize(
    ("check", "options", "why"),
    [
        ("metric_gate", {"metric": ""}, "names no metric"),
        ("metric_gate", {"metric": "m"}, "give a minimum"),
        ("metric_gate", {"metric": "m", "minimum": True}, "must be a number"),
        ("metric_gate", {"metric": "m", "minimum": math.nan}, "must be a number"),
        ("metric_gate", {"metric": "m", "minimum": "0.9"}, "must be a number"),
        ("metric_gate", {"metric": "m", "minimum": 2, "maximum": 1}, "at least 2 and at most 1"),
        ("metric_gate", {"metric": "m", "not_worse": 1}, "true or false"),
        ("metric_gate", {"metric": "m", "not_worse": True, "mode": "best"}, "'max' or 'min'"),
        ("metric_gate", {"metric": "m", "not_worse": True, "tolerance": -1}, "must not be negative"),
        ("approval", {"count": 0}, "1 or more"),
        ("approval", {"count": True}, "1 or more"),
        ("approval", {"by": "ann"}, "a list of names"),
        ("approval", {"by": ["ann", ""]}, "a list of names"),
        ("approval", {"by": []}, "only nobody may"),
        ("approval", {"count": 2, "by": ["ann", "ann"]}, "only ann may"),
        ("approval", {"not_publisher": "yes"}, "true or false"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(check, options, why):
    """When the check is made, which is before a policy with it is kept."""
    with pytest.raises(PolicyError, match=why):
        promotion_checks().make(check, **options)


def test_unknown_options_are_named():
    """With those that there are."""
    with pytest.raises(OptionsError, match="it takes: metric, minimum, maximum"):
        promotion_checks().make("metric_gate", metric="m", min=1)
