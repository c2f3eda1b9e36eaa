"""Scripts that lead from one major version to another, and the shortest way along them."""

import itertools
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlc_registry.migrations.room as module
from mlc_registry import MigrationError
from mlc_registry.migrations.room import Step, _shortest, find_steps, list_steps

EDGES = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda edge: edge[0] != edge[1]), max_size=12)


def step(before, after):
    return Step(model="net", before=before, after=after, path=None, description="", digest="")


@given(edges=EDGES, before=st.integers(0, 5), after=st.integers(0, 5))
def test_way_is_the_shortest(edges, before, after):
    """As found by trying all: its length, whether there is one, and whether there are several."""
    ways = []
    for length in range(1, 6):
        for inner in itertools.permutations([one for one in range(6) if one not in {before, after}], length - 1):
            places = (before, *inner, after)
            if before != after and all(edge in edges for edge in itertools.pairwise(places)):
                ways.append(places)
        if ways:
            break
    found = [] if before == after else _shortest([step(*edge) for edge in sorted(edges)], before, after)

    assert {(before, *(one.after for one in way)) for way in found} <= set(ways)
    assert min(len(ways), 2) == min(len(found), 2)


def test_steps_are_listed_with_what_they_say(scripts):
    """Without running them; other files beside them do not count."""
    place = scripts("1_to_2", "2_to_3", _helper="x = 1", _0_to_1="def migrate(source, target): ...\nraise SystemExit")
    found = list_steps("net", [place])

    assert ["0_to_1", "1_to_2", "2_to_3"] == [one.name for one in found]
    assert ["", "Adds its name.", "Adds its name."] == [one.description for one in found]
    assert all(one.digest.startswith("sha256:") for one in found)
    assert [] == list(list_steps("other", [place]))


def test_environment_names_directories(scripts, monkeypatch):
    """Several, as in PATH."""
    first, second = scripts("1_to_2"), scripts("2_to_3", folder="more")
    monkeypatch.setenv("MLC_MIGRATIONS", f"{first}{os.pathsep}{second}")

    assert ["1_to_2", "2_to_3"] == [one.name for one in find_steps("net", 1, 3)]
    assert 2 == len(list_steps("net", [first]))  # the same file twice is one script


def test_plugins_offer_directories(scripts, monkeypatch):
    """By the name of the model."""
    import mlc_hooks

    plugins = mlc_hooks.Plugins()
    offers = {"net": lambda: scripts("1_to_2") / "net"}
    plugin = type(sys)("acme_migrations")
    plugin.mlc_model_migrations = mlc_hooks.hookimpl(lambda: offers)
    plugin.mlc_model_migrations.__name__ = "mlc_model_migrations"
    catalog = mlc_hooks.Catalog(
        "migrations", hook="mlc_model_migrations", home="mlc_registry", plugins=plugins
    )  # fmt: skip
    plugins.register(plugin, name="acme")
    monkeypatch.setattr(module, "model_migrations", lambda: catalog)

    assert ["1_to_2"] == [one.name for one in find_steps("net", 1, 2)]


@pytest.mark.parametrize(
    ("names", "way", "part"),
    [
        ([], (1, 2), r"a script net/1_to_2\.py is missing, below a directory that --scripts or MLC_MIGRATIONS names"),
        (["1_to_2", "3_to_4"], (1, 4), r"a script net/2_to_3\.py is missing\. There are: 1_to_2, 3_to_4"),
        (["1_to_2"], (2, 1), r"a script net/2_to_1\.py is missing"),
        (["1_to_2", "2_to_4", "1_to_3", "3_to_4"], (1, 4), "1_to_2, 2_to_4 or 1_to_3, 3_to_4; go step by step"),
        (["1_to_2"], (1, 1), "nothing to migrate"),
    ],
)
def test_way_that_is_not_clear_is_explained(scripts, names, way, part):
    """The step that is missing, or the ways there are."""
    with pytest.raises(MigrationError, match=part):
        find_steps("net", *way, scripts(*names))


@pytest.mark.parametrize(
    ("sources", "part"),
    [
        ({"_1_to_2": "x = 1"}, r"defines no function migrate\(source, target\)"),
        ({"_1_to_2": "def migrate("}, "cannot be read"),
        ({"_1_to_1": "def migrate(source, target): ..."}, "leads nowhere"),
        ({"_1.0_to_2": "def migrate(source, target): ..."}, "named as no migration is"),
        ({"_01_to_2": "def migrate(source, target): ..."}, "named as no migration is"),
    ],
)
def test_what_is_no_script_is_refused(scripts, sources, part):
    """With its path."""
    with pytest.raises(MigrationError, match=part):
        list_steps("net", scripts(**sources))


def test_step_with_two_scripts_is_refused(scripts, tmp_path):
    """Nobody could say which was meant."""
    with pytest.raises(MigrationError, match="1_to_2 has two scripts"):
        list_steps("net", [scripts("1_to_2"), scripts("1_to_2", folder="more")])
    with pytest.raises(MigrationError, match="nowhere is no directory"):
        list_steps("net", tmp_path / "nowhere")
