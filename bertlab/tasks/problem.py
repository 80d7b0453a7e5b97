"""Problem: the base of the kinds of answer that a sequence can be given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from bertlab.tasks.evaluation import Scores


class Problem(ABC):
    """What differs between single-label, multi-label and regression; no state of training is in it."""

    #: metric (without "val/") that the best checkpoint is chosen by, and whether less or more of it is
    #: better.
    monitor: ClassVar[tuple[str, Literal["min", "max"]]]
    #: how many labels there must be at least; None: the problem has no labels.
    least_labels: ClassVar[int | None]

    def outputs(self, label_names: Sequence[str] | None) -> int:
        """Width of the head.

        Raises:
            ValueError: labels are missing, too few, double, or there where the problem has none.
        """
        if self.least_labels is None:
            if label_names is not None:
                raise ValueError(f"problem 'regression' takes no label names, got {list(label_names)}")
            return 1
        if label_names is None:
            raise ValueError(
                "the labels are not known: set data.init_args.label_names or model.init_args.label_names, or "
                "give data with labels"
            )
        if len(label_names) < self.least_labels:
            raise ValueError(f"the problem takes {self.least_labels} labels or more, got {list(label_names)}")
        if len(set(label_names)) < len(label_names):
            raise ValueError(f"label_names takes each name once, got {list(label_names)}")
        return len(label_names)

    @abstractmethod
    def default_loss(self) -> nn.Module:
        """The loss where none is given."""

    @abstractmethod
    def losses(self, loss: nn.Module, logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """(S,) loss of each sequence, with those class weights that act inside a sequence."""

    @abstractmethod
    def sequence_weights(self, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        """(n,) float32 weight of each sequence."""

    @abstractmethod
    def answers(self, logits: Tensor) -> Tensor:
        """(S, C) float32 probabilities, or (S, 1) values."""

    @abstractmethod
    def metrics(self, scores: Scores, label_names: Sequence[str] | None) -> dict[str, Tensor]:
        """Scalars by name, without the prefix of the split."""

    def made_up(self, label_names: Sequence[str] | None) -> Scores:
        """Scores of one row, for `metrics` to show which metrics there are."""
        outputs = torch.zeros(1, self.outputs(label_names))
        return Scores(outputs, torch.zeros(1, dtype=torch.int64), torch.zeros(1))

    def positive_label(self, label_names: Sequence[str] | None) -> str | None:
        """The class that the `positive_…` metrics are of; None where there is none."""
        return None

    def checked_class_weights(self, weights: Tensor, label_names: Sequence[str] | None) -> Tensor:
        """(C,) float32 class weights.

        Raises:
            ValueError: there are no classes; the number is wrong; a weight is negative or not finite.
        """
        if label_names is None:
            raise ValueError("class weights go with classes, this task has none")
        if weights.shape != (len(label_names),):
            raise ValueError(
                f"class weights take one number for each of the labels {list(label_names)}, got shape "
                f"{tuple(weights.shape)}"
            )
        if not weights.isfinite().all() or (weights < 0).any():
            raise ValueError(f"class weights take finite numbers of 0 or more, got {weights.tolist()}")
        return weights.to(torch.float32)

    def confusion_matrix(self, scores: Scores) -> Tensor | None:
        """(C, C) int64 counts on the CPU, rows are true classes; None where a row has not one class."""
        return None
