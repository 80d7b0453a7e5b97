"""MeanSquaredError: the loss of regression."""

from __future__ import annotations

from torch import Tensor, nn


class MeanSquaredError(nn.Module):
    """The squared difference, one value a sequence."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sequence.

        Args:
            logits: (S, 1).
            labels: (S,) float targets.

        Returns:
            (S,), in squared units of the target.
        """
        return (logits.squeeze(1) - labels).square()
