"""TaskGradients: the gradients of an optimizer step, those of each task by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class TaskGradients:
    """Sums up the gradients of each task over the micro-batches of an optimizer step.

    Memory: one number for each number of the parameters, for each task of the step.
    """

    def __init__(self) -> None:
        self._parameters: list[nn.Parameter] = []
        self._sums: dict[str, Tensor] = {}

    @property
    def tasks(self) -> list[str]:
        """The K tasks that the step is of, in alphabetical order: the order of batches does not matter."""
        return sorted(self._sums)

    def add(
        self,
        task: str,
        parameters: Sequence[nn.Parameter],
        gradients: Sequence[Tensor | None],
        share: float = 1.0,
    ) -> None:
        """Add the gradients of a micro-batch.

        Args:
            task: that they are of.
            parameters: the same in the whole step.
            gradients: one for each parameter, of its shape; None counts as 0.
            share: what they are multiplied by.
        """
        self._parameters = list(parameters)
        flat = [
            p.new_zeros(p.numel()) if g is None else g.detach().reshape(-1)
            for p, g in zip(parameters, gradients, strict=True)
        ]
        total = torch.cat(flat) * share
        self._sums[task] = self._sums[task] + total if task in self._sums else total

    def exchange(self, mean: Callable[[Tensor], Tensor]) -> None:
        """Replace the sums of this rank by their means over all ranks.

        Args:
            mean: of a tensor over all ranks.
        """
        for task in self.tasks:
            self._sums[task] = mean(self._sums[task])

    def products(self) -> Tensor:
        """(K, K) products of the gradients of two tasks each, in float64."""
        sums = [self._sums[task] for task in self.tasks]
        return torch.stack([torch.stack([torch.dot(a, b) for b in sums]) for a in sums]).double()

    def write(self, weights: Tensor) -> None:
        """Give the parameters the weighted sum of the tasks' gradients, and forget those.

        A parameter without a gradient is left without.

        Args:
            weights: (K,) one for each task.
        """
        total = torch.zeros_like(next(iter(self._sums.values())))
        for task, weight in zip(self.tasks, weights.tolist(), strict=True):
            total.add_(self._sums[task], alpha=weight)
        for parameter, part in zip(
            self._parameters, total.split([p.numel() for p in self._parameters]), strict=True
        ):
            if parameter.grad is not None:
                parameter.grad.copy_(part.view_as(parameter))
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._parameters, self._sums = [], {}
