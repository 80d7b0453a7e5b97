"""SingleLabel: each sequence has one of C classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics.functional import classification as metric

from bertlab.losses.cross_entropy import CrossEntropy
from bertlab.tasks.average_precision import average_precision
from bertlab.tasks.evaluation import Scores
from bertlab.tasks.problem import Problem


class SingleLabel(Problem):
    """One of C classes, by a softmax.

    Args:
        positive_label: the class that the `positive_…` metrics are of; None: of two classes the second, of
            more none.
        calibration_bins: of the expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3), of
            equal width.

    Raises:
        ValueError: no bin.
    """

    monitor = ("macro_f1", "max")
    least_labels = 2

    def __init__(self, positive_label: str | None, calibration_bins: int) -> None:
        if calibration_bins < 1:
            raise ValueError(f"model.init_args.calibration_bins takes 1 or more, got {calibration_bins}")
        self._positive_label, self.calibration_bins = positive_label, calibration_bins

    def outputs(self, label_names: Sequence[str] | None) -> int:
        """C."""
        classes = super().outputs(label_names)
        self.positive_label(label_names)
        return classes

    def positive_label(self, label_names: Sequence[str] | None) -> str | None:
        """The class that the `positive_…` metrics are of; None where there is none.

        Raises:
            ValueError: it is no label.
        """
        if self._positive_label is None or label_names is None:
            return label_names[1] if label_names is not None and len(label_names) == 2 else None
        if self._positive_label not in label_names:
            raise ValueError(
                f"model.init_args.positive_label takes one of {list(label_names)}, got {self._positive_label!r}"
            )
        return self._positive_label

    def default_loss(self) -> nn.Module:
        """Cross entropy."""
        return CrossEntropy()

    def losses(self, loss: nn.Module, logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """(S,); class weights are weights of whole sequences here."""
        return loss(logits, labels)

    def sequence_weights(self, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """The weight of the true class."""
        if class_weights is None:
            return torch.ones_like(labels, dtype=torch.float32)
        return class_weights[labels]

    def answers(self, logits: Tensor) -> Tensor:
        """(S, C) probabilities."""
        return logits.softmax(dim=1)

    def metrics(self, scores: Scores, label_names: Sequence[str] | None) -> dict[str, Tensor]:
        """Metrics of all classes, and of the positive one.

        Returns:
            loss, accuracy, macro_f1 (over the classes that are true or predicted), mcc, calibration_error; of
            the positive class positive_precision, positive_recall, positive_f1, positive_average_precision.
        """
        probabilities, labels, classes = scores.outputs, scores.labels, scores.outputs.shape[1]
        predicted = probabilities.argmax(dim=1)
        bins = self.calibration_bins
        values = {
            "loss": scores.losses.mean(),
            "accuracy": (predicted == labels).float().mean(),
            "macro_f1": metric.multiclass_f1_score(predicted, labels, classes, average="macro"),
            "mcc": _matthews(predicted, labels, classes),
            "calibration_error": metric.multiclass_calibration_error(
                probabilities, labels, classes, n_bins=bins
            ),
        }
        name = self.positive_label(label_names)
        if name is not None and label_names is not None:
            positive = list(label_names).index(name)
            found, true = (predicted == positive).int(), (labels == positive).int()
            values["positive_precision"] = metric.binary_precision(found, true)
            values["positive_recall"] = metric.binary_recall(found, true)
            values["positive_f1"] = metric.binary_f1_score(found, true)
            values["positive_average_precision"] = average_precision(probabilities[:, positive], true)
        return values

    def confusion_matrix(self, scores: Scores) -> Tensor:
        """(C, C) int64 counts on the CPU: rows are true classes, columns predicted ones."""
        classes = scores.outputs.shape[1]
        return metric.multiclass_confusion_matrix(scores.outputs.argmax(dim=1), scores.labels, classes).cpu()


def _matthews(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Matthews' correlation; 0 where all predictions or all labels are of one class, as scikit-learn and GLUE say.

    torchmetrics gives 1 or -1 for some of these.
    """
    if (predicted == predicted[0]).all() or (labels == labels[0]).all():
        return torch.zeros((), device=labels.device)
    return metric.multiclass_matthews_corrcoef(predicted, labels, classes)
