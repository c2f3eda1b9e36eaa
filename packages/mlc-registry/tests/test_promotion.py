"""What the policy keeps out, and what happens while it is asked."""

import json
import subprocess
import sys

import pytest

from mlc_hooks import Plugins, hookimpl, plugins
from mlc_hooks.choice import Choice
from mlc_registry import (
    ApprovalNotFoundError,
    CheckRule,
    InvalidMetadataError,
    InvalidNameError,
    ModelRegistry,
    Policy,
    PolicyError,
    PromotionRefusedError,
    StageConflictError,
    StageRule,
    VersionNotFoundError,
    YankedVersionError,
)

AFTER_STAGING = Policy([StageRule("staging"), StageRule("production", ["staging"])])


@pytest.fixture
def probe(monkeypatch):
    """A check of a plugin that does what a test lets it do, and a policy that asks it."""

    class Probe:
        """Keeps what it saw."""

        def __init__(self):
            self.seen = []
            self.act = lambda promotion: ""

        def object_to(self, promotion):
            """Do as the test says."""
            self.seen.append(promotion)
            return self.act(promotion)

    class Plugin:
        """As a module of hooks."""

        @hookimpl
        def mlc_promotion_checks(self):
            """Offer the probe."""
            return {"probe": lambda: made}

    made = Probe()
    alone = Plugins(strict=True, choice=Choice(only=frozenset()))
    alone.add_home("mlc_registry")
    alone.register(Plugin(), "probing-plugin")
    monkeypatch.setattr(plugins, "_make_shared", lambda: alone)
    return made


@pytest.fixture
def probed(probe, registry, publish):
    """A registry whose production asks the probe, with three versions."""
    publish("1.0.0", "1.1.0", "1.2.0")
    registry.policy.write(Policy([StageRule("staging"), StageRule("production", checks=[CheckRule("probe")])]))
    return registry


def test_all_objections_come_at_once_with_the_way_out(registry, publish):
    """Nobody has to try again to find the next one."""
    publish("2.0.0-rc.1", actor="ann")
    checks = [
        CheckRule("metric_gate", {"metric": "dice", "minimum": 0.9}),
        CheckRule("approval"),
        CheckRule("described"),
    ]
    rule = StageRule("production", ["staging"], checks, prereleases=False)
    registry.policy.write(Policy([StageRule("staging"), rule]))

    with pytest.raises(PromotionRefusedError) as caught:
        registry.promote("net", "2.0.0-rc.1", "production")

    assert ["after", "prereleases", "metric_gate", "approval", "described"] == [
        one.rule for one in caught.value.objections
    ]
    for part in (
        "net 2.0.0-rc.1 was not promoted to 'production', for 5 reasons",
        "mlc registry promote net@2.0.0-rc.1 staging",
        "publish 2.0.0",
        "publish a version that states it",
        "mlc registry approve net@2.0.0-rc.1 production",
        "force=True",
    ):
        assert part in str(caught.value)
    assert () == tuple(registry.stages("net"))
    assert ["registered"] == [one.kind for one in registry.history("net")]


def test_a_version_has_been_at_a_stage_unless_it_was_rolled_back(registry, publish):
    """As the documentation's example says."""
    publish("1.0.0", "1.1.0", "1.2.0")
    registry.policy.write(AFTER_STAGING)
    for text in ("1.0.0", "1.1.0"):
        registry.promote("net", text, "staging")
    registry.rollback("net", "staging", actor="eve")

    with pytest.raises(PromotionRefusedError, match="after: it was rolled back from staging by eve"):
        registry.promote("net", "1.1.0", "production")
    with pytest.raises(PromotionRefusedError, match="after: it has not been at staging"):
        registry.promote("net", "1.2.0", "production")
    registry.promote("net", "1.2.0", "staging")
    registry.promote("net", "1.0.0", "production")  # it was there, and has left it since
    registry.promote("net", "@staging", "production")  # it is there now
    assert "1.2.0" == str(registry.resolve("net", "production").version)


def test_force_needs_a_reason_and_is_remembered(registry, publish):
    """With everything that was objected to."""
    publish("1.0.0")
    registry.policy.write(AFTER_STAGING)

    with pytest.raises(PromotionRefusedError, match="needs a reason"):
        registry.promote("net", "1.0.0", "production", force=True)
    with pytest.raises(InvalidMetadataError, match="says nothing"):
        registry.promote("net", "1.0.0", "production", force=True, reason=" ")
    registry.promote("net", "1.0.0", "production", force=True, reason="fire", actor="ann")
    line = registry.history("net")[-1]

    assert ("promoted", "ann", "fire") == (line.kind, line.actor, line.reason)
    assert ["after"] == [one["rule"] for one in json.loads(line.details)["objections"]]
    registry.promote("net", "1.0.0", "staging", force=True, reason="nothing to force")
    assert "" == registry.history("net")[-1].details
    registry.audit.verify()


