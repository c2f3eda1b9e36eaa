"""Configurations: from files and data and back, changed from outside, and what is wrong with them."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_trainer import ConfigError, as_data, from_data, read_config
from mlc_trainer.config import LossConfig, ModelConfig, SchedulerConfig, TrainingConfig
from mlc_trainer.config_files import override, settings_that_matter
from mlc_trainer.yaml_files import load_yaml

TOML = """
[model]
factory = "tiny:Net"
options = { dropout = 0.1 }

[data]
factory = "tiny:Blobs"
batch_size = 3

[loss]
preset = "dice_focused"
config = { mode = "multilabel" }

[scheduler]
name = "StepLR"
every = "epoch"
options = { step_size = 2 }

[training]
num_epochs = 2
clip_norm = 1
"""


@pytest.fixture
def toml(tmp_path):
    """A file as a person writes it."""
    path = tmp_path / "run.toml"
    path.write_text(TOML)
    return path


def test_toml_is_read(toml):
    """With defaults where nothing is said, and a whole number where a number belongs."""
    config = read_config(toml)

    assert (3, True, 0) == (config.data.batch_size, config.data.shuffle, config.data.workers)
    assert (1.0, float) == (config.training.clip_norm, type(config.training.clip_norm))
    assert ("AdamW", "epoch", None) == (config.optimizer.name, config.scheduler.every, config.metrics)


def test_what_is_written_as_json_is_read_again(toml, tmp_path):
    """Every default spelled out."""
    config = read_config(toml)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(as_data(config)))

    assert config == read_config(path)
    assert config == from_data(as_data(config))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(options=st.dictionaries(st.text(), json_values), epochs=st.integers(1, 10**6), seed=st.integers(0, 2**70))
def test_any_options_survive_the_way_through_a_file(plain, options, epochs, seed):
    """What a run is built from and what it is resumed from are the same."""
    training = {"num_epochs": epochs, "seed": seed}
    config = from_data(plain(model={"factory": "tiny:Net", "options": options}, training=training))

    assert config == from_data(json.loads(json.dumps(as_data(config))))


def test_options_are_what_a_file_gives_back():
    """A tuple is a list from the beginning, so that a resumed run is built from the same; a class is refused."""
    assert [1, 2] == ModelConfig(factory="tiny:Net", options={"shape": (1, 2)}).options["shape"]
    with pytest.raises(ConfigError, match=r"must be what a file can hold: .*type is not JSON serializable"):
        ModelConfig(factory="tiny:Net", options={"activation": int})
    with pytest.raises(ConfigError, match="must be what a file can hold"):
        ModelConfig(factory="tiny:Net", options=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": {}}, r"unknown key 'modle'. Did you mean 'model'\? Known: callbacks, checkpoints, data, "),
        ({"model": {"factory": "a:B", "optoins": {}}}, r"unknown key 'model.optoins'. Did you mean 'options'\?"),
        ({"model": {}}, "'model.factory' is missing"),
        ({"model": 3}, "model: 3 is not a table"),
        ({"training": None}, "training: None is not a table"),
        ({"data": {"factory": "a:B", "options": 3}}, "data.options: 3 is not a table"),
        ({"training": {}}, "'training.num_epochs' is missing"),
        ({"training": {"num_epochs": "3"}}, "training.num_epochs: '3' is not a whole number"),
        ({"training": {"num_epochs": 2.5}}, "training.num_epochs: 2.5 is not a whole number"),
        ({"training": {"num_epochs": True}}, "training.num_epochs: True is not a whole number"),
        ({"training": {"num_epochs": 0}}, "num_epochs = 0 must be 1 or more"),
        ({"training": {"num_epochs": 1, "seed": -1}}, "seed = -1 must be 0 or more"),
        ({"training": {"num_epochs": 1, "threads": "two"}}, "training.threads: 'two'"),
        ({"training": {"num_epochs": 1, "clip_norm": "x"}}, "training.clip_norm: 'x'"),
        ({"training": {"num_epochs": 10**30}}, f"num_epochs = {10**30} must be from 1 to {2**53}"),
        ({"training": {"num_epochs": 1, "threads": 10**9}}, "threads = 1000000000 must be from 1 to 4096"),
        ({"data": {"factory": "tiny:Blobs", "workers": 10**9}}, "workers = 1000000000 must be from 0 to 4096"),
        ({"data": {"factory": "tiny:Blobs", "batch_size": 2**70}}, f"batch_size = {2**70} must be from 1 to {2**53}"),
        ({"data": {"factory": "tiny:Blobs", "timeout": float("nan")}}, "timeout = nan must be from 0 to 100000000"),
        ({"data": {"factory": "tiny:Blobs", "timeout": float("inf")}}, "timeout = inf must be from 0 to 100000000"),
        ({"training": {"num_epochs": 1, "clip_norm": float("inf")}}, "clip_norm = inf must be more than 0, and finite"),
        ({"training": {"num_epochs": 1, "clip_norm": 0}}, "clip_norm = 0.0 must be more than 0"),
        ({"training": {"num_epochs": 1, "clip_norm": float("nan")}}, "clip_norm = nan must be more than 0"),
        ({"training": {"num_epochs": 1, "device": 0}}, "training.device: 0 is not a text"),
        ({"training": {"num_epochs": 1, "deterministic": 1}}, "training.deterministic: 1 is not true or false"),
        ({"training": {"num_epochs": 1, "threads": 0}}, "threads = 0 must be 1 or more"),
        ({"data": {"factory": "a:B", "batch_size": 0}}, "batch_size = 0 must be 1 or more"),
        ({"loss": {}}, "loss needs a preset, as 'default_segmentation', or a config"),
        ({"loss": {"preset": "default_segmentation", "config": []}}, r"loss.config: \[\] is not a table"),
        ({"checkpoints": {"max_checkpoints": 1}}, "max_checkpoints = 1 must be 2 or more"),
        ({"checkpoints": {"mode": "most"}}, "checkpoints: mode = 'most' must be 'min' or 'max'"),
        ({"scheduler": {"name": "StepLR", "every": "week"}}, "scheduler: every = 'week' must be 'step' or 'epoch'"),
    ],
)
def test_what_cannot_be_followed_is_said(plain, change, message):
    """Where it is, and what is close."""
    with pytest.raises(ConfigError, match=message):
        from_data({**plain(), **change}, where="run.toml")


def test_configuration_that_is_no_table_is_refused():
    """As a whole, too."""
    with pytest.raises(ConfigError, match=r"^configuration: \[1\] is not a table"):
        from_data([1])


def test_every_fault_is_said_at_once(plain):
    """Whoever mends one need not come back for the next."""
    data = {**plain(), "modle": {}, "training": {"num_epochs": "3", "sede": 1}}
    with pytest.raises(ConfigError) as caught:
        from_data(data, where="run.toml")

    assert str(caught.value).startswith("run.toml: ")
    assert all(word in str(caught.value) for word in ("modle", "num_epochs", "sede"))


def test_wrong_words_in_python_are_refused_too():
    """Where a type checker would have said so."""
    with pytest.raises(ConfigError, match="every = 'week' must be 'step' or 'epoch'"):
        SchedulerConfig(name="StepLR", every="week")
    with pytest.raises(ConfigError, match="loss needs a preset"):
        LossConfig()
    with pytest.raises(ConfigError, match="num_epochs = 0"):
        TrainingConfig(num_epochs=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.toml", "a = ", "is not TOML"),
        ("run.json", "{", "is not JSON"),
        ("run.json", "[1, 2]", "holds list where tables of settings belong"),
        ("run.json", "[" * 100_000, "is not JSON"),
        ("run.toml", "\x00", "is not TOML"),
    ],
)
def test_file_that_cannot_be_read_is_said(tmp_path, name, content, message):
    """By its path."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match=f"{path} {message}"):
        read_config(path)


