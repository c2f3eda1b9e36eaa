"""Finding versions of all models: what can be asked, how it is asked for, and that no question reads everything."""

import json

import pytest

from mlc_registry import InvalidNameError, InvalidQueryError, InvalidTagError, ModelNotFoundError, Query, Tracking
from mlc_registry.search import read_metric
from mlc_registry.stores import searches
from mlc_registry.stores.conditions import count_matches, read_conditions
from mlc_registry.testing import SearchesContract
from mlc_registry.words import split_words


@pytest.fixture
def filled(registry, publish):
    """Four versions of two models."""
    tracking = Tracking(run="exp_7", dataset="CT 1.2", commit="abc", checkpoint="net/9", metrics={"dice": 0.9})
    publish("1.0.0", description="First of all.", tracking=tracking, tags={"task": "segmentation"}, notes="# Größe")
    publish("1.1.0", tracking=Tracking(metrics={"dice": 0.95, "val/loss": 0.1}), tags={"task": "classification"})
    publish("0.1.0", name="brain-tissue", description="All of the brain.")
    publish("0.2.0", name="brain-tissue", tracking=Tracking(dataset="MR"))
    registry.yank("brain-tissue", "0.2.0", "bad labels")
    registry.promote("net", "1.0.0", "production")
    return registry


def _found(registry, *words, **asked):
    return [f"{one.model} {one.version}" for one in registry.search(*words, **asked).versions]


@pytest.mark.parametrize(
    ("words", "asked", "expected"),
    [
        ([], {}, ["brain-tissue 0.1.0", "net 1.1.0", "net 1.0.0"]),
        ([], {"yanked": True, "model": "brain-tissue"}, ["brain-tissue 0.2.0", "brain-tissue 0.1.0"]),
        (["BRAIN"], {}, ["brain-tissue 0.1.0"]),
        (["brain-tis"], {}, ["brain-tissue 0.1.0"]),
        (["tissue", "al"], {}, ["brain-tissue 0.1.0"]),
        (["al", "tissue"], {}, []),
        (["of all"], {}, ["brain-tissue 0.1.0", "net 1.0.0"]),
        (["GRÖSSE"], {}, ["net 1.0.0"]),
        (["ct"], {}, ["net 1.0.0"]),
        (["class"], {}, ["net 1.1.0"]),
        (["task"], {}, ["net 1.1.0", "net 1.0.0"]),
        ([], {"tags": {"task": "segmentation"}}, ["net 1.0.0"]),
        ([], {"tags": {"task": None}, "metrics": ["dice >= 0.9", "val/loss<1"]}, ["net 1.1.0"]),
        ([], {"metrics": ["dice=0.95"]}, ["net 1.1.0"]),
        ([], {"metrics": "dice>0.9"}, ["net 1.1.0"]),
        ([], {"stage": "@production"}, ["net 1.0.0"]),
        ([], {"dataset": "CT 1.2", "run": "exp_7", "commit": "abc", "checkpoint": "net/9"}, ["net 1.0.0"]),
        ([], {"dataset": "ct 1.2"}, []),
        (["net"], {"model": "brain-tissue"}, []),
    ],
)
def test_versions_are_found_by_what_is_said_about_them(filled, words, asked, expected):
    """Everything that is asked must hold; the last published comes first."""
    assert expected == _found(filled, *words, **asked)


def test_pages_follow_each_other(filled):
    """Each with what to ask for the next."""
    first = filled.search(limit=2)
    second = filled.search(limit=2, after=first.next)

    assert ["0.1.0", "1.1.0", "1.0.0"] == [str(one.version) for one in (*first.versions, *second.versions)]
    assert second.next is None


def test_what_changes_is_found_as_it_is(filled):
    """Tags and notes of today, not those of yesterday."""
    statements = filled._backend.store.statements
    number = filled.get("net", "1.0.0").version
    statements.set_tags("net", number, {"task": "kittens"}, actor="ann")
    statements.state("net", number, kind="noted", details="Now *smaller*.", actor="ann")

    assert ["net 1.0.0"] == _found(filled, "smaller", "kitten") == _found(filled, tags={"task": "kittens"})
    assert [] == _found(filled, "größe") == _found(filled, "segmentation")