def test_force_lets_no_yanked_version_in(registry, publish):
    """That is no question of policy."""
    publish("1.0.0")
    registry.yank("net", "1.0.0", "bad labels")

    with pytest.raises(YankedVersionError, match="bad labels"):
        registry.promote("net", "1.0.0", "production", force=True, reason="fire")
    assert ["yanked"] == [one.rule for one in registry.policy.check("net", "1.0.0", "production")]


def test_stages_that_the_policy_does_not_name(registry, publish):
    """Are free, or are none at all."""
    publish("1.0.0")
    registry.policy.write(Policy([StageRule("production")]))
    registry.promote("net", "1.0.0", "canary")
    registry.policy.write(Policy([StageRule("production")], others=False))

    with pytest.raises(PromotionRefusedError, match=r"stage: .* no stage 'prodution'\. Did you mean 'production'"):
        registry.promote("net", "1.0.0", "prodution")
    with pytest.raises(PolicyError, match=r"no stage 'prodution'\. Did you mean 'production'"):
        registry.policy.approve("net", "1.0.0", "prodution")
    assert "1.0.0" == str(registry.resolve("net", "canary").version)  # what is there stays


def test_rolling_back_asks_nobody(registry, publish):
    """The way back must be open at night."""
    publish("1.0.0", "1.1.0")
    for text in ("1.0.0", "1.1.0"):
        registry.promote("net", text, "production")
    registry.policy.write(Policy([StageRule("production", checks=[CheckRule("approval", {"count": 9})])]))

    assert "1.0.0" == str(registry.rollback("net", "production").version)


def test_checks_see_everything(probed, probe):
    """Who wants what, where it is, what is there now, and who has approved."""
    probed.promote("net", "1.0.0", "production", actor="ann")
    probed.policy.approve("net", "1.1.0", "production", actor="bob", reason="looked at it")
    probed.policy.approve("net", "1.1.0", "staging", actor="eve")
    probed.promote("net", "1.1.0", "production", actor="ann", reason="better")
    first, second = probe.seen

    assert (None, "1.0.0") == (first.current, str(second.current.version))
    assert ("1.1.0", "production", "ann", "better") == (
        str(second.version.version),
        second.stage,
        second.actor,
        second.reason,
    )
    assert [("bob", "looked at it")] == [(one.actor, one.reason) for one in second.approvals]
    assert probed.get_model_path("net", "1.1.0") == second.path
    second.verify()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: 1 / 0, "check probe failed: ZeroDivisionError: division by zero"),
        (lambda _: None, "check probe failed: it answered None"),
        (lambda _: True, "check probe failed: it answered True"),
    ],
)
def test_a_check_that_fails_is_an_objection(probed, probe, answer, why):
    """It has not said that all is well."""
    probe.act = answer

    assert [why] == [
        one.reason.partition(", which")[0].partition(";")[0]
        for one in probed.policy.check("net", "1.0.0", "production")
    ]
    with pytest.raises(PromotionRefusedError, match="check probe failed"):
        probed.promote("net", "1.0.0", "production")


def test_a_check_whose_plugin_is_gone_is_an_objection(probed, monkeypatch):
    """And says so."""
    monkeypatch.setattr(plugins, "_make_shared", lambda: Plugins(strict=True, choice=Choice(only=frozenset())))

    with pytest.raises(PromotionRefusedError, match="check probe failed: UnknownNameError: Unknown promotion check"):
        probed.promote("net", "1.0.0", "production")


def test_who_moves_the_stage_meanwhile_makes_the_checks_run_again(probed, probe, root):
    """They judge by what is there when the stage is moved."""

    def move(promotion):
        if len(probe.seen) == 1:
            probed.promote("net", "1.1.0", "production", actor="eve", force=True, reason="first")
        return ""

    probe.act = move
    probed.promote("net", "1.2.0", "production")

    assert [None, None, "1.1.0"] == [one.current and str(one.current.version) for one in probe.seen]
    assert ["1.1.0", "1.2.0"] == [str(one.after) for one in probed.history("net", stage="production")]


def test_who_expects_something_is_told(probed, probe):
    """And the checks need not run for what is not as expected."""

    def move(promotion):
        if len(probe.seen) == 1:
            probed.promote("net", "1.1.0", "production", force=True, reason="first", actor="eve")
        return ""

    probe.act = move
    with pytest.raises(StageConflictError, match=r"points to 1\.1\.0, moved by eve.*unset was expected"):
        probed.promote("net", "1.2.0", "production", expected="unset")
    count = len(probe.seen)
    with pytest.raises(StageConflictError, match=r"1\.0\.0 was expected"):
        probed.promote("net", "1.2.0", "production", expected="1.0.0")
    assert count == len(probe.seen)


