"""Strategies on a tiny BERT with its real task, for tests of what the tiny task of five blocks cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from bertlab.callbacks.fisher import fisher_information
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from bertlab.tasks.sequence_classification import SequenceClassification
from tests.tasks.tiny import TinyData, tiny_encoder, tiny_task, tiny_trainer


class Gradients(Callback):
    """Keeps the gradient of every parameter in each optimizer step, by name."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor | None]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        named = pl_module.named_parameters()
        self.steps.append({name: None if p.grad is None else p.grad.clone() for name, p in named})


def fit_bert(
    strategies: list[Strategy],
    root: Path,
    *,
    callbacks: tuple[Callback, ...] = (),
    task: SequenceClassification | None = None,
    data: TinyData | None = None,
    dropout: float = 0.0,
    **trainer_args: Any,
) -> SequenceClassification:
    """Train a BERT of two layers of 16 for one epoch of six steps."""
    if task is None:
        encoder = tiny_encoder()
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        task = tiny_task(encoder=encoder, problem=(data.problem if data else "single_label"))
    trainer = tiny_trainer(root, callbacks=[*callbacks, StepSeed(0), *strategies], **trainer_args)
    trainer.fit(task, datamodule=data or TinyData())
    return task


def still(**arguments: Any) -> Any:
    """A task that does not move, so that gradients with and without the strategy are at the same weights."""
    return tiny_task(encoder=tiny_encoder(), optimizer=lambda p: torch.optim.SGD(p, lr=0.0), **arguments)


class Information(Callback):
    """The Fisher information at the start of training, and what it leaves behind."""

    def __init__(self, steps: int | None = None) -> None:
        self.steps, self.found = steps, list[torch.Tensor]()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        before = [(p.requires_grad, p.grad) for p in pl_module.parameters()]
        modes = [module.training for module in pl_module.modules()]
        parameters = list(pl_module.encoder.parameters())
        self.found, self.count = fisher_information(trainer, parameters, self.steps)
        assert [(p.requires_grad, p.grad) for p in pl_module.parameters()] == before
        assert [module.training for module in pl_module.modules()] == modes


def information(root: Path, splits: int, ranks: int = 1, steps: int | None = None) -> list[torch.Tensor]:
    found = Information(steps)
    trainer = tiny_trainer(
        root, callbacks=[StepSeed(0), found], accumulate_grad_batches=splits // ranks, devices=ranks,
        **({"strategy": "ddp"} if ranks > 1 else {}),
    )  # fmt: skip
    task = still()
    for block in task.encoder.blocks()[:2]:
        for parameter in block.parameters():
            parameter.requires_grad_(False)  # frozen or not, it has information
    trainer.fit(task, datamodule=TinyData(rows=93, splits=splits))
    return found.found
