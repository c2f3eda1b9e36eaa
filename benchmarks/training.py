"""What a training loop adds to a step, ours beside the peers, in turn, in one process; the table goes into the page.

    python -m nox -s bench -- training                    as docs/training/benchmarks.md has it
    python benchmarks/training.py --rounds 7 --only bare mlc --print

All train the same model on the same rows with the same loss (`torch.nn.MSELoss`) and the same optimizer, in batches
that a `DataLoader` puts together. A sample is a run of its own, of which the first steps and what comes before and
after them are not timed. One during which something else used the processor is thrown away and taken again.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
import torch
from tiny_mlp import BATCH, STEPS, Rows, TinyMLP
from torch import Tensor, nn
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[1] / "docs" / "training" / "benchmarks.md"
MARK = "<!-- results -->"
BARE = "bare loop"
RATE = 1e-3
PEERS = {
    "lightning": "lightning",
    "accelerate": "accelerate",
    "ignite": "pytorch-ignite",
    "transformers": "transformers",
}
"""What to import, and what it is called where it is installed from."""


def parts() -> tuple[TinyMLP, torch.optim.Optimizer, DataLoader[Any], nn.Module]:
    """Return model, optimizer, loader and loss of a run."""
    torch.manual_seed(0)
    model = TinyMLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    return model, optimizer, DataLoader(Rows().training(), batch_size=BATCH, shuffle=True), nn.MSELoss()


def run_bare(_folder: Path) -> float:
    """The loop that everybody has written once."""
    model, optimizer, loader, loss = parts()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
    return model.seconds


def run_managed(folder: Path) -> float:
    """`ExperimentManager` as it comes: seeds, means, journal, signals, a save strategy that is asked."""
    from mlc_trainer import ExperimentManager, from_data

    config = from_data(
        {
            "model": {"factory": "tiny_mlp:TinyMLP"},
            "data": {"factory": "tiny_mlp:Rows", "batch_size": BATCH},
            "loss": {"config": {"type": "bce"}},
            "optimizer": {"name": "SGD", "options": {"lr": RATE}},
            "training": {"num_epochs": 1, "device": "cpu"},
        }
    )
    experiment = ExperimentManager(config, Path(tempfile.mkdtemp(dir=folder)) / "run").setup()
    experiment.engine.loss = nn.MSELoss()
    experiment.run()
    model = experiment.engine.model
    assert isinstance(model, TinyMLP)
    return model.seconds


def run_owned(folder: Path) -> float:
    """`TrainingManager` in the same loop."""
    from mlc_trainer import create_training_manager

    model, optimizer, loader, loss = parts()
    manager = create_training_manager(
        tempfile.mkdtemp(dir=folder), "mlp", loss_preset="default_segmentation", checkpoint_preset="every_epoch"
    )
    manager.loss_function = loss
    for _ in manager.epochs(1):
        for batch in manager.batches(loader):
            manager.train_step(model, batch, optimizer)
        manager.end_epoch(0)
    return model.seconds


def run_lightning(folder: Path) -> float:
    """Lightning's Trainer, without a logger, a bar or checkpoints."""
    import lightning

    model, optimizer, loader, loss = parts()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[Tensor], _number: int) -> Tensor:
            inputs, targets = batch
            return loss(self.model(inputs), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer

    off = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    lightning.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **off).fit(Module(), loader)
    return model.seconds


def run_fabric(_folder: Path) -> float:
    """Lightning's Fabric."""
    import lightning

    model, optimizer, loader, loss = parts()
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    wrapped, stepping = fabric.setup(model, optimizer)
    for inputs, targets in fabric.setup_dataloaders(loader):
        stepping.zero_grad()
        fabric.backward(loss(wrapped(inputs), targets))
        stepping.step()
    return model.seconds


def run_accelerate(_folder: Path) -> float:
    """Accelerate: prepare and backward."""
    from accelerate import Accelerator

    model, optimizer, loader, loss = parts()
    accelerator = Accelerator(cpu=True)
    wrapped, stepping, batches = accelerator.prepare(model, optimizer, loader)
    for inputs, targets in batches:
        stepping.zero_grad()
        accelerator.backward(loss(wrapped(inputs), targets))
        stepping.step()
    return model.seconds


