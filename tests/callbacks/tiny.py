"""A tiny task for the tests of strategies: five blocks on random vectors, its data a function of the step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from bertlab.encoders.adapters import Adapters, add_adapters
from bertlab.interfaces import Block, Course, PoissonDraw, TextBatch, Trunk
from bertlab.losses.reduction import weighted_mean
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups

CLASSES = ("ham", "spam", "news")
G = 8  # sequences of an optimizer step
LONGEST = 64  # what the tiny data says of its sequences, of which nothing but a factor depends on it


@dataclass
class TinyBatch:
    """Which micro-batch of the epoch it is; its rows, each a sequence of one token, are a function of the step."""

    number: int
    labels: Tensor | None = None
    step_labels: Tensor | None = None
    micro_batches: int = 1


@dataclass
class TinyPart(TinyBatch):
    """The rows of a micro-batch that are of one task: every second one, beginning with the first or the second."""

    task: str = ""


@dataclass
class TinyParts:
    """A micro-batch of both tasks of `TinyTasks`."""

    parts: tuple[TinyPart, ...]


class TinyTask(LightningModule):
    """embeddings, layer.0, …, head; freshly initialised layers hold many equal parameters."""

    def __init__(
        self,
        validation_losses: list[float] | None = None,
        layers: int = 3,
        dropout: float = 0.1,
        pooler: bool = False,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Sequential(nn.Linear(4, 8))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.Tanh())
            for _ in range(layers)
        )
        self.pooler = nn.Linear(8, 8) if pooler else None
        self.head = nn.Linear(8, len(CLASSES))
        self.class_weights: Tensor | None = None
        self.losses: list[float] = []
        self.validation_losses = validation_losses
        self.validations = 0
        self.adapters: Adapters | None = None
        self.known_trunk: Callable[[TextBatch], Trunk | None] | None = None

    def blocks(self) -> list[Block]:
        parts: list[tuple[str, nn.Module]] = [("embeddings", self.embeddings)]
        parts += [(f"layer.{index}", layer) for index, layer in enumerate(self.layers)]
        parts += [("pooler", self.pooler)] if self.pooler is not None else []
        parts += [("head", self.head)]
        return [
            Block(name, (part,), depth=len(parts) - 1 - i, initializer=draw)
            for i, (name, part) in enumerate(parts)
        ]

    def encoder_blocks(self) -> list[Block]:
        return self.blocks()[:-1]

    def add_adapters(self, settings: Mapping[str, Any], generator: torch.Generator) -> Sequence[nn.Parameter]:
        self.adapters = self.adapters or add_adapters(self, self.encoder_blocks(), settings, generator)
        return self.adapters.parameters

    @property
    def word_embedding(self) -> nn.Module:
        return self.embeddings

    def set_class_weights(self, weights: Tensor | None) -> None:
        self.class_weights = weights

    def forward(self, x: Tensor, known: Trunk | None = None) -> Tensor:
        return self.head(self.encode(x, known))

    def encode(self, x: Tensor, known: Trunk | None) -> Tensor:
        modules = self._encoder()
        for module in modules if known is None else modules[known.blocks :]:
            x = module(x)
        return x

    def trunk_unit(self, blocks: int) -> Literal["token", "sequence"]:
        return "token" if blocks <= len(self.layers) else "sequence"

    def trunk(self, batch: TextBatch, blocks: int) -> Tensor:
        x = torch.stack([step_data(int(row) // G)[0][int(row) % G] for row in batch.index])
        x = x.to(self.device)
        for module in self._encoder()[:blocks]:
            x = module(x)
        return x

    def _encoder(self) -> list[nn.Module]:
        return [self.embeddings, *self.layers, *([self.pooler] if self.pooler is not None else [])]

    def training_step(self, batch: TinyBatch, batch_idx: int) -> Tensor:
        _, labels = self.step_data()
        share, micro_batches = self.share(batch)
        loss = self.training_loss(TinyBatch(batch.number, labels[share], labels, micro_batches))
        self.losses.append(loss.item())
        return loss

    def training_loss(self, batch: TinyBatch) -> Tensor:
        x, y = self.step_data()
        share, micro_batches = self.share(batch)
        rows = self.chosen()[share]
        known = None if self.known_trunk is None else self.known_trunk(tiny_rows(rows.to(self.device)))
        inputs = x[share] if known is None else known.values
        weights = torch.ones(len(CLASSES)) if self.class_weights is None else self.class_weights
        weights = weights.to(self.device)
        losses = nn.functional.cross_entropy(self.answers(batch, inputs, known), y[share], reduction="none")
        return weighted_mean(losses, weights[y[share]], weights[y[self.step_rows(batch)]], micro_batches)

    def answers(self, batch: TinyBatch, inputs: Tensor, known: Trunk | None) -> Tensor:
        return self(inputs, known)

    def step_rows(self, batch: TinyBatch) -> slice:
        """The rows of the step that its loss is a mean over."""
        return slice(0, len(self.chosen()))

    def chosen(self) -> Tensor:
        """The rows of the optimizer step, among those of all steps: G of them, or as the course of the data says."""
        step, course = self.trainer.global_step, self.course()
        size = G if course.batch_size is None else course.batch_size.size(step, G)
        if course.order is None:
            return torch.arange(size) + G * step
        easiest = np.flatnonzero(course.order.ranks <= course.order.share(step))
        return torch.from_numpy(np.resize(easiest, size))

    def step_data(self) -> tuple[Tensor, Tensor]:
        """The vectors and classes of the optimizer step, as the course of the data has them."""
        step, course = self.trainer.global_step, self.course()
        rows = self.chosen()
        x, y = (values[: len(rows)] for values in step_data(step))
        if course.order is not None:  # rows of any step
            drawn = [(*step_data(int(row) // G), int(row) % G) for row in rows]
            x = torch.stack([vectors[place] for vectors, _, place in drawn])
            y = torch.stack([labels[place] for _, labels, place in drawn])
        if course.length is not None:
            x = x * (min(course.length(step), LONGEST) / LONGEST)
        x = x if course.mask_rate is None else x * (1 - course.mask_rate(step))
        return x.to(self.device), y.to(self.device)

    def course(self) -> Course:
        data = getattr(self.trainer, "datamodule", None)
        return data.course if isinstance(data, TinyData) else Course()

    def share(self, batch: TinyBatch) -> tuple[slice, int]:
        """Its rows among those of the step, and how many micro-batches the step has."""
        ranks, accumulate = self.trainer.world_size, self.trainer.accumulate_grad_batches
        parts = ranks * accumulate
        return slice(self.global_rank * accumulate + batch.number % accumulate, None, parts), parts

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        if self.validation_losses is None:
            x, y = (values.to(self.device) for values in step_data(10_000))
            value = float(nn.functional.cross_entropy(self(x), y))
        else:
            steps = len(self.validation_losses) - 1
            value = self.validation_losses[min(self.trainer.current_epoch, steps)]
        self.log("val/loss", value)

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.blocks(), weight_decay=0.1)
        optimizer = build_optimizer(lambda g: torch.optim.AdamW(g, lr=1e-2), groups)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 100)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class TinyTasks(TinyTask):
    """Two tasks over one encoder: "first" of the first half of a step's rows, "second" of the others."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.head = nn.ModuleDict({name: nn.Linear(8, len(CLASSES)) for name in ("first", "second")})
        self.tasks = {name: TinyAnswer(self, name) for name in self.head}

    def training_step(self, batch: TinyBatch, batch_idx: int) -> Tensor:
        _, labels = self.step_data()
        parts = [TinyPart(batch.number, task=name) for name in self.tasks]
        for part in parts:
            share, part.micro_batches = self.share(part)
            part.labels, part.step_labels = labels[share], labels[self.step_rows(part)]
        loss = self.training_loss(TinyParts(tuple(parts)))
        self.losses.append(loss.item())
        return loss

    def training_loss(self, batch: TinyBatch | TinyParts) -> Tensor:
        if isinstance(batch, TinyPart):
            return super().training_loss(batch)
        parts = (
            batch.parts
            if isinstance(batch, TinyParts)
            else [TinyPart(batch.number, task=n) for n in self.tasks]
        )
        return torch.stack([super(TinyTasks, self).training_loss(part) for part in parts]).mean()

    def answers(self, batch: TinyPart, inputs: Tensor, known: Trunk | None) -> Tensor:
        return self.tasks[batch.task](inputs, known)

    def step_rows(self, batch: TinyPart) -> slice:
        size = len(self.chosen())
        return slice(0, size // 2) if batch.task == "first" else slice(size // 2, size)

    def share(self, batch: TinyPart) -> tuple[slice, int]:
        share, parts = super().share(batch)
        rows = self.step_rows(batch)
        return slice(rows.start + share.start, rows.stop, parts), parts


class TinyAnswer(nn.Module):
    """What one of two tasks says; its modules are those of the whole."""

    def __init__(self, whole: TinyTasks, name: str) -> None:
        super().__init__()
        self.parts = [whole, name]  # in a list, which torch does not look into

    def forward(self, x: Tensor, known: Trunk | None) -> Tensor:
        whole, name = self.parts
        return whole.head[name](whole.encode(x, known))


def draw(module: nn.Module) -> None:
    """Draw a module's own parameters anew."""
    if isinstance(module, nn.Linear | nn.LayerNorm):
        module.reset_parameters()


def step_data(step: int) -> tuple[Tensor, Tensor]:
    """(G, 4) vectors and (G,) classes: a function of the optimizer step alone, so no loader needs a position."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(G, 4, generator=generator)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long()


def tiny_rows(rows: Tensor) -> TextBatch:
    """Rows of all steps one after another, as sequences of one token: row 8 · s + i is the i-th of step s.

    Tokens of late rows are more frequent. Lengths lie on the CPU, as in every batch of texts.
    """
    ids = rows.double().sqrt().long()
    return TextBatch(ids, torch.zeros_like(rows), torch.ones_like(rows, device="cpu"), rows)


class TinyRows:
    """The rows of all steps of a training."""

    def __init__(self, steps: int) -> None:
        self.lengths = np.ones(G * steps, dtype=np.int64)

    def batch(self, rows: np.ndarray) -> TextBatch:
        return tiny_rows(torch.from_numpy(rows))


class TinyData(LightningDataModule):
    """`batches` batches an epoch that know their number, and three classes of unlike size."""

    label_names = CLASSES

    def __init__(self, batches: int = 6) -> None:
        super().__init__()
        self.batches = batches
        self.course = Course()
        self.poisson = False

    @property
    def course_parts(self) -> frozenset[str]:
        return frozenset({"length", "mask_rate", "batch_size", "order"})

    @property
    def longest_sequence(self) -> int:
        return LONGEST

    @property
    def full_batch(self) -> int:
        return G

    def follow(self, course: Course) -> None:
        self.course = course

    def class_counts(self) -> Tensor:
        return torch.tensor([60, 30, 10])

    def draw_poisson(self, entropy: int | None) -> PoissonDraw:
        """What it says of itself; its steps are always of G rows."""
        self.poisson = True
        return PoissonDraw(1 / self.batches, G * self.batches)

    def end_poisson(self) -> None:
        self.poisson = False

    def dataset(self, name: str) -> TinyRows:
        assert self.trainer is not None
        return TinyRows(int(self.trainer.estimated_stepping_batches))

    def train_dataloader(self) -> DataLoader:
        return DataLoader([TinyBatch(number) for number in range(self.batches)], batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(1), batch_size=None)


class Timeline(Callback):
    """Keeps events in a list."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, str, dict[str, Any]]] = []

    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        self.events.append((step, strategy, what, json.loads(json.dumps(dict(facts)))))


class StepLog(Callback):
    """What held during each optimizer step: trained blocks, blocks in train mode, rates, class weights."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: TinyTask, optimizer: Any) -> None:
        blocks = pl_module.blocks()
        self.steps.append(
            {
                "trained": [b.name for b in blocks if all(p.requires_grad for p in b.parameters())],
                "frozen": [b.name for b in blocks if not any(p.requires_grad for p in b.parameters())],
                "grads": [b.name for b in blocks if any(p.grad is not None for p in b.parameters())],
                "train_mode": [b.name for b in blocks if all(m.training for m in b.modules)],
                "lr": {g["block"]: g["lr"] for g in optimizer.param_groups},
                "class_weights": None
                if pl_module.class_weights is None
                else pl_module.class_weights.tolist(),
            }
        )


def fit(
    strategies: list[Strategy],
    root: Path,
    *,
    task: TinyTask | None = None,
    data: TinyData | None = None,
    epochs: int = 3,
    ckpt_path: Path | None = None,
    callbacks: tuple[Callback, ...] = (),
    **trainer_args: Any,
) -> tuple[TinyTask, Trainer]:
    """Train the tiny task on one CPU core with the given strategies."""
    trainer = Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": epochs,
            "default_root_dir": root,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": [*callbacks, StepSeed(0), *strategies],
        }
        | trainer_args
    )
    task = task or TinyTask()
    trainer.fit(task, datamodule=data or TinyData(), ckpt_path=ckpt_path, weights_only=True)
    return task, trainer
