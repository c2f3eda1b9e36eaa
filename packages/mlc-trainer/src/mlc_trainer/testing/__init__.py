"""What holds for parts that plugins bring, as tests to inherit. Needs `mlc-trainer[testing]`."""

from mlc_trainer.testing.observer import ObserverContract, tell_a_run

__all__ = ["ObserverContract", "tell_a_run"]
