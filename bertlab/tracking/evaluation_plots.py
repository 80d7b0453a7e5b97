"""EvaluationPlots: confusion matrix and precision-recall curves, for trackers that can draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.functional.classification import binary_precision_recall_curve

from bertlab.interfaces import HasClassCounts, HasConfusionMatrix
from bertlab.tracking.checkpoints import Checkpoints


@runtime_checkable
class _Draws(Protocol):
    """A logger that draws."""

    def log_confusion_matrix(self, key: str, counts: Tensor, names: Sequence[str], step: int) -> None: ...

    def log_precision_recall(
        self, key: str, curves: Mapping[str, tuple[Tensor, Tensor]], step: int
    ) -> None: ...

    def log_best_checkpoint(self, path: Path, score: float | None) -> None: ...


class _Scores(Protocol):
    """What a task said of the n rows of a split: (n, C) probabilities; (n,) classes or (n, C) multi-hot."""

    outputs: Tensor
    labels: Tensor


@runtime_checkable
class _HasScores(Protocol):
    """A task that keeps what it said of each row in the evaluation that ended last."""

    def evaluation_scores(self) -> _Scores | None: ...


class EvaluationPlots(Callback):
    """Hands what can be drawn to the loggers that draw: after a test, and after the last validation of a fit.

    One drawing a validation would cost more than the validation of a small split, so it is the last one's.
    The best checkpoint goes with it.
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test."""
        self._draw(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw a validation of its own."""
        if trainer.state.fn == "validate":
            self._draw(trainer, pl_module, "val")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last validation."""
        self._draw(trainer, pl_module, "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand over the best checkpoint, which may have been written at the end of training only."""
        keeper = trainer.checkpoint_callback
        if trainer.is_global_zero and isinstance(keeper, Checkpoints) and keeper.best_model_path:
            for logger in trainer.loggers:
                if isinstance(logger, _Draws):
                    logger.log_best_checkpoint(Path(keeper.best_model_path), keeper.best_score)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        drawers = [logger for logger in trainer.loggers if isinstance(logger, _Draws)]
        if not drawers or not trainer.is_global_zero:
            return
        data = getattr(trainer, "datamodule", None)
        names = (data.label_names if isinstance(data, HasClassCounts) else None) or ()
        matrix = pl_module.confusion_matrix() if isinstance(pl_module, HasConfusionMatrix) else None
        scores = pl_module.evaluation_scores() if isinstance(pl_module, _HasScores) else None
        for drawer in drawers:
            if matrix is not None and names:
                drawer.log_confusion_matrix(f"{split}/confusion_matrix", matrix, names, trainer.global_step)
            if scores is not None and len(scores.labels) and len(names) == scores.outputs.shape[1]:
                curves = precision_recall(scores.outputs, scores.labels, names)
                drawer.log_precision_recall(f"{split}/precision_recall", curves, trainer.global_step)


def precision_recall(
    probabilities: Tensor, labels: Tensor, names: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Precision and recall of each class against all others, over all thresholds.

    Args:
        probabilities: (n, C).
        labels: (n,) classes or (n, C) multi-hot.
        names: of the C classes. A class that no row has is left out: it has no recall.

    Returns:
        Of each class precision and recall, from the lowest threshold to the highest.
    """
    curves: dict[str, tuple[Tensor, Tensor]] = {}
    for column, name in enumerate(names):
        true = (labels[:, column] if labels.ndim == 2 else labels == column).int()
        if true.any():
            precision, recall, _ = binary_precision_recall_curve(probabilities[:, column], true)
            curves[name] = (precision, recall)
    return curves
