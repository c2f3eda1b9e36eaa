"""Those who watch a run: the journal on disk; the progress on screen, which needs click, is in a module of its own."""

from mlc_trainer.observers.journal import Journal, metrics_of, read_journal
from mlc_trainer.observers.protocol import Monitor, Observer, RunRecord, tell_end, without_monitors

__all__ = ["Journal", "Monitor", "Observer", "RunRecord", "metrics_of", "read_journal", "tell_end", "without_monitors"]