def test_missing_file_is_said(tmp_path):
    """As the system does."""
    with pytest.raises(ConfigError, match=r"nowhere.toml cannot be read: No such file"):
        read_config(tmp_path / "nowhere.toml")


def test_settings_replace_what_the_file_says(toml):
    """Tables that are not there are made, bare words are texts, everything else is TOML."""
    settings = [
        "training.num_epochs=5",
        "training.device=cpu",
        "optimizer.options.lr=1e-3",
        'model.name = "tiny"',
    ]
    config = read_config(toml, [*settings, "data.options={length = 9}", "data.shuffle=false"])

    assert (5, "cpu", "tiny", False) == (
        config.training.num_epochs,
        config.training.device,
        config.model.name,
        config.data.shuffle,
    )
    assert ({"lr": 1e-3}, {"length": 9}) == (config.optimizer.options, config.data.options)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.seed", "must be KEY=VALUE, as training.seed=1"),
        ("=3", "must be KEY=VALUE"),
        ("training.num_epochs.x=3", "num_epochs is 2, not a table"),
        ("trainig.seed=3", r"unknown key 'trainig'. Did you mean 'training'\?"),
        ("training.num_epochs=three", "'three' is not a whole number"),
        ("training.num_epochs=", "'' is not a whole number"),
    ],
)
def test_settings_that_cannot_be_followed_are_said(toml, setting, message):
    """As those of a file are."""
    with pytest.raises(ConfigError, match=message):
        read_config(toml, [setting])


