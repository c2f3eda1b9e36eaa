"""Those who watch a run: the journal on disk and the progress on screen."""

from mlc_trainer.observers.journal import Journal, metrics_of, read_journal
from mlc_trainer.observers.progress import progress, worth_a_glance
from mlc_trainer.observers.protocol import Observer, RunRecord

__all__ = ["Journal", "Observer", "RunRecord", "metrics_of", "progress", "read_journal", "worth_a_glance"]
