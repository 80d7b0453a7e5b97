"""A task that keeps what it sees of real data modules, for tests of strategies that change the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn

from bertlab.callbacks.strategy import Strategy
from bertlab.interfaces import Block, PretrainingBatch, TextBatch
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from tests.doubles.stop_after import StopAfter, every_step


class Micro(NamedTuple):
    """A micro-batch: the optimizer step it belongs to, its rows with their tokens, and how many are masked."""

    step: int
    rows: dict[int, list[int]]
    masked: int

    @property
    def longest(self) -> int:
        return max(map(len, self.rows.values()))


class Watcher(LightningModule):
    """Two numbers to train, and a record of the batches of training and of validation."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.seen: list[Micro] = []
        self.validated: list[Micro] = []
        self.batches: list[Any] = []

    def blocks(self) -> list[Block]:
        return [Block("embeddings", (self.body,), 1), Block("head", (self.head,), 0)]

    def encoder_blocks(self) -> list[Block]:
        return self.blocks()[:-1]

    def training_step(self, batch: TextBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append(self.micro(batch))
        self.batches.append(batch)
        return self.head(self.body(batch.lengths.float().unsqueeze(1))).mean()

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        self.validated.append(self.micro(batch))

    def micro(self, batch: TextBatch) -> Micro:
        tokens = [ids.tolist() for ids in batch.input_ids.split(batch.lengths.tolist())]
        masked = len(batch.masked_positions) if isinstance(batch, PretrainingBatch) else 0
        return Micro(self.global_step, dict(zip(batch.index.tolist(), tokens, strict=True)), masked)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches > 0  # loaders are there before the course is known
        groups = parameter_groups(self.blocks(), weight_decay=0.0)
        return build_optimizer(lambda g: torch.optim.SGD(g, lr=1e-6), groups)


def watch(
    strategies: list[Strategy],
    data: LightningDataModule,
    root: Path,
    resume: Path | None = None,
    stop: int | None = None,
    **trainer_args: Any,
) -> Watcher:
    """Train on a data module; with `stop`, save a checkpoint after every step and end as if killed."""
    kept = every_step(root)
    trainer = Trainer(
        default_root_dir=root,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=stop is not None,
        num_sanity_val_steps=0,
        callbacks=[*([] if stop is None else [kept, StopAfter(stop)]), *strategies],
        **trainer_args,
    )
    task = Watcher()
    try:
        trainer.fit(task, data, ckpt_path=resume, weights_only=False)
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        assert stop is not None
    return task