def run_ignite(_folder: Path) -> float:
    """Ignite's Engine around a step of the user's."""
    from ignite.engine import Engine

    model, optimizer, loader, loss = parts()

    def step(_engine: Engine, batch: list[Tensor]) -> Tensor:
        inputs, targets = batch
        optimizer.zero_grad()
        value: Tensor = loss(model(inputs), targets)
        value.backward()
        optimizer.step()
        return value

    Engine(step).run(loader, max_epochs=1)
    return model.seconds


def run_hugging_face(folder: Path) -> float:
    """Hugging Face's Trainer, without logs, saves or a bar."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    model, optimizer, loader, loss = parts()

    class Losing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
            return {"loss": loss(self.model(inputs), targets)}

    def collate(samples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        inputs, targets = zip(*samples, strict=True)
        return {"inputs": torch.stack(inputs), "targets": torch.stack(targets)}

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        max_grad_norm=0,
        remove_unused_columns=False,
    )
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    trainer = Trainer(
        model=Losing(),
        args=arguments,
        train_dataset=loader.dataset,
        data_collator=collate,
        optimizers=(optimizer, constant),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model.seconds


WAYS: dict[str, tuple[str | None, Callable[[Path], float]]] = {
    BARE: (None, run_bare),
    "mlc-trainer, managed": (None, run_managed),
    "mlc-trainer, a loop of one's own": (None, run_owned),
    "Ignite Engine": ("ignite", run_ignite),
    "Fabric": ("lightning", run_fabric),
    "Accelerate": ("accelerate", run_accelerate),
    "Lightning Trainer": ("lightning", run_lightning),
    "Hugging Face Trainer": ("transformers", run_hugging_face),
}
AGAIN = f"{BARE}, once more"


def measure(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each of *ways* says it took, round by round and in turn.

    One during which others used the processor is thrown away and taken again, once.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            for is_last in (False, True):
                busy, began = common._others(), time.perf_counter()
                seconds = way()
                is_quiet = common._others() - busy < common.DISTURBED * (time.perf_counter() - began) + 0.02
                if is_quiet or is_last:
                    break
            times[name].append(seconds)
            if not is_quiet:
                common.DISTURBANCES.append(name)
    return times


def table(times: dict[str, list[float]]) -> str:
    """Return what each way took and what it added to the bare loop of the same round."""
    lines = ["| | median, µs a step | min … max | added, µs (quartiles) | times bare |", "|---|---|---|---|---|"]
    bare = times[BARE]
    for name, seconds in times.items():
        low, middle, high = (1e6 * one for one in (min(seconds), statistics.median(seconds), max(seconds)))
        star = "\\*" if name in common.DISTURBANCES else ""
        row = f"| {name}{star} | {middle:.0f} | {low:.0f} … {high:.0f} |"
        if name == BARE:
            lines.append(f"{row} | 1 |")
            continue
        added = [1e6 * (one - other) for one, other in zip(seconds, bare, strict=True)]
        first, _, third = statistics.quantiles(added, n=4)
        ratio = statistics.median(one / other for one, other in zip(seconds, bare, strict=True))
        lines.append(f"{row} {statistics.median(added):+.0f} ({first:+.0f} … {third:+.0f}) | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", default=[""], help="ways whose name starts so, beside the bare loop")
    parser.add_argument("--print", action="store_true", help="print the table and leave the page alone")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    missing = [name for name in PEERS if find_spec(name) is None]
    chosen = {name: way for name, (peer, way) in WAYS.items() if peer not in missing}
    chosen = {name: way for name, way in chosen.items() if name == BARE or name.startswith(tuple(options.only))}
    folder = Path(tempfile.mkdtemp(prefix="mlc-bench-"))
    try:
        ways = {name: (lambda way=way: way(folder)) for name, way in [*chosen.items(), (AGAIN, run_bare)]}
        times = measure(ways, options.rounds)
    finally:
        shutil.rmtree(folder)
    versions = [f"{name} {version(name)}" for name in ("torch", *(PEERS[one] for one in PEERS if one not in missing))]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(versions)}"
    notes = [f"Measured on {machine}; {options.rounds} rounds of {STEPS} steps, one thread."]
    if common.DISTURBANCES:
        notes.append(f"{len(common.DISTURBANCES)} samples were disturbed by others; a star says whose.")
    if missing:
        notes.append(f"Left out, because they are not installed: {', '.join(PEERS[one] for one in missing)}.")
    results = " ".join(notes) + "\n\n" + table(times)
    print(results)
    if not options.print:
        page = PAGE.read_text(encoding="utf-8").partition(MARK)[0] + f"{MARK}\n\n{results}\n"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
