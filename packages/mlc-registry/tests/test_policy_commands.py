"""`mlc registry` about policies, approvals, trees and directories."""

import json
import shutil

import pytest

from mlc_registry import ModelRegistry

POLICY = {
    "others": False,
    "stages": {
        "staging": {},
        "production": {
            "after": ["staging"],
            "prereleases": False,
            "checks": [{"check": "approval", "not_publisher": True}, {"check": "described"}],
        },
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, empty_registry):
    """A registry with some versions; to be copied."""
    place = tmp_path_factory.mktemp("prepared")
    shutil.copytree(empty_registry, place / "registry")
    with ModelRegistry(place / "registry") as made:
        for name, version in (
            ("net", "1.0.0"),
            ("net", "1.0.1"),
            ("net", "1.1.0"),
            ("net", "2.0.0-rc.1"),
            ("cat", "0.1.0"),
        ):
            (place / "model.bin").write_text(f"{name} {version}")
            made.register_model(name, version, place / "model.bin", description="First.\nMore.", actor="ann")
        made.promote("net", "1.0.0", "staging")
        made.yank("net", "1.0.1", "bad\nlabels")
    return place / "registry"


@pytest.fixture
def filled(prepared, root, monkeypatch):
    """A registry with some versions, known by the environment."""
    shutil.copytree(prepared, root, symlinks=True)
    monkeypatch.setenv("MLC_REGISTRY", str(root))
    with ModelRegistry(root) as opened:
        yield opened


@pytest.fixture
def policy_file(tmp_path):
    """A policy as people write it, in JSON for Python 3.10."""
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    return tmp_path / "policy.json"


def test_from_policy_to_production(mlc, filled, policy_file):
    """Set, look, be refused, approve, promote, withdraw."""
    assert (0, "No stage has a rule: all of them may be used freely.\n", "") == mlc("registry", "policy", "show")
    status, out, _ = mlc("registry", "policy", "set", policy_file, "--reason", "as agreed", "--actor", "ann")
    assert (0, "The policy holds from now on. Stages with a rule: production, staging\n") == (status, out)
    shown = mlc("registry", "policy", "show")[1]
    for part in ("production", "staging", "approval: not_publisher = true", "described", "There are no other stages."):
        assert part in shown

    status, out, _ = mlc("registry", "policy", "check", "net@1.0.0", "production")
    assert 1 == status
    assert "approval" in out
    assert "mlc registry approve net@1.0.0 production" in out
    status, _, err = mlc("registry", "promote", "net@1.0.0", "production")
    assert 1 == status
    assert "approval: nobody who counts has approved" in err
    status, out, _ = mlc("registry", "approve", "net@1.0.0", "production", "--actor", "bob", "--reason", "looked")
    assert (0, "bob has approved net 1.0.0 for production\n") == (status, out)
    assert ["bob", "looked"] == [
        word for word in mlc("registry", "approvals", "net@1.0.0", "production")[1].split() if word in {"bob", "looked"}
    ]
    assert (0, "ok  net 1.0.0 may be promoted to production\n", "") == mlc(
        "registry", "policy", "check", "net@staging", "production"
    )
    assert 0 == mlc("registry", "promote", "net@staging", "production")[0]
    status, out, _ = mlc("registry", "withdraw", "net@1.0.0", "production", "--actor", "bob")
    assert (0, "Withdrawn. net 1.0.0 is approved for production by nobody now\n") == (status, out)


def test_force_is_for_those_who_say_why(mlc, filled, policy_file):
    """And only then."""
    mlc("registry", "policy", "set", policy_file)

    status, _, err = mlc("registry", "promote", "net@1.1.0", "production", "--force")
    assert 1 == status
    assert "needs a reason" in err
    status, out, _ = mlc("registry", "promote", "net@1.1.0", "production", "--force", "--reason", "fire")
    assert (0, "production of net is 1.1.0 now\n") == (status, out)
    assert ["after", "approval"] == [
        one["rule"] for one in json.loads(filled.history("net", stage="production")[-1].details)["objections"]
    ]


def test_shown_policy_can_be_set(mlc, filled, policy_file, tmp_path):
    """And exchanged only for the one that was shown."""
    mlc("registry", "policy", "set", policy_file)
    (tmp_path / "old.json").write_text(mlc("registry", "policy", "show", "--json")[1])
    (tmp_path / "new.json").write_text("{}")

    assert 0 == mlc("registry", "policy", "set", tmp_path / "new.json", "--expected", tmp_path / "old.json")[0]
    status, _, err = mlc("registry", "policy", "set", policy_file, "--expected", tmp_path / "old.json")
    assert 1 == status
    assert "read it again" in err


@pytest.mark.parametrize(
    ("arguments", "check"),
    [
        (("policy", "show"), lambda found: {"others": True, "stages": {}} == found),
        (("policy", "check", "net@1.0.0", "production"), lambda found: [] == found),
        (("approve", "net@1.0.0", "production", "--actor", "bob"), lambda found: "bob" == found["actor"]),
        (("approvals", "net@1.0.0", "production"), lambda found: [] == found),
        (("rebuild",), lambda found: 5 == found["versions"]),
        (("tree",), lambda found: ["cat", "net"] == [one["model"] for one in found]),
    ],
)
def test_programs_get_json(mlc, filled, arguments, check):
    """One document on standard output, from every command."""
    status, out, _ = mlc("registry", *arguments, "--json")

    assert 0 == status
    assert check(json.loads(out))


def test_withdrawing_tells_programs_who_is_left(mlc, filled, policy_file):
    """And a policy is told when it is set."""
    assert not json.loads(mlc("registry", "policy", "set", policy_file, "--json")[1])["others"]
    for actor in ("bob", "eve"):
        filled.policy.approve("net", "1.0.0", "production", actor=actor)
    left = json.loads(mlc("registry", "withdraw", "net@1.0.0", "production", "--actor", "bob", "--json")[1])

    assert ["eve"] == [one["actor"] for one in left]


def test_tree_is_drawn(mlc, filled):
    """Major versions, minor versions, versions, and what matters about each."""
    _, out, _ = mlc("registry", "tree", "net")
    lines = [line.replace("│", " ").strip("├└─ ") for line in out.splitlines()]

    assert ["net", "2.x", "2.0.x", "2.0.0-rc.1", "1.x", "1.1.x", "1.1.0", "1.0.x", "1.0.1", "1.0.0"] == [
        line.split()[0] for line in lines
    ]
    assert "pre-release" in lines[3]
    assert "latest" in lines[6]
    assert "yanked: bad labels" in lines[8]
    assert "@staging" in lines[9]
    assert lines[9].endswith("First.")


def test_tree_says_what_it_leaves_out(mlc, filled):
    """And how to go on."""
    _, first, _ = mlc("registry", "tree", "net", "--limit", "2")
    assert "older ones are left out: mlc registry tree net --below 1.1.0" in first
    _, rest, _ = mlc("registry", "tree", "net", "--below", "1.1.0")
    assert "1.0.0" in rest
    assert "1.1.0" not in rest
    assert "left out" not in rest
    (found,) = json.loads(mlc("registry", "tree", "net", "--limit", "3", "--json")[1])
    assert (["2.0.0-rc.1", "1.1.0", "1.0.1"], "1.0.1") == ([one["version"] for one in found["versions"]], found["next"])
    assert 2 == mlc("registry", "tree", "--below", "1.0.0")[0]
    assert 1 == mlc("registry", "tree", "nett")[0]


def test_tree_of_a_narrow_terminal_has_no_broken_lines(mlc, filled, monkeypatch):
    """What does not fit is cut."""
    from mlc_hooks import console

    monkeypatch.setattr(console, "PIPE_WIDTH", 40)
    _, out, _ = mlc("registry", "tree", "net")

    assert 10 == len(out.splitlines())
    assert max(len(line) for line in out.splitlines()) <= 40
    assert "…" in out


def test_directories_are_made_anew_where_they_are_wanted(mlc, filled, root, tmp_path, monkeypatch):
    """Beside the database, or elsewhere."""
    shutil.rmtree(root / "models", ignore_errors=True)
    assert f"5 versions are shown in {root / 'models'}\n" == mlc("registry", "rebuild")[1]
    monkeypatch.setenv("MLC_REGISTRY_VIEW", str(tmp_path / "seen"))
    assert f"5 versions are shown in {tmp_path / 'seen'}\n" == mlc("registry", "rebuild")[1]
    assert "net 1.1.0" == (tmp_path / "seen" / "net" / "latest" / "model.bin").read_text()
    assert (
        f"5 versions are shown in {tmp_path / 'third'}\n" == mlc("registry", "rebuild", "--view", tmp_path / "third")[1]
    )
