"""What a training step of MiniLM costs with each strategy, against one without.

.venv/bin/python -m experiments.cost_of_strategies.run configs/callbacks/sharpness_aware.yaml …
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch.utils.data import DataLoader

from bertlab.callbacks.strategy import Strategy
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.interfaces import TextBatch
from bertlab.tasks.sequence_classification import SequenceClassification

WARM_UP = 3


class Texts(LightningDataModule):
    """Batches of 32 random texts of 8 to 63 tokens, the same in each run."""

    label_names = ("ham", "spam")

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def class_counts(self) -> torch.Tensor:
        """Rows of each class."""
        return torch.tensor([16 * self.steps, 16 * self.steps])

    def train_dataloader(self) -> DataLoader[Any]:
        """A batch for each step."""
        generator = torch.Generator().manual_seed(0)
        batches = []
        for _ in range(self.steps):
            lengths = torch.randint(8, 64, (32,), generator=generator).sort(descending=True).values
            ids = torch.randint(1000, 30000, (int(lengths.sum()),), generator=generator)
            labels = torch.arange(32) % 2
            batches.append(
                TextBatch(ids, torch.zeros_like(ids), lengths, torch.arange(32), labels, step_labels=labels)
            )
        return DataLoader(batches, batch_size=None)


class Clock(Callback):
    """Seconds of each step, from its batch to the updated weights: of the wall, or of this process's processor time."""

    def __init__(self, processor_time: bool) -> None:
        self.now = time.process_time if processor_time else time.perf_counter
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin."""
        self._begin = self.now()

    def on_train_batch_end(self, *_: Any) -> None:
        """End."""
        self.seconds.append(self.now() - self._begin)


def strategies(fragment: Path | None) -> list[Strategy]:
    if fragment is None:
        return []
    parser = ArgumentParser()
    parser.add_subclass_arguments(Strategy, "strategy")
    content = yaml.safe_load(fragment.read_text())
    # From the first step on, whatever the fragment says: it is the cost of a step that acts.
    content.get("init_args", {}).pop("start_fraction", None)
    return [parser.instantiate_classes(parser.parse_object({"strategy": content})).strategy]


def median_step(fragment: Path | None, args: argparse.Namespace, folder: str) -> float:
    """Milliseconds."""
    torch.manual_seed(0)
    task = SequenceClassification(PretrainedEncoder("packaged:minilm_l6_v2"))
    clock = Clock(args.processor_time)
    trainer = Trainer(
        accelerator="cpu",
        precision=args.precision,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[clock, *strategies(fragment)],
    )
    trainer.fit(task, datamodule=Texts(args.steps + WARM_UP))
    return 1000 * statistics.median(clock.seconds[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fragments", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="each measures all of them in turn")
    parser.add_argument("--steps", type=int, default=10, help="of a measurement")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--processor_time", action="store_true", help="where other work shares the cores")
    args = parser.parse_args()
    choices = [None, *args.fragments]
    found: dict[Path | None, list[float]] = {choice: [] for choice in choices}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for choice in choices:
                found[choice].append(median_step(choice, args, folder))
    print("| strategy | ms a step | times the plain step |\n|---|---|---|")
    for choice in choices:
        ratios = [mine / plain for mine, plain in zip(found[choice], found[None], strict=True)]
        name = "none" if choice is None else f"`{choice.stem}`"
        print(f"| {name} | {statistics.median(found[choice]):.0f} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
