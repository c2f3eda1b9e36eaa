"""A stage that points to nothing any more."""

import pytest

from mlc_registry import (
    ModelNotFoundError,
    Policy,
    StageConflictError,
    StageNotFoundError,
)


@pytest.fixture
def kept(place, weights):
    """A registry on each database, with two versions of which the second is at production."""
    with place.open() as registry:
        for version in ("1.0.0", "1.1.0"):
            registry.register_model("net", version, weights(version))
            registry.promote("net", version, "production")
        yield registry


def test_demoted_stage_is_as_one_that_never_was(kept):
    """But for its history, in which everything is; and it can be moved to again."""
    was = kept.demote("net", "production", actor="ann", reason="the trial is over")

    assert ("production", "1.1.0") == (was.name, str(was.version))
    assert () == tuple(kept.stages("net"))
    with pytest.raises(StageNotFoundError):
        kept.resolve("net", "production")
    last = kept.history("net", stage="production")[-1]
    said = (last.kind, str(last.before), str(last.after), last.actor, last.reason)
    assert ("demoted", "1.1.0", "1.1.0", "ann", "the trial is over") == said
    kept.audit.verify()
    kept.promote("net", "1.0.0", "production", expected="unset")
    assert "1.0.0" == str(kept.resolve("net", "production").version)
    kept.audit.verify()


def test_way_back_ends_at_a_demotion(kept):
    """Whoever rolls back further is told who demoted it."""
    kept.demote("net", "production", actor="ann")
    with pytest.raises(StageNotFoundError, match="ann demoted it; promote a version again"):
        kept.rollback("net", "production")
    kept.promote("net", "1.0.0", "production")
    with pytest.raises(StageNotFoundError, match="nothing to go back to"):
        kept.rollback("net", "production")


def test_only_what_is_there_is_demoted(kept):
    """And only from where it was expected; who fails changes nothing."""
    head = kept.audit.head
    with pytest.raises(StageConflictError, match=r"points to 1\.1\.0"):
        kept.demote("net", "production", expected="1.0.0")
    with pytest.raises(StageNotFoundError, match="staging"):
        kept.demote("net", "staging")
    with pytest.raises(ModelNotFoundError):
        kept.demote("cat", "production")
    assert head == kept.audit.head
    kept.demote("net", "production", expected="1.1.0")
    with pytest.raises(StageNotFoundError):
        kept.demote("net", "production")


def test_what_has_been_at_a_stage_has_been_there(kept):
    """A demotion takes that back from nobody, and a rollback from whom it took it."""
    kept.policy.write(Policy.from_dict({"stages": {"production": {}, "clinic": {"after": ["production"]}}}))
    kept.rollback("net", "production")
    kept.demote("net", "production")

    assert [] == kept.policy.check("net", "1.0.0", "clinic")
    assert ["after"] == [one.rule for one in kept.policy.check("net", "1.1.0", "clinic")]


def test_command_demotes(kept, place, mlc):
    """And the history shows it as a move to nothing."""
    where = ("--registry", place.root, "--artifacts", place.artifacts)
    assert 1 == mlc("registry", "demote", "net", "production", "--expected", "1.0.0", *where)[0]
    status, out, _ = mlc("registry", "demote", "net", "production", "--reason", "over", *where)

    assert (0, "production of net points to nothing now; it was 1.1.0\n") == (status, out)
    assert "demoted" in mlc("registry", "history", "net", *where)[1]


def test_demotion_is_shown_and_exported(registry, publish, root, tmp_path):
    """No link of it is left in the directories for people, and an export fits."""
    publish("1.0.0")
    registry.promote("net", "1.0.0", "production")
    assert (root / "models/net/production").is_symlink()
    registry.demote("net", "production")

    assert not (root / "models/net/production").is_symlink()
    assert 3 == registry.archive.save(tmp_path / "all.tar").lines
