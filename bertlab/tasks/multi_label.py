"""MultiLabel: each sequence has any of C classes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics.functional import classification as metric

from bertlab.losses.binary_cross_entropy import BinaryCrossEntropy
from bertlab.tasks.average_precision import average_precision
from bertlab.tasks.evaluation import Scores
from bertlab.tasks.problem import Problem


class MultiLabel(Problem):
    """Any number of C classes, by a sigmoid for each; predicted are those with a probability above 1/2."""

    monitor = ("macro_f1", "max")
    least_labels = 2  # with one, it is single-label with two classes

    def default_loss(self) -> nn.Module:
        """Binary cross entropy, averaged over the classes."""
        return BinaryCrossEntropy()

    def losses(self, loss: nn.Module, logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """(S,); class weights are weights of the terms of the classes that are present.

        Raises:
            ValueError: there are class weights, and the loss takes none.
        """
        if class_weights is None:
            return loss(logits, labels)
        if "positive_weights" not in inspect.signature(loss.forward).parameters:
            raise ValueError(
                f"model.init_args.loss: {type(loss).__name__} takes no class weights for multi-label data "
                "(no argument `positive_weights` of forward)"
            )
        return loss(logits, labels, positive_weights=class_weights)

    def sequence_weights(self, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """All one: class weights act inside a sequence."""
        return labels.new_ones(len(labels), dtype=torch.float32)

    def answers(self, logits: Tensor) -> Tensor:
        """(S, C) probabilities."""
        return logits.sigmoid()

    def made_up(self, label_names: Sequence[str] | None) -> Scores:
        """Scores of one row, which has none of the classes."""
        row = super().made_up(label_names)
        return row._replace(labels=torch.zeros_like(row.outputs))

    def metrics(self, scores: Scores, label_names: Sequence[str] | None) -> dict[str, Tensor]:
        """Metrics over rows and classes.

        Returns:
            loss, micro_f1, macro_f1, subset_accuracy (all classes of a row right), mean_average_precision
            (over the classes that are present at all; 0 if none is).
        """
        probabilities, labels = scores.outputs, scores.labels.int()
        classes = labels.shape[1]
        present = [c for c in range(classes) if labels[:, c].any()]
        areas = [average_precision(probabilities[:, c], labels[:, c]) for c in present]
        return {
            "loss": scores.losses.mean(),
            "micro_f1": metric.multilabel_f1_score(probabilities, labels, classes, average="micro"),
            "macro_f1": metric.multilabel_f1_score(probabilities, labels, classes, average="macro"),
            "subset_accuracy": ((probabilities > 0.5) == labels.bool()).all(dim=1).float().mean(),
            "mean_average_precision": torch.stack(areas).mean() if areas else probabilities.new_zeros(()),
        }
