"""A callback and a task as a user would write them, which log a metric that bertlab knows nothing of."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from bertlab.tasks.sequence_classification import SequenceClassification


class LogsMine(Callback):
    """Logs val/mine, and not while Lightning tries the validation out."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            pl_module.log("val/mine", 1.0 + trainer.global_step)


class TaskOfMine(SequenceClassification):
    """Logs val/mine beside the rest."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("val/mine", 1.0 + self.global_step)


class NamesMine(TaskOfMine):
    """Says so."""

    def validation_metrics(self) -> Any:
        return [*super().validation_metrics(), "val/mine"]
