"""LabelledTask: what tasks have in common whose rows (texts, words) have labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from bertlab.interfaces import TextBatch
from bertlab.losses.reduction import weighted_mean
from bertlab.schedules.schedule import Schedule
from bertlab.tasks.evaluation import Evaluation, Scores
from bertlab.tasks.problem import Problem
from bertlab.tasks.text_task import TextTask


class LabelledTask(TextTask):
    """The loss of an optimizer step with weights of classes, and evaluations of all rows at once.

    Args:
        encoder, problem, optimizer, schedule, weight_decay, layer_decay, label_names: as of `TextTask`.
        answers: what the problem makes of logits and labels.
        loss: gives one value a row; None: that of the problem.
    """

    def __init__(
        self,
        encoder: nn.Module,
        problem: str,
        optimizer: OptimizerCallable,
        schedule: Schedule | LRSchedulerCallable,
        weight_decay: float | None,
        layer_decay: float,
        label_names: Sequence[str] | None,
        answers: Problem,
        loss: nn.Module | None,
    ) -> None:
        super().__init__(encoder, problem, optimizer, schedule, weight_decay, layer_decay, label_names)
        self._problem = answers
        self.loss = answers.default_loss() if loss is None else loss
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None, persistent=False)
        self._evaluation = Evaluation()
        self._scores: Scores | None = None

    @property
    @abstractmethod
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The metric that the best checkpoint is chosen by, and whether less or more of it is better."""

    @property
    def uses_pooler(self) -> bool:
        """Whether the head sees what the encoder's own pooler gives."""
        return False

    def head_modules(self) -> tuple[nn.Module, ...]:
        """The head, and the loss, which may have parameters too."""
        assert self.head is not None
        return self.head, self.loss

    def set_class_weights(self, weights: Tensor | None) -> None:
        """Weigh the classes in the training loss from now on; validation and test losses are never weighted.

        Of one label a row, the row weighs what its class does; of several, the term of each class that is present does.

        Args:
            weights: (C,) non-negative; None: all one.

        Raises:
            ValueError: regression has no classes; the number is wrong; a weight is negative or not finite.
        """
        if weights is not None:
            # Not to `self.device`, which a task among several is not told of.
            device = next(self.encoder.parameters()).device
            weights = self._problem.checked_class_weights(weights, self.label_names).to(device)
        self.class_weights = weights

    def training_loss(self, batch: TextBatch) -> Tensor:
        """The share of a micro-batch in the weighted mean loss of its optimizer step."""
        labels, step_labels, classes = batch.labels, batch.step_labels, self.class_weights
        if labels is None or step_labels is None:
            raise ValueError(
                "a training batch takes labels and step_labels (those of its whole optimizer step), got none: take "
                "batches of bertlab.samplers.token_budget"
            )
        losses = self._problem.losses(self.loss, self(batch), labels, classes)
        weights = self._problem.sequence_weights(labels, classes)
        step_weights = self._problem.sequence_weights(step_labels, classes)
        return weighted_mean(losses, weights, step_weights, batch.micro_batches)

    def on_validation_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def on_test_epoch_start(self) -> None:
        """Begin a pass."""
        self._evaluation.clear()

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Keep what the model says of a batch."""
        self.evaluate(batch, self._evaluation)

    def test_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Keep what the model says of a batch."""
        self.evaluate(batch, self._evaluation)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the pass under `val/`."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the pass under `test/`."""
        self._log_metrics("test")

    @abstractmethod
    def predict_step(self, batch: Any, batch_idx: int = 0) -> dict[str, Tensor]:
        """The answers of a batch, and the `index` of the row that each is of."""

    @abstractmethod
    def evaluate(self, batch: Any, evaluation: Evaluation) -> None:
        """Add what the model says of a batch to the pass.

        Raises:
            ValueError: the batch has no labels.
        """

    @abstractmethod
    def score(self, scores: Scores) -> tuple[Scores, dict[str, Tensor]]:
        """What is to be kept of a pass, and its metrics without the prefix of their split.

        Args:
            scores: of all rows of all ranks, on the CPU, with labels as `evaluate` gave them.
        """

    def made_up(self) -> Scores:
        """Scores of one row, for `score` to show which metrics there are."""
        return self._problem.made_up(self.label_names)

    def validation_metrics(self) -> Collection[str]:
        """The keys that a validation logs: those of the metrics of a row that is made up."""
        _, metrics = self.score(self.made_up())
        return [f"val/{name}" for name in metrics]

    def confusion_matrix(self) -> Tensor | None:
        """(C, C) int64 counts, rows are true classes, of the last evaluation.

        None before any, and for problems in which a row has not one class.
        """
        return None if self._scores is None else self._problem.confusion_matrix(self._scores)

    def evaluation_scores(self) -> Scores | None:
        """What the model said of each row in the last evaluation, on the CPU; None before any."""
        return self._scores

    @property
    def was_evaluated(self) -> bool:
        """Whether the pass under way has seen a row."""
        return self._evaluation.has_rows

    def finish_evaluation(self, distributed: bool) -> dict[str, Tensor]:
        """End a pass.

        Args:
            distributed: whether there are other ranks to gather from; then all ranks must call it.

        Returns:
            Its metrics, without the prefix of their split, on the CPU.
        """
        scores = self._evaluation.gather(distributed)
        self._evaluation.clear()
        self._scores, metrics = self.score(Scores(*(column.cpu() for column in scores)))
        return metrics

    def _log_metrics(self, split: str) -> None:
        several = self.trainer.world_size > 1
        metrics = self.finish_evaluation(several)
        # All ranks have the same rows and so the same values: their mean, which Lightning asks for, is the same too.
        values = {f"{split}/{name}": value.to(self.device) for name, value in metrics.items()}
        self.log_dict(values, prog_bar=False, sync_dist=several)
