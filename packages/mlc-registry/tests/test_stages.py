"""Stages: where they point, who moved them, and the way back."""

import getpass

import pytest

from mlc_registry import (
    InvalidNameError,
    StageConflictError,
    StageNotFoundError,
    VersionNotFoundError,
    YankedVersionError,
    YankedVersionWarning,
)


def test_promotion_points_and_is_remembered(registry, publish):
    """Who, why, from where and to where."""
    publish("1.0.0", "1.1.0")
    registry.promote("net", "1.0.0", "production", actor="ann", reason="first")
    moved = registry.promote("net", "^1", "production", actor="bob", reason="better")

    assert ("net", "production", "1.1.0", "bob", "better") == (
        moved.model,
        moved.name,
        str(moved.version),
        moved.actor,
        moved.reason,
    )
    assert (moved,) == tuple(registry.stages("net"))
    assert [("promoted", "None", "1.0.0", "ann"), ("promoted", "1.0.0", "1.1.0", "bob")] == [
        (one.kind, str(one.before), str(one.after), one.actor) for one in registry.history("net", stage="production")
    ]
    assert ["registered", "registered", "promoted", "promoted"] == [one.kind for one in registry.history("net")]


def test_a_stage_can_be_moved_to_where_another_is(registry, publish):
    """As staging goes on to production."""
    publish("1.0.0", "1.1.0")
    registry.promote("net", "1.0.0", "staging")
    registry.promote("net", "@staging", "production")

    assert "1.0.0" == str(registry.resolve("net", "production").version)
    assert ["production", "staging"] == [one.name for one in registry.stages("net")]


def test_stage_stays_where_it_was_put(registry, publish):
    """A range is resolved once, when it is promoted."""
    publish("1.0.0")
    registry.promote("net", "^1", "production")
    publish("1.1.0")

    assert "1.0.0" == str(registry.resolve("net", "@production").version)


def test_expected_is_compared_and_swapped(registry, publish):
    """Who comes second is told, and the stage stays."""
    publish("1.0.0", "1.1.0", "1.2.0")
    registry.promote("net", "1.0.0", "production", expected="unset")

    with pytest.raises(StageConflictError, match=r"points to 1\.0\.0, moved by .*unset was expected"):
        registry.promote("net", "1.1.0", "production", expected="unset")
    registry.promote("net", "1.1.0", "production", expected="1.0.0")
    with pytest.raises(StageConflictError, match=r"points to 1\.1\.0"):
        registry.promote("net", "1.2.0", "production", expected="1.0.0")
    with pytest.raises(StageConflictError, match="points to nothing yet"):
        registry.promote("net", "1.2.0", "staging", expected="1.0.0")
    assert "1.1.0" == str(registry.resolve("net", "production").version)


def test_yanked_version_is_not_promoted(registry, publish):
    """By range it is not found, exactly it is refused."""
    publish("1.0.0")
    registry.yank("net", "1.0.0", "bad labels")

    with pytest.raises(YankedVersionError, match="bad labels"):
        registry.promote("net", "1.0.0", "production")
    with pytest.raises(VersionNotFoundError):
        registry.promote("net", "^1", "production")
    registry.unyank("net", "1.0.0", "checked again")
    registry.promote("net", "1.0.0", "production")


def test_stage_at_a_yanked_version_still_leads_there(registry, publish):
    """Taking it away from who runs it would be worse; it is said."""
    publish("1.0.0")
    registry.promote("net", "1.0.0", "production")
    registry.yank("net", "1.0.0", "bad labels")

    with pytest.warns(YankedVersionWarning, match="bad labels"):
        assert registry.get_model_path("net", "production").is_file()


@pytest.mark.parametrize("stage", ["latest", "newest", "x", "1", "Production", "a/b", ""])
def test_stage_that_would_be_read_otherwise_is_refused(registry, publish, stage):
    """Before anything is moved."""
    publish("1.0.0")

    with pytest.raises(InvalidNameError, match="cannot name a stage"):
        registry.promote("net", "1.0.0", stage)
    assert () == tuple(registry.stages("net"))


def test_rollback_goes_back_step_by_step(registry, publish):
    """To what was there before, not to and fro; promoting what is there already is no step."""
    publish("1.0.0", "1.1.0", "1.2.0")
    for text in ("1.0.0", "1.2.0", "1.2.0", "1.1.0"):
        registry.promote("net", text, "production")

    assert "1.2.0" == str(registry.rollback("net", "production", actor="ann", reason="drift").version)
    assert "1.0.0" == str(registry.rollback("net", "production").version)
    with pytest.raises(StageNotFoundError, match=r"at 1\.0\.0 from the start"):
        registry.rollback("net", "production")
    registry.promote("net", "1.1.0", "production")
    assert "1.0.0" == str(registry.rollback("net", "production").version)
    assert ("rolled back", "ann", "drift") == tuple(
        getattr(registry.history("net", stage="production")[4], name) for name in ("kind", "actor", "reason")
    )


def test_rollback_needs_a_way_back(registry, publish):
    """A stage, a step before, and a version that may be used."""
    publish("1.0.0", "1.1.0")
    with pytest.raises(StageNotFoundError, match="no stage 'production'"):
        registry.rollback("net", "production")
    registry.promote("net", "1.0.0", "production")
    registry.promote("net", "1.1.0", "production")
    registry.yank("net", "1.0.0", "bad labels")
    with pytest.raises(YankedVersionError, match="bad labels"):
        registry.rollback("net", "production")
    assert "1.1.0" == str(registry.resolve("net", "production").version)


def test_actor_is_the_user_unless_said(registry, publish, monkeypatch):
    """Also where the user has no name."""

    def fail():
        raise KeyError(1000)

    monkeypatch.setattr(getpass, "getuser", lambda: "dora")
    publish("1.0.0")
    monkeypatch.setattr(getpass, "getuser", fail)
    registry.yank("net", "1.0.0", "bad")

    assert ["dora", "unknown"] == [one.actor for one in registry.history("net")]