@pytest.mark.parametrize(
    ("words", "asked", "error", "part"),
    [
        (["--"], {}, InvalidQueryError, "'--' holds no letter"),
        ([""], {}, InvalidQueryError, "holds no letter"),
        ([], {"metrics": ["dice"]}, InvalidQueryError, "'dice' compares no metric"),
        ([], {"metrics": ["dice>x"]}, InvalidQueryError, "write dice>=0.9"),
        ([], {"metrics": ["dice>nan"]}, InvalidQueryError, "write dice>=0.9"),
        ([], {"metrics": [">1"]}, InvalidQueryError, "write dice>=0.9"),
        ([], {"metrics": ["a>1>2"]}, InvalidQueryError, "write dice>=0.9"),
        ([], {"run": "a\0b"}, InvalidQueryError, "null character"),
        ([], {"after": "x"}, InvalidQueryError, "'x' is no page"),
        ([], {"limit": 0}, InvalidQueryError, "limit=0"),
        ([], {"limit": 1001}, InvalidQueryError, "from 1 to 1000"),
        (["a"] * 41, {}, InvalidQueryError, "41 words"),
        ([], {"model": "../x"}, InvalidNameError, "cannot name a model"),
        ([], {"stage": "^1"}, InvalidNameError, "cannot name a stage"),
        ([], {"tags": {"": "x"}}, InvalidTagError, "cannot be the key"),
        ([], {"model": "nett"}, ModelNotFoundError, "Did you mean 'net'"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(filled, words, asked, error, part):
    """It says what can."""
    with pytest.raises(error, match=part.replace("^", r"\^")):
        filled.search(*words, **asked)


def test_metrics_may_have_any_name(registry):
    """But for the signs."""
    assert ("val/dice (mean)", "<=", -1e-3) == read_metric(" val/dice (mean)<=-1e-3 ")
    assert ("x", "==", 1.0) == read_metric("x==1")


def test_words_are_those_of_any_language():
    """Whatever their case, and however their letters are composed."""
    assert {"unet", "v2", "strasse", "mr"} == split_words("UNet_v2 Straße", "--", "ＭＲ")
    assert split_words("caf\u00e9") == split_words("CAFE\u0301")
    assert {64} == {len(one) for one in split_words("x" * 100)}


class TestWhateverIsRare(SearchesContract):
    """Each way of answering finds the same: by what is rare, and by walking through what is not."""

    @pytest.fixture(params=[0, 3])
    def rare(self, request, monkeypatch):
        """Let hardly anything be rare, or nothing."""
        monkeypatch.setattr(searches, "RARE", request.param)

    @pytest.fixture
    def store(self, rare, registry):
        """Return a store that has to walk."""
        return registry._backend.store


class TestWhateverIsRareOnPostgresql(TestWhateverIsRare):
    """The same on a server."""

    @pytest.fixture
    def store(self, rare, make_database):
        """Return a store that has to walk."""
        from mlc_registry.catalogs import open_store

        store = open_store(make_database(), create=False)
        yield store
        store.close()


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        (Query(model="net"), "ix_version_newest (model_id=? AND id<?)"),
        (Query(model="net", yanked=True), "ix_version_yanked (model_id=? AND id<?)"),
        (Query(stage="production"), "ix_stage_name (name=? AND version_id<?)"),
        (Query(tags={"a": "b"}), "ix_tag_value (key=? AND value=? AND version_id<?)"),
        (Query(tags={"a": None}), "ix_tag_key (key=? AND version_id<?)"),
        (Query(dataset="x"), "mark USING PRIMARY KEY (kind=? AND value=? AND version_id<?)"),
        (Query(run="x"), "mark USING PRIMARY KEY (kind=? AND value=? AND version_id<?)"),
        (Query(words=("a", "b")), "word USING PRIMARY KEY (word=? AND version_id<?)"),
        (Query(metrics=[("a", ">=", 1.0)]), "ix_metric_version (name=? AND version_id<?)"),
        (Query(), "version USING INTEGER PRIMARY KEY (rowid<?)"),
    ],
)
def test_pages_of_what_is_frequent_are_walked_in_their_order(registry, asked, index):
    """From where the page before ended, without sorting anything."""
    plan = _plan(registry, asked, driver=0 if asked != Query() else None, walks=True)

    assert index in plan
    assert "TEMP B-TREE" not in plan or asked.yanked  # of two pages, one of them of yanked versions
    assert "SCAN version" not in plan


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        (Query(metrics=[("a", ">=", 1.0)]), "ix_metric_value (name=? AND value>?)"),
        (Query(metrics=[("a", "==", 1.0)]), "ix_metric_value (name=? AND value=?)"),
        (Query(metrics=[("a", "<=", 2.0), ("a", ">", 1.0)]), "ix_metric_value (name=? AND value>? AND value<?)"),
        (Query(words=("a",)), "word USING PRIMARY KEY (word>? AND word<?)"),
    ],
)
def test_what_is_rare_is_looked_up(registry, asked, index):
    """By its value; the rest is never read."""
    plan = _plan(registry, asked, driver=0, walks=False)

    assert index in plan
    assert "SCAN version" not in plan


