"""What random combinations of strategies are trained on: the tiny task of vectors, and a tiny BERT on texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from bertlab.callbacks.strategy import Strategy
from bertlab.optimizers.row_adamw import RowAdamW
from tests.callbacks.contract.fragments import FRAGMENTS, strategy, task
from tests.callbacks.tiny import CLASSES, G, TinyData, fit
from tests.callbacks.tiny_bert import STEPS, bert_data, bert_task, fit_bert
from tests.system.tiny_project import TABLE_ROWS


class Ground(ABC):
    """A task, its data and how long it is trained.

    Attributes:
        layers: of the encoder.
        classes: of the data.
        batch: rows of an optimizer step.
        steps: optimizer steps of an epoch.
        epochs: of a training.
        left_out: strategies that cannot be used here at all, and why.
    """

    layers: ClassVar[int]
    classes: ClassVar[tuple[str, ...]]
    batch: ClassVar[int]
    steps: ClassVar[int]
    epochs: ClassVar[int]
    left_out: ClassVar[Mapping[str, str]] = {}

    def train(
        self,
        strategies: Sequence[Strategy],
        root: Path,
        *,
        like_a_user: bool,
        dropout: float,
        before: tuple[Callback, ...],
        behind: tuple[Callback, ...],
        **trainer_args: Any,
    ) -> tuple[LightningModule, Trainer]:
        """Train a new task.

        Args:
            strategies: that are used.
            root: of what the trainer writes.
            like_a_user: tie two weights where that can be done, and freeze a parameter.
            dropout: of the encoder; the BERT has its own.
            before: callbacks in front of the strategies.
            behind: callbacks that see what the strategies leave.
            trainer_args: of the trainer; `ckpt_path` of the fit.
        """
        made = self.make(strategies, dropout)
        if like_a_user:
            self.edit(made)
        return self.fit(made, [*strategies, *behind], root, before, **trainer_args)

    @abstractmethod
    def make(self, strategies: Sequence[Strategy], dropout: float) -> Any:
        """A new task."""

    @abstractmethod
    def edit(self, made: Any) -> None:
        """Tie two weights of a task where that can be done, and freeze a parameter."""

    @abstractmethod
    def fit(
        self, made: Any, inside: Any, root: Path, before: tuple[Callback, ...], **trainer_args: Any
    ) -> tuple[LightningModule, Trainer]:
        """Train a task with strategies and what stands behind them."""


class Vectors(Ground):
    """Six layers of 8 × 8 on vectors, AdamW, of one task or of two."""

    layers, classes, batch, steps, epochs = 6, CLASSES, G, 4, 4

    def make(self, strategies: Sequence[Strategy], dropout: float) -> Any:
        return task(strategies, dropout)

    def edit(self, made: Any) -> None:
        low: Any = made.layers
        assert made.pooler is not None
        made.pooler.weight = low[0][0].weight
        low[1][1].weight.requires_grad_(False)

    def fit(
        self, made: Any, inside: Any, root: Path, before: tuple[Callback, ...], **trainer_args: Any
    ) -> tuple[LightningModule, Trainer]:
        data = TinyData(self.steps * trainer_args.get("accumulate_grad_batches", 1))
        return fit(inside, root, task=made, data=data, epochs=self.epochs, callbacks=before, **trainer_args)


class Texts(Ground):
    """A BERT of two layers × 32 on texts of three to twenty words, by the optimizer of a default run.

    Args:
        project: of `tests.callbacks.tiny_bert.write_bert`.
    """

    layers, classes, batch, steps, epochs = 2, ("ham", "spam"), 16, STEPS, 2
    left_out: ClassVar[Mapping[str, str]] = {
        "GradientSurgery": "it needs steps of several tasks, and this is one",
        "MaskRateSchedule": "it changes the masks of pretraining, and texts with labels have none",
    }

    def __init__(self, project: Path) -> None:
        self.project = project

    def make(self, strategies: Sequence[Strategy], dropout: float) -> Any:
        def optimizer(parameters: Any) -> RowAdamW:
            return RowAdamW(parameters, lr=1e-2, table_rows=TABLE_ROWS)

        return bert_task(self.project, optimizer=optimizer, dropout=dropout)

    def edit(self, made: Any) -> None:
        norm: Any = made.encoder.model.embeddings.LayerNorm
        assert isinstance(norm, nn.LayerNorm)
        norm.weight.requires_grad_(False)

    def fit(
        self, made: Any, inside: Any, root: Path, before: tuple[Callback, ...], **trainer_args: Any
    ) -> tuple[LightningModule, Trainer]:
        fit_bert(
            inside,
            root,
            self.project,
            task=made,
            data=bert_data(self.project),
            before=before,
            max_epochs=self.epochs,
            num_sanity_val_steps=0,
            **trainer_args,
        )
        return made, made.trainer


#: The fragments of strategies that can be used on texts.
ON_TEXTS = [fragment for fragment in FRAGMENTS if type(strategy(fragment)).__name__ not in Texts.left_out]
