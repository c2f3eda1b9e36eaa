"""The journal on disk and the progress on screen."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mlc_trainer import ExperimentManager, ResumeWarning, RunError, read_journal
from mlc_trainer.engine import Position
from mlc_trainer.observers import Journal, RunRecord
from mlc_trainer.observers.progress import LineProgress, RichProgress, progress

FREQUENT = {"save_strategy": "interval", "strategy_options": {"every": 2, "unit": "steps"}}


@pytest.fixture
def run_dir(tmp_path):
    """Where the run is going to be."""
    return tmp_path / "run"


def events(run_dir):
    """Return what happened and when, in order."""
    return [(line["event"], line["epoch"], line["step"]) for line in read_journal(run_dir / "metrics.jsonl")]


# ---------------------------------------------------------------------- the journal


def test_journal_tells_of_everything_once_and_in_order(configure, run_dir):
    """Steps when they are logged, checkpoints when they are durable, epochs before their checkpoint."""
    ExperimentManager(configure(checkpoints=FREQUENT, training={"num_epochs": 2, "log_every": 2}), run_dir).run()

    assert [
        ("started", 0, 0),
        ("step", 1, 2),
        ("checkpoint", 1, 2),
        ("epoch", 1, 3),
        ("checkpoint", 1, 3),
        ("step", 2, 4),
        ("checkpoint", 2, 4),
        ("step", 2, 6),
        ("epoch", 2, 6),
        ("checkpoint", 2, 6),
        ("ended", 2, 6),
    ] == events(run_dir)
    step = read_journal(run_dir / "metrics.jsonl")[1]
    assert {"event", "at", "epoch", "step", "loss", "dice_loss", "bce_loss", "lr"} == set(step)


def test_resume_forgets_what_happens_again_and_notes_itself(configure, run_dir, killer, killed):
    """No step is told twice; what was after the checkpoint is told when it comes again."""
    config = configure(checkpoints=FREQUENT, training={"num_epochs": 2, "log_every": 1})
    with pytest.raises(killed):
        ExperimentManager(config, run_dir, observers=[killer(5)]).run()
    before = events(run_dir)
    ExperimentManager.from_run(run_dir).resume_training()
    found = events(run_dir)
    told = [(what, step) for what, _, step in found]

    assert ("ended", 2, 5) == before[-1]
    assert len(told) == len(set(told))
    assert [("resumed", 2, 4)] == [one for one in found if one[0] == "resumed"]
    assert [1, 2, 3, 4, 5, 6] == [step for what, _, step in found if what == "step"]
    assert [3, 6] == [step for what, _, step in found if what == "epoch"]


def test_torn_last_line_is_left_out_and_cut_off(configure, run_dir, killer, killed):
    """A crash in the middle of a line costs that line, which is told again."""
    with pytest.raises(killed):
        ExperimentManager(configure(training={"log_every": 1}), run_dir, observers=[killer(5)]).run()
    journal = run_dir / "metrics.jsonl"
    whole = len(read_journal(journal))
    with journal.open("ab") as file:
        file.write(b'{"event": "step", "epo\x00\xff')

    assert whole == len(read_journal(journal))
    ExperimentManager.from_run(run_dir).resume_training()
    lines = journal.read_text().splitlines()
    assert [] == [line for line in lines if not json.loads(line)]
    assert list(range(1, 10)) == [line["step"] for line in map(json.loads, lines) if line["event"] == "step"]


@pytest.mark.parametrize("line", [b"{\n", b"\x00\n", b"[1]\n", b'{"event": "step"}\n', b"\xff\n"])
def test_line_that_is_none_is_said(tmp_path, line):
    """With the file, the number, and the way out."""
    journal = tmp_path / "metrics.jsonl"
    journal.write_bytes(b'{"event": "ended", "epoch": 1, "step": 1}\n' + line)
    with pytest.raises(RunError, match=rf"{journal}: line 2 is no line of a journal; remove it, or the file"):
        read_journal(journal)


def test_journal_that_was_removed_begins_anew(trained_copy):
    """Training does not need it."""
    (trained_copy / "metrics.jsonl").unlink()
    assert [] == read_journal(trained_copy / "metrics.jsonl")
    ExperimentManager.from_run(trained_copy).resume_training(1)

    assert "resumed" == events(trained_copy)[0][0]
    assert ("epoch", 4, 12) in events(trained_copy)


def test_epoch_is_in_the_journal_before_its_checkpoint_is_there(configure, run_dir, watcher):
    """Or a power cut between the two would lose its metrics."""
    found = []

    def look(position, _):
        found.append([line["epoch"] for line in read_journal(run_dir / "metrics.jsonl") if line["event"] == "epoch"])

    ExperimentManager(configure(), run_dir, observers=[watcher(checkpoint_saved=look)]).run()

    assert [[1], [1, 2], [1, 2, 3]] == found


# ---------------------------------------------------------------------- the screen


def test_lines_of_a_run(configure, run_dir, capsys):
    """Where it begins, a line for each epoch, and how it ended."""
    ExperimentManager(configure(), run_dir, observers=[LineProgress()]).run()
    lines = capsys.readouterr().out.splitlines()

    assert f"training model for 3 epochs of 3 steps: {run_dir}" == lines[0]
    assert ["epoch 1/3", "epoch 2/3", "epoch 3/3"] == [line[:9] for line in lines[1:4]]
    assert all(name in lines[1] for name in ("val_dice ", "val_dice_blob ", "val_loss ", "train_loss "))
    assert not any(name in lines[1] for name in ("val_bce_loss", "train_dice_loss", "lr "))
    assert lines[-1].startswith("finished: 9 steps in ")


def test_lines_of_a_resumed_run(configure, run_dir, capsys, killer, killed):
    """From which checkpoint, where that is, and what is not as it was."""
    config = configure(checkpoints=FREQUENT)
    with pytest.raises(killed):
        ExperimentManager(config, run_dir, observers=[killer(5), LineProgress()]).run()
    assert "stopped at step 5: Killed" == capsys.readouterr().out.splitlines()[-1]
    changed = configure(checkpoints=FREQUENT, training={"seed": 1})
    experiment = ExperimentManager(changed, run_dir, observers=[LineProgress()])
    with pytest.warns(ResumeWarning, match="training.seed was 0, is 1"):
        experiment.resume_training()
    lines = capsys.readouterr().out.splitlines()

    assert "resuming model from epoch_2_step_4: epoch 2, batch 1 of 3, step 4" == lines[0]
    assert "  not as it was: training.seed was 0, is 1" == lines[1]


RUN = RunRecord(
    id="1",
    directory=Path("runs/tiny"),
    model_name="[bold]tiny",
    num_epochs=2,
    batches_per_epoch=3,
    resumed_from=None,
    differences=(),
)


def test_bar_on_a_terminal(monkeypatch):
    """With loss, speed and the time left; the lines of the epochs stay above it."""
    console = Console(force_terminal=True, width=120, record=True)
    monkeypatch.setattr(sys.modules[RichProgress.__module__], "stdout", lambda: console)
    bar = RichProgress()
    bar.run_started(RUN, Position())
    for step in range(1, 4):
        bar.step_ended(Position(batch=step, step=step))
    bar.step_logged(Position(batch=3, step=3), {"loss": 0.5, "lr": 0.1})
    bar._bar.refresh()
    bar.epoch_ended(Position(epoch=1, step=3), {"val_loss": 0.25, "lr": 0.1})
    bar.checkpoint_saved(Position(epoch=1, step=3), "epoch_1")
    bar.run_ended(Position(epoch=1, step=3), None)
    text = console.export_text()

    assert "training [bold]tiny for 2 epochs of 3 steps: runs/tiny" in text
    assert "3/6" in text
    assert "epoch 1  loss 0.5000" in text
    assert "steps/s" in text
    assert "epoch 1/2  val_loss 0.2500" in text
    assert "finished: 3 steps in" in text


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, RichProgress), (False, LineProgress)])
def test_bar_only_where_somebody_sees_it(monkeypatch, is_terminal, kind):
    """A log gets lines."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)

    assert kind is type(progress())


def test_journal_alone_can_be_used(tmp_path):
    """In a loop that somebody else owns; every line is JSON for any reader, which has no NaN."""
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.run_started(RUN, Position())
    journal.step_ended(Position(batch=1, step=1))
    journal.step_logged(Position(batch=1, step=1), {"loss": 1.0, "odd": float("nan"), "large": float("inf")})
    journal.run_ended(Position(batch=1, step=1), ValueError("enough"))

    assert '"odd": null, "large": null' in (tmp_path / "metrics.jsonl").read_text()
    assert [1.0, "ValueError: enough"] == [
        line.get("loss", line.get("error")) for line in read_journal(tmp_path / "metrics.jsonl")[1:]
    ]