def test_every_condition_is_probed_and_counted_by_an_index(registry):
    """Whichever the search begins with, no table is scanned for the others."""
    query = Query(
        model="net",
        stage="production",
        tags={"a": "b", "c": None},
        metrics=[("a", ">", 1.0)],
        dataset="x",
        words=("a", "b"),
    )
    conditions, values = read_conditions(query)
    for one in conditions:
        for walks in (False, True):
            scanned = [line for line in _plan(registry, query, one.number, walks).splitlines() if "SCAN" in line]
            assert {"SCAN anon_1"} == set(scanned)  # the page itself
        plan = _explain(registry, registry._backend.store.searches._prepare(count_matches, one), values)
        assert "SEARCH" in plan
        assert {"SCAN anon_1"} == {line for line in plan.splitlines() if "SCAN" in line}


def _plan(registry, query, driver, walks):
    conditions, values = read_conditions(query)
    store = registry._backend.store
    prepared = store.searches._prepare(searches._find_versions, conditions, driver, walks, query.yanked)
    return _explain(registry, prepared, {**values, "after": 9})


def _explain(registry, prepared, values):
    reader = registry._backend.store._reader
    with reader._lock:
        asked = prepared.bind({**values, "limit": 5})
        rows = reader._held.take().connection.cursor().execute(f"EXPLAIN QUERY PLAN {prepared.text}", asked).fetchall()
    return "\n".join(row[3] for row in rows)


def test_command_finds(filled, mlc, root):
    """As a table, and as JSON with the page that follows."""
    status, out, err = mlc("registry", "search", "--registry", root, "--metric", "dice>=0.9", "--tag", "task")
    assert (0, "") == (status, err)
    assert all(one in out for one in ("1.1.0", "0.95", "1.0.0", "production", "dice"))

    asked = ("registry", "search", "--registry", root, "--limit", 1, "--json")
    first = json.loads(mlc(*asked)[1])
    second = json.loads(mlc(*asked, "--after", first["next"])[1])
    everything = json.loads(mlc(*asked, "--all", "--yanked")[1])
    assert ["brain-tissue", "net"] == [one["versions"][0]["model"] for one in (first, second)]
    assert {"dice": 0.95, "val/loss": 0.1} == second["versions"][0]["tracking"]["metrics"]
    assert (4, None) == (len(everything["versions"]), everything["next"])
    assert "bad labels" in mlc("registry", "search", "brain", "--yanked", "--registry", root)[1]
    assert "--after" in mlc("registry", "search", "--limit", 2, "--registry", root)[2]


def test_command_refuses(filled, mlc, root):
    """What cannot be searched for."""
    assert 1 == mlc("registry", "search", "--metric", "dice", "--registry", root)[0]
    assert 2 == mlc("registry", "search", "--tag", "a=b", "--tag", "a=c", "--registry", root)[0]
