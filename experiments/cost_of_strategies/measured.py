"""One training with strategies or without: seconds of its steps, and its peak memory."""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, Trainer

from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from experiments.commands import MIB
from experiments.configurations import load_config
from experiments.cost_of_strategies.trainings import TRAININGS


class Begin(Callback):
    """Before anything is done for a step: the first of the callbacks."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.seconds.append(-time.perf_counter())


class End(Begin):
    """After everything is done for a step: the last of the callbacks. Hears what strategies have left undone."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__(seconds)
        self.undone: list[str] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """The clock runs."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self.seconds[-1] += time.perf_counter()

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Keep what was said before training, or else what came of it."""
        if what == "undone":
            self.undone.append(facts.get("foretold") or f"{strategy} {facts['outcome']}")


def strategy_of(fragment: Path) -> Strategy:
    """The strategy of a file, as the command line makes it."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(Strategy, "strategy")
    return parser.instantiate_classes(parser.parse_object({"strategy": load_config(fragment)})).strategy


def peak_mib() -> float:
    """Highest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def training(
    name: str, fragments: Sequence[Path], sources: Mapping[str, str], study: Mapping[str, Any]
) -> dict[str, Any]:
    """Train once, in a process that has not trained before: its peak would be kept.

    Args:
        name: of TRAININGS.
        fragments: of strategies; none: plain training.
        sources: of the texts, by name.
        study: the settings.

    Returns:
        `step_seconds`: mean over the training; `last_step_seconds`: median over its last epoch; `memory_mib`: by how
        much the process grew; `undone`: what strategies have left undone, so that it was not measured.
    """
    data, make_task = TRAININGS[name](sources, study)
    data.setup("fit")
    strategies = [strategy_of(fragment) for fragment in fragments]
    before = peak_mib()
    torch.manual_seed(0)
    task = make_task()
    seconds: list[float] = []
    end = End(seconds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            precision=study["precision"],
            max_epochs=study["epochs"],
            limit_train_batches=study["steps_per_epoch"],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            callbacks=[Begin(seconds), StepSeed(0), *strategies, end],
        )
        trainer.fit(task, datamodule=data)
    return {
        "step_seconds": statistics.mean(seconds[study["warm_up_steps"] :]),
        "last_step_seconds": statistics.median(seconds[-study["steps_per_epoch"] :]),
        "memory_mib": peak_mib() - before,
        "undone": "; ".join(end.undone),
    }
