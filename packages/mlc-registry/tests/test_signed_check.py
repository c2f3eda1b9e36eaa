"""Policies that keep unsigned versions out of a stage."""

import importlib.util

import attrs
import pytest

from mlc_registry import CheckRule, Policy, PolicyError, PromotionRefusedError, StageRule, promotion_checks
from mlc_registry.testing import PromotionCheckContract, make_promotion

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None,
    reason="model-signing is not installed, which mlc-registry[signing] brings",
)


class TestSigned(PromotionCheckContract):
    """It keeps the promises of a check."""

    @pytest.fixture
    def check(self):
        """Ask for one key."""
        return promotion_checks().make("signed", public_key="release.pub")

    @pytest.fixture
    def fine(self):
        """A signature is found."""
        return attrs.evolve(make_promotion(), verify_signature=lambda public_key: None)

    @pytest.fixture
    def bad(self):
        """There is none."""
        return make_promotion()


@needs_library
@pytest.mark.parametrize("form", ["text", "path"])
def test_only_signed_versions_are_promoted(registry, publish, make_key, form):
    """If the policy says so; the key may be in it."""
    private, public = make_key()
    publish("1.0.0")
    key = public.read_text() if form == "text" else str(public)
    registry.policy.write(Policy([StageRule("production", checks=[CheckRule("signed", {"public_key": key})])]))
    with pytest.raises(PromotionRefusedError, match=r"(?s)is not signed.*mlc registry sign net@1\.0\.0 --key KEY"):
        registry.promote("net", "1.0.0", "production")
    registry.signing.sign("net", "1.0.0", key=make_key("other")[0])
    with pytest.raises(PromotionRefusedError, match="no signature of net"):
        registry.promote("net", "1.0.0", "production")
    registry.signing.sign("net", "1.0.0", key=private)
    registry.promote("net", "1.0.0", "production")

    assert "1.0.0" == str(registry.resolve("net", "production").version)


@pytest.mark.parametrize("key", ["", 7, None, "-----BEGIN PRIVATE KEY-----"])
def test_a_policy_that_trusts_nobody_is_refused(registry, key):
    """A private key least of all."""
    with pytest.raises(PolicyError, match="public_key"):
        registry.policy.write(Policy([StageRule("production", checks=[CheckRule("signed", {"public_key": key})])]))
