"""One training of a text classifier with a strategy or without: seconds of its steps, and its peak memory."""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.interfaces import TextBatch
from bertlab.tasks.sequence_classification import SequenceClassification
from experiments.commands import MIB
from experiments.configurations import load_config


class Texts(LightningDataModule):
    """Random texts of two classes, the same in each training."""

    label_names = ("ham", "spam")

    def __init__(self, study: Mapping[str, Any]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.batches = [batch_of(study, generator) for _ in range(study["steps_per_epoch"])]

    def class_counts(self) -> Tensor:
        """Rows of each class."""
        return torch.stack([batch.labels.bincount(minlength=2) for batch in self.batches]).sum(0)

    def train_dataloader(self) -> DataLoader[Any]:
        """A batch for each step."""
        return DataLoader(self.batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        """One batch: some strategies act on a validation."""
        return DataLoader(self.batches[:1], batch_size=None)


def batch_of(study: Mapping[str, Any], generator: torch.Generator) -> TextBatch:
    lengths = torch.randint(*study["tokens"], (study["texts"],), generator=generator)
    lengths = lengths.sort(descending=True).values
    ids = torch.randint(1000, 30000, (int(lengths.sum()),), generator=generator)
    rows = torch.arange(study["texts"])
    return TextBatch(ids, torch.zeros_like(ids), lengths, rows, rows % 2, step_labels=rows % 2)


class Begin(Callback):
    """Before anything is done for a step: the first of the callbacks."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.seconds.append(-time.perf_counter())


class End(Begin):
    """After everything is done for a step: the last of the callbacks."""

    def on_train_batch_start(self, *_: Any) -> None:
        """The clock runs."""

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop the clock."""
        self.seconds[-1] += time.perf_counter()


def strategies(fragment: Path | None) -> list[Strategy]:
    """The strategy of a file, as the command line makes it; none of none."""
    if fragment is None:
        return []
    parser = ArgumentParser()
    parser.add_subclass_arguments(Strategy, "strategy")
    return [parser.instantiate_classes(parser.parse_object({"strategy": load_config(fragment)})).strategy]


def peak_mib() -> float:
    """Highest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def training(fragment: Path | None, study: Mapping[str, Any]) -> dict[str, float]:
    """Train once, in a process that has not trained before: its peak would be kept.

    Args:
        fragment: of configs/callbacks; None: no strategy.
        study: the settings.

    Returns:
        `step_seconds`: mean over the training; `last_step_seconds`: median over its last epoch; `memory_mib`: by how
        much the process grew.
    """
    before = peak_mib()
    torch.manual_seed(0)
    task = SequenceClassification(PretrainedEncoder(study["source"]))
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            precision=study["precision"],
            max_epochs=study["epochs"],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[Begin(seconds), StepSeed(0), *strategies(fragment), End(seconds)],
        )
        trainer.fit(task, datamodule=Texts(study))
    return {
        "step_seconds": statistics.mean(seconds[study["left_out"] :]),
        "last_step_seconds": statistics.median(seconds[-study["steps_per_epoch"] :]),
        "memory_mib": peak_mib() - before,
    }
