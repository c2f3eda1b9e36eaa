"""What a policy of stages may say."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_registry import CheckRule, Policy, PolicyConflictError, PolicyError, StageRule

NAMES = ["alpha", "beta", "gamma", "delta"]
CHECKS = st.sampled_from(
    [
        CheckRule("intact"),
        CheckRule("described"),
        CheckRule("metric_gate", {"metric": "dice", "minimum": 0.9}),
        CheckRule("approval", {"count": 2, "by": ["ann", "bob"]}),
    ]
)
EXAMPLE = """
others = false

[stages.staging]

[stages.production]
after = ["staging"]
prereleases = false
checks = [
    {check = "metric_gate", metric = "dice", minimum = 0.9, not_worse = true},
    {check = "approval", count = 1, not_publisher = true},
]
"""


@st.composite
def policies(draw):
    """Draw policies in which every stage can be reached: each comes after earlier ones."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    rules = [
        StageRule(
            name,
            draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else (),
            draw(st.lists(CHECKS, max_size=3)),
            prereleases=draw(st.booleans()),
        )
        for place, name in enumerate(names)
    ]
    return Policy(draw(st.permutations(rules)), others=draw(st.booleans()))


@given(policies())
def test_policy_survives_being_written(policy):
    """As plain data and as JSON, and equal policies are equal text."""
    policy.validate()

    assert policy == Policy.from_dict(policy.to_dict()) == Policy.from_json(policy.to_json())
    assert policy.to_json() == Policy(reversed(policy.stages), others=policy.others).to_json()


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), unique=True), max_size=4))
def test_a_policy_is_refused_exactly_if_a_stage_can_never_be_reached(graph):
    """Or comes after one that has no rule."""
    known = all(set(after) <= set(graph) for after in graph.values())
    reached = set()
    for _ in graph:
        reached |= {name for name, after in graph.items() if not after or reached & set(after)}
    rules = [StageRule(name, after) for name, after in graph.items()]

    if known and reached == set(graph):
        assert len(graph) == len(Policy(rules).stages)
    else:
        with pytest.raises(PolicyError, match=r"nothing ever gets there|there is no stage"):
            Policy(rules)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 reads no TOML")
def test_policy_is_read_from_toml(tmp_path):
    """As people write it."""
    (tmp_path / "policy.toml").write_text(EXAMPLE)
    policy = Policy.load(tmp_path / "policy.toml")
    gate = CheckRule("metric_gate", {"metric": "dice", "minimum": 0.9, "not_worse": True})
    approval = CheckRule("approval", {"count": 1, "not_publisher": True})

    assert not policy.others
    assert ["production", "staging"] == [one.name for one in policy.stages]
    assert StageRule("production", ("staging",), (gate, approval), prereleases=False) == policy.rule("production")
    assert policy.rule("canary") is None