def test_settings_leave_the_data_alone():
    """A changed copy is returned."""
    data = {"training": {"seed": 1}}

    assert {"training": {"seed": 2}} == override(data, ["training.seed=2"])
    assert {"training": {"seed": 1}} == data


def test_settings_that_change_no_bit_do_not_matter(plain):
    """What is trained and measured depends on the others."""
    data = as_data(from_data(plain(training={"clip_norm": 1.0}, checkpoints={"max_checkpoints": 9})))
    found = settings_that_matter(data)

    assert 1.0 == found["training.clip_norm"]
    assert ["blob"] == found["metrics.options.classes"]
    assert not {"data.workers", "training.num_epochs", "training.device", "checkpoints.max_checkpoints"} & {*found}


# ---------------------------------------------------------------------- YAML, and keys that are there twice


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aeinoxy0123.:-+# '", max_size=6)
)
TREES = st.dictionaries(
    st.text("aenoy1.~", max_size=4), st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
)


@given(data=TREES)
def test_yaml_is_read_as_it_was_written(data):
    """JSON is YAML; and what YAML 1.2 writes in its own way is the same."""
    pytest.importorskip("yaml")

    assert data == load_yaml(json.dumps(data))
    assert data == load_yaml(
        "".join(f"{json.dumps(name)}:\n  {json.dumps(one)}\n" for name, one in data.items()) or "{}"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("no", "no"), ("on", "on"), ("12:30:45", "12:30:45"), ("2024-01-01", "2024-01-01"), ("010", 10),
     ("0o10", 8), ("0x1f", 31), ("~", None), ("", None), ("True", True), ("'1'", "1"), (".inf", float("inf")),
     ("-.INF", float("-inf")), ("1.", 1.0), ("1_000", "1_000"), ("[1, {a: b}]", [1, {"a": "b"}])],
)  # fmt: skip
def test_yaml_means_what_it_says(text, value):
    """As YAML 1.2 has it: `no` is a word, a rate is a number, a date is a text."""
    pytest.importorskip("yaml")

    assert {"a": value} == load_yaml(f"a: {text}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: 1\nb: 2\na: 3\n", "is not YAML: line 3: the key 'a' is there twice"),
        ("a.yml", "a: &x 1\nb: *x\n", r"line 1: the anchor &x is more than a configuration needs"),
        ("a.yaml", "a: !!python/name:os.system\n", "the tag tag:yaml.org,2002:python/name:os.system"),
        ("a.yaml", "1: 2\n", "line 1: the key 1 is no text; put it in quotes"),
        ("a.yaml", "a: [1\n", "is not YAML: while parsing a flow sequence"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "is not YAML: expected a single document"),
        ("a.yaml", "a: " + "[" * 100_000, "line 1: tables and lists lie more than 100 deep in each other"),
        ("a.yaml", "- " * 100_000, "line 1: tables and lists lie more than 100 deep in each other"),
        ("a.yaml", "- 1\n", "holds list where tables of settings belong"),
        ("a.yaml", "modle: {}\n", "unknown key 'modle'. Did you mean 'model'"),
        ("a.json", '{"a": 1, "a": 2}', "is not JSON: the key 'a' is there twice"),
    ],
)
def test_file_that_cannot_be_followed(name, text, message, tmp_path):
    """Says where, whatever it is written in."""
    pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / name)


def test_yaml_trains(tmp_path, plain, mlc):
    """`mlc train config.yaml`."""
    yaml = pytest.importorskip("yaml")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain(training={"num_epochs": 1})))
    done = mlc("train", tmp_path / "tiny.yaml", "--run-dir", tmp_path / "run", "--set", "training.seed=3", "--json")

    assert 0 == done.code, done.err
    assert from_data(plain(training={"num_epochs": 1, "seed": 3})) == read_config(tmp_path / "run/config.json")


def test_without_pyyaml_the_extra_is_named(tmp_path, monkeypatch):
    """And nothing else is needed."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"a.yaml: YAML needs PyYAML.*pip install 'mlc-trainer\[yaml\]'"):
        read_config(tmp_path / "a.yaml")
