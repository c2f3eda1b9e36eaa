"""What a resume came to: what was restored, what was not and why, and what is not as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from mlc_hooks.console import human_size
from mlc_trainer.words import setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlc_core import Saved
    from mlc_trainer.engine import Position

__all__ = ["Difference", "ResumeReport", "as_facts", "compare", "report_resume"]

TOLD = ("git.", "plugins.")
"""What is told when it changes, and alone is no reason to expect other bits."""
KEPT = ("loss.", "optimizer.", "scheduler.")
"""Settings of which the checkpoint's holds, whatever the configuration says: they are restored with its state."""
SAID = {"last_epoch": "at", "scale": "scale", "n_averaged": "steps averaged", "best": "best", "waited": "waited"}
"""Numbers in a state that tell a person where it stands."""
REBUILT = {
    "data order": "counted, not stored: a function of the seed, the epoch and the batch",
    "random generators": "not stored: every step and every sample starts them from a seed of its own",
}
"""What no checkpoint holds, and why it need not."""
COMPARED = {
    "environment": "compared, not restored",
    "experiment": "compared, not restored: of optimizer, scheduler and loss the checkpoint's holds, of all else what "
    "the configuration says now",
    "manager": "compared, not restored: what the manager is told now holds",
}
ABSENT = "the run has none"
PARTS = ("scheduler", "scaler", "average", "loss_scheduler", "early_stopping")
"""What a run may have, beside what each has."""


@attrs.frozen(kw_only=True)
class Difference:
    """Something that is not as it was when the checkpoint was saved."""

    key: str
    """A setting as `optimizer.options.lr`, or a fact of the environment as `threads` or `git.commit`."""
    before: Any
    """None if it was not there."""
    now: Any
    matters: bool
    """Whether other bits are to be expected for it."""
    kept: bool = False
    """Whether *before* holds, and *now* has no effect: the checkpoint's state puts it back."""

    def __str__(self) -> str:
        if self.kept:
            return f"{self.key} is {self.before}, as in the checkpoint, and not {self.now}"
        return f"{self.key} was {self.before}, is {self.now}"


@attrs.frozen(kw_only=True)
class ResumeReport:
    """What a resume came to."""

    checkpoint: str
    """The name of what was loaded."""
    epoch: int
    """Epochs that were complete."""
    batch: int
    """Batches of the next one that were trained on."""
    step: int
    restored: Mapping[str, str]
    """Each part that got its state back, with its size or where it stands."""
    not_restored: Mapping[str, str]
    """Each that did not, and why."""
    differences: Sequence[Difference] = ()
    """Configuration and environment, before and now."""
    passed_over: Sequence[str] = ()
    """Checkpoints that would have been loaded and cannot be, with the cause."""

    @property
    def to_the_bit(self) -> bool:
        """Whether the rest is expected to be what an undisturbed run would have come to, bit for bit."""
        return not any(one.matters for one in self.differences)

    @property
    def verdict(self) -> str:
        """`to_the_bit`, in words."""
        if not self.to_the_bit:
            keys = ", ".join(one.key for one in self.differences if one.matters)
            return f"need not be equal to the bit: {keys}"
        return "expected to be equal to the bit" + (
            ", if the code still does the same" if not all(one.kept for one in self.differences) else ""
        )

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**attrs.asdict(self), "to_the_bit": self.to_the_bit, "verdict": self.verdict}

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield the lines of a table: what happened, to what, and how."""
        yield from (("passed over", "", one) for one in self.passed_over)
        yield from (("restored", name, detail) for name, detail in self.restored.items())
        yield from (("not restored", name, why) for name, why in self.not_restored.items())
        for one in self.differences:
            if one.kept:
                said = f"{setting(one.before)}: the checkpoint's holds, not {setting(one.now)}"
                yield "kept", one.key, said
                continue
            yield "changed" if one.matters else "told", one.key, f"{setting(one.before)} -> {setting(one.now)}"
        yield "the rest", "", self.verdict


def as_facts(report: ResumeReport | None) -> dict[str, Any]:
    """Return what the record of a run that starts says of it."""
    if report is None:
        return {}
    said = tuple(map(str, report.differences))
    return {"resumed_from": report.checkpoint, "differences": said, "resume": report}


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Sequence[Difference]:
    """Return what differs between *before* and *now*, by key."""
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return [
        Difference(
            key=key,
            before=before.get(key),
            now=now.get(key),
            matters=_matters(key, before, now),
            kept=key.startswith(KEPT),
        )
        for key in keys
    ]


def _matters(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if key.startswith("packages."):
        return key in before and key in now  # of one that is known at one time only nothing can be said
    return not key.startswith(TOLD + KEPT)


def report_resume(
    saved: Saved,
    state: Mapping[str, Any],
    *,
    position: Position,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    passed_over: Sequence[str] = (),
) -> ResumeReport:
    """Return what loading *saved* came to, whose items had this *state*; *before* and *now* are compared."""
    restored = {name: _describe(one) for name, one in state.items() if name not in {*COMPARED, "engine"}}
    absent = {name: ABSENT for name in PARTS if name not in state}
    compared = {name: why for name, why in COMPARED.items() if name in state}
    return ResumeReport(
        checkpoint=saved.name,
        epoch=position.epoch,
        batch=position.batch,
        step=position.step,
        restored={**restored, **_describe_engine(state["engine"], position)},
        not_restored={**compared, **REBUILT, **absent},
        differences=compare(before, now),
        passed_over=tuple(passed_over),
    )


def _describe_engine(state: Mapping[str, Any], position: Position) -> dict[str, str]:
    """Return what the engine's own state tells, a part of it by each name."""
    found = {"position": f"epoch {position.epoch + 1}, batch {position.batch}, step {position.step}"}
    found["means of the epoch"] = f"{state['means']['samples']} samples"
    if state["passed_over"] or state["avoided"]:
        found["batches passed over"] = f"{state['passed_over']}, to avoid: {len(state['avoided'])}"
    return found


def _describe(state: Any) -> str:
    """Return how large a state is, and where it stands."""
    tensors = list(_tensors(state))
    size = sum(one.nbytes for one in tensors)
    said = [f"{len(tensors)} tensors, {human_size(size)}"] if tensors else []
    if isinstance(state, Mapping):
        values = {word: state[name] for name, word in SAID.items() if name in state}
        said += [f"{word} {_plain(value)}" for word, value in values.items()]
    return ", ".join(said) or "as it was"


def _plain(value: Any) -> str:
    number = value.item() if hasattr(value, "item") else value
    return f"{number:.6g}" if isinstance(number, float) else str(number)


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "nbytes") and hasattr(value, "shape"):  # torch's or NumPy's, and neither is imported for this
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
