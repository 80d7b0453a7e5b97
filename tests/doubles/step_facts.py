"""What a fit really does, looked at from inside its optimizer steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bertlab.callbacks.combination import strategies_of


class StepFacts(Callback):
    """Writes a JSON line from inside each optimizer step, and one for each validation. Stands after the strategies."""

    def __init__(self, path: str = "steps.jsonl") -> None:
        self.path = path
        self.trainer: Trainer
        self.lengths: list[int] = []
        self.masked = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trainer = trainer
        trainer.optimizers[0].register_step_pre_hook(self.in_step)  # after the strategies' own

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for part in getattr(batch, "parts", (batch,)):  # of several tasks
            if hasattr(part, "lengths"):
                self.lengths += part.lengths.tolist()
                self.masked += len(getattr(part, "masked_positions", ()))

    def in_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        blocks: dict[str, list[Any]] = {}
        for group in optimizer.param_groups:
            blocks.setdefault(group["block"], []).extend(group["params"])
        weights = getattr(self.trainer.lightning_module, "class_weights", None)
        self.write(
            {
                "step": self.trainer.global_step,
                "epoch": self.trainer.current_epoch,
                "lr": {group["block"]: group["lr"] for group in optimizer.param_groups},
                "trained": {
                    name: sum(p.numel() for p in held if p.requires_grad) / sum(p.numel() for p in held)
                    for name, held in blocks.items()
                },
                "parameters": sum(p.numel() for held in blocks.values() for p in held if p.requires_grad),
                "class_weights": None if weights is None else weights.tolist(),
                "stages": {type(found).__name__: found.entered for found in strategies_of(self.trainer)},
                "sequences": len(self.lengths),
                "tokens": sum(self.lengths),
                "lengths": self.lengths,
                "masked": self.masked,
            }
        )
        self.lengths, self.masked = [], 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.write({"validation_after": trainer.global_step})

    def write(self, line: dict[str, Any]) -> None:
        with Path(self.path).open("a") as file:
            file.write(json.dumps(line) + "\n")


class LooksIntoTable(Callback):
    """Sees each look into the table of the word pieces: how many numbers are trained, and if none could be by it."""

    seen: ClassVar[list[tuple[int, bool]]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def look(*_: Any) -> None:
            trained = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
            self.seen.append((trained, torch.is_inference_mode_enabled()))

        table: Any = pl_module.word_embedding
        table.register_forward_pre_hook(look)


class WeightsUnmoved(Callback):
    """Writes whether the weights at the end of a command are those at its beginning, bit for bit."""

    def __init__(self, path: str = "unmoved.txt") -> None:
        self.path = path
        self.before: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = [parameter.detach().clone() for parameter in pl_module.parameters()]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        same = [bool((a == b).all()) for a, b in zip(self.before, pl_module.parameters(), strict=True)]
        Path(self.path).write_text(f"{sum(same)} of {len(same)}")