@pytest.mark.parametrize(
    ("meanwhile", "error"),
    [
        (lambda one: one.policy.withdraw("net", "1.2.0", "production", actor="ann"), PromotionRefusedError),
        (lambda one: one.rollback("net", "staging"), PromotionRefusedError),
        (lambda one: one.yank("net", "1.2.0", "bad"), YankedVersionError),
        (lambda one: one.policy.write(Policy([], others=False)), PromotionRefusedError),
    ],
    ids=["withdrawn", "rolled back", "yanked", "configured"],
)
@pytest.mark.parametrize("expected", [None, "unset"])
def test_what_is_taken_back_meanwhile_counts(place, probe, weights, meanwhile, error, expected):
    """There is no moment at which the policy can be passed by."""
    with place.open() as registry:
        for text in ("1.0.0", "1.2.0"):
            registry.register_model("net", text, weights(text))
            registry.promote("net", text, "staging")
        checks = [CheckRule("approval"), CheckRule("probe")]
        registry.policy.write(Policy([StageRule("staging"), StageRule("production", ["staging"], checks)]))
        registry.policy.approve("net", "1.2.0", "production", actor="ann")

        def act(promotion):
            if len(probe.seen) == 1:
                meanwhile(registry)
            return ""

        probe.act = act
        with pytest.raises(error):
            registry.promote("net", "1.2.0", "production", expected=expected)
        assert ["staging"] == [one.name for one in registry.stages("net")]


def test_approvals_are_of_one_version_and_one_stage(registry, publish):
    """One of each actor, until it is withdrawn."""
    publish("1.0.0", "1.1.0")
    given = registry.policy.approve("net", "^1", "production", actor="ann", reason="fine")
    registry.policy.approve("net", "1.1.0", "production", actor="bob")
    registry.policy.approve("net", "1.1.0", "production", actor="ann", reason="still fine")

    assert ("production", "ann", "fine") == (given.stage, given.actor, given.reason)
    assert [("bob", ""), ("ann", "still fine")] == [
        (one.actor, one.reason) for one in registry.policy.approvals("net", "1.1.0", "production")
    ]
    assert () == tuple(registry.policy.approvals("net", "1.0.0", "production"))
    assert () == tuple(registry.policy.approvals("net", "1.1.0", "staging"))
    registry.policy.withdraw("net", "1.1.0", "production", actor="ann", reason="saw the images")
    assert ["bob"] == [one.actor for one in registry.policy.approvals("net", "1.1.0", "production")]
    with pytest.raises(ApprovalNotFoundError, match=r"'bop' has not approved net 1\.1\.0.*Did you mean 'bob'"):
        registry.policy.withdraw("net", "1.1.0", "production", actor="bop")
    with pytest.raises(VersionNotFoundError):
        registry.policy.approve("net", "3.0.0", "production")
    with pytest.raises(InvalidNameError):
        registry.policy.approve("net", "1.0.0", "latest")
    assert ["approved", "approved", "approved", "withdrawn"] == [
        one.kind for one in registry.history("net", stage="production")
    ]
    registry.audit.verify()


# ---------------------------------------------------------------------- many at once

RACER = """
import sys
from mlc_registry import ModelRegistry, PromotionRefusedError

root, artifacts, me, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with ModelRegistry(root, artifacts=artifacts, create=False) as registry:
    registry.stages("net")
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        try:
            registry.promote("net", f"1.{number}.{me}", "production", actor=str(me))
        except PromotionRefusedError:
            pass
"""


@pytest.mark.slow
def test_racing_processes_keep_to_the_policy(place, tmp_path, weights):
    """The history is linear, and no version followed a better one, whoever came in between."""
    processes, count = 8, 6
    with place.open() as registry:
        for number in range(count):
            for me in range(processes):
                dice = {"metrics": {"dice": number + ((me * 3) % processes) / 10}}
                registry.register_model("net", f"1.{number}.{me}", weights("same"), dice)
        gate = CheckRule("metric_gate", {"metric": "dice", "not_worse": True})
        registry.policy.write(Policy([StageRule("production", checks=[gate])]))
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RACER, place.root, place.artifacts, str(me), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(processes)
    ]
    for one in workers:
        assert "ready\n" == one.stdout.readline()
    for one in workers:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in workers:
        one.communicate(timeout=300)
    assert [0] * processes == [one.returncode for one in workers]

    with place.open(create=False) as registry:
        moves = registry.history("net", stage="production")
        dice = [registry.get("net", one.after).metadata["metrics"]["dice"] for one in moves]
        assert [None, *[one.after for one in moves[:-1]]] == [one.before for one in moves]
        assert sorted(dice) == dice
        assert len(moves) > 1
        assert moves[-1].after == registry.resolve("net", "production").version
        registry.audit.verify()


def test_a_registry_of_a_store_without_statements_has_no_policy(registry, publish, monkeypatch):
    """Every stage is free, as it was."""
    publish("1.0.0")
    monkeypatch.setattr(type(registry._backend.store), "statements", None)

    assert Policy() == registry.policy.read()
    assert isinstance(registry, ModelRegistry)
    registry.promote("net", "1.0.0", "production")
