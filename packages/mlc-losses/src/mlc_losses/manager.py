"""The calls from configuration dictionaries to losses, and to what moves their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_losses.configs import make_supervised, read_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlc_losses.protocols import Loss
    from mlc_losses.scheduler import LossScheduler

__all__ = ["LossManager"]


class LossManager:
    """Makes losses and their schedulers from configuration dictionaries."""

    @staticmethod
    def create_loss_function(config: Mapping[str, Any]) -> Loss:
        """Make the loss that *config* describes; *config* stays as it is.

        `type` names a loss: "dice", "jaccard", "bce", "focal", "combined", or what a plugin offers. The other keys are
        its options. A combined loss takes `<name>_weight` and `<name>_config` for each component, and for all of them
        `mode`, `from_logits`, `ignore_index`, `check_inputs`, `label_smoothing`, `reduction` and `distributed`:

            {"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3, "dice_config": {"smooth": 1e-6}}

        A component is the loss of that name, unless its configuration has another `type`. Every loss takes
        `deep_supervision`: True, or the weight of each output.

        Raises:
            UnknownNameError: If nobody offers a loss of that name; says what is close.
            LossConfigError: If a key or a value cannot be followed; says what is close.
        """
        return make_supervised(*read_config(config))

    @staticmethod
    def create_loss_scheduler(loss: Loss, config: Mapping[str, Any]) -> LossScheduler:
        """Make what moves the weights of the combined *loss* as *config* describes; *config* stays as it is.

        `type` names a schedule: "adaptive", "cosine", "step", "performance", or what a plugin offers; `params` are its
        options, and `prefix` and `distributed` those of `LossScheduler`:

            {"type": "adaptive", "params": {"method": "inverse", "min_weight": 0.1}}

        Raises:
            UnknownNameError: If nobody offers a schedule of that name; says what is close.
            LossConfigError: If a key or a value cannot be followed, or *loss* has no components.
        """
        from mlc_losses.schedules.configs import make_schedule, read_schedule_config

        config = read_schedule_config(config)
        schedule = make_schedule(config.pop("type"), config.pop("params", None) or {})
        from mlc_losses.scheduler import LossScheduler

        return LossScheduler(loss, schedule, **config)