def test_policy_is_read_from_json(tmp_path):
    """On every Python, and as `to_json` writes it."""
    policy = Policy([StageRule("staging", checks=[CheckRule("intact")])])
    (tmp_path / "policy.json").write_text(policy.to_json())

    assert policy == Policy.load(tmp_path / "policy.json")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ([], "a table of stages is needed"),
        ({"stage": {}}, r"the policy: it has no 'stage'\. Did you mean 'stages'"),
        ({"others": 1}, "others: true or false is needed, not 1"),
        ({"stages": []}, "stages: a table is needed"),
        ({"stages": {"prod": []}}, r"stages\.prod: a table of rules is needed"),
        ({"stages": {"prod": {"befor": []}}}, r"stages\.prod: it has no 'befor'\. Known: after, checks, prereleases"),
        ({"stages": {"prod": {"prereleases": "no"}}}, r"stages\.prod\.prereleases: true or false"),
        ({"stages": {"prod": {"after": "staging"}}}, r"stages\.prod\.after: a list is needed"),
        ({"stages": {"prod": {"after": [1]}}}, r"stages\.prod\.after: the name of a stage is needed, not 1"),
        ({"stages": {"prod": {"after": ["stagin"]}, "staging": {}}}, "no stage 'stagin'. Did you mean 'staging'"),
        ({"stages": {"prod": {"after": ["prod"]}}}, "nothing ever gets there"),
        ({"stages": {"aa": {"after": ["bb"]}, "bb": {"after": ["aa"]}, "cc": {}}}, r"stages\.aa\.after: nothing ever"),
        ({"stages": {"latest": {}}}, "it has a meaning of its own"),
        ({"stages": {"prod": {"checks": ["intact"]}}}, r"stages\.prod\.checks\[0\]: a table that names the check"),
        ({"stages": {"prod": {"checks": [{"name": "intact"}]}}}, "a table that names the check"),
        ({"stages": {"prod": {"checks": [{"check": "intakt"}]}}}, "Did you mean 'intact'"),
        ({"stages": {"prod": {"checks": [{"check": "intact", "deep": True}]}}}, "it takes: no options"),
        ({"stages": {"prod": {"checks": [{"check": "metric_gate", "metric": "m"}]}}}, "give a minimum"),
        ({"stages": {"prod": {"checks": [{"check": "intact", "at": object()}]}}}, "is not JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused(data, why):
    """The message names the part."""
    with pytest.raises(PolicyError, match=why):
        Policy.from_dict(data).validate()


def test_a_stage_has_one_rule():
    """Two would contradict each other sooner or later."""
    with pytest.raises(PolicyError, match="two rules"):
        Policy([StageRule("prod"), StageRule("prod", prereleases=False)])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("policy.json", "{", "no JSON"),
        ("policy.toml", "= 1", "no TOML" if sys.version_info >= (3, 11) else "reads no TOML"),
        ("policy.toml", b"\xff", "cannot be read"),
        ("missing.toml", None, "cannot be read"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, why):
    """With the reason."""
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PolicyError, match=f"{why}"):
        Policy.load(tmp_path / name)


# ---------------------------------------------------------------------- kept in a registry


def test_policy_is_kept_with_its_history(place):
    """The last one holds, and the lines before it tell what held."""
    with place.open() as registry:
        assert Policy() == registry.policy.read()
        first = Policy([StageRule("staging")])
        registry.policy.write(first, actor="ann", reason="begin")
        registry.policy.write(first, actor="bob", reason="again")
        second = Policy([StageRule("staging"), StageRule("production", ["staging"])])
        registry.policy.write(second, expected=first, actor="eve")
        lines = list(registry.audit.lines())

        assert second == registry.policy.read()
        assert [("configured", "ann", "begin"), ("configured", "eve", "")] == [
            (one.kind, one.actor, one.reason) for one in lines
        ]
        assert [first, second] == [Policy.from_json(one.details) for one in lines]
        assert 2 == registry.audit.verify().lines


def test_policy_is_compared_and_swapped(place):
    """Who changes what somebody else has changed is told."""
    with place.open() as registry:
        mine, other = Policy([StageRule("mine")]), Policy([StageRule("other")])
        registry.policy.write(other, expected=Policy())

        with pytest.raises(PolicyConflictError, match="read it again"):
            registry.policy.write(mine, expected=Policy())
        assert other == registry.policy.read()
        registry.policy.write(mine)
        assert mine == registry.policy.read()


def test_policy_with_a_check_that_cannot_be_made_is_not_kept(registry):
    """It would refuse everything later."""
    with pytest.raises(PolicyError, match=r"stages\.prod\.checks\[0\].*Did you mean 'intact'"):
        registry.policy.write(Policy([StageRule("prod", checks=[CheckRule("intakt")])]))

    assert Policy() == registry.policy.read()
    assert 0 == registry.audit.verify().lines


def test_policy_that_is_too_deep_is_refused(tmp_path):
    """In either language."""
    for name, text in (("policy.toml", "a = " + "[" * 20_000), ("policy.json", "[" * 20_000)):
        (tmp_path / name).write_text(text)
        with pytest.raises(PolicyError):
            Policy.load(tmp_path / name)
