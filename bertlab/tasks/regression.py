"""Regression: each sequence has a number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics.functional import regression as metric

from bertlab.losses.mean_squared_error import MeanSquaredError
from bertlab.tasks.evaluation import Scores
from bertlab.tasks.problem import Problem


class Regression(Problem):
    """A number, as the head gives it."""

    monitor = ("mse", "min")  # always defined, where a correlation is not
    least_labels = None

    def default_loss(self) -> nn.Module:
        """The squared error."""
        return MeanSquaredError()

    def losses(self, loss: nn.Module, logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """(S,)."""
        return loss(logits, labels)

    def sequence_weights(self, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """All one."""
        return labels.new_ones(len(labels), dtype=torch.float32)

    def answers(self, logits: Tensor) -> Tensor:
        """(S, 1) values."""
        return logits

    def metrics(self, scores: Scores, label_names: Sequence[str] | None) -> dict[str, Tensor]:
        """Errors and correlations.

        Returns:
            loss, mse, mae, pearson, spearman; the two correlations are 0 where they are not defined: for
            fewer than two rows, or where all values or all targets are equal.
        """
        values, targets = scores.outputs.squeeze(1), scores.labels
        defined = len(values) > 1 and bool(values.ne(values[0]).any()) and bool(targets.ne(targets[0]).any())
        # In double precision: the sums of Pearson's formula cancel where targets are far from zero.
        pair = values.double(), targets.double()
        return {
            "loss": scores.losses.mean(),
            "mse": (values - targets).square().mean(),
            "mae": (values - targets).abs().mean(),
            "pearson": metric.pearson_corrcoef(*pair).float() if defined else values.new_zeros(()),
            "spearman": metric.spearman_corrcoef(*pair).float() if defined else values.new_zeros(()),
        }
