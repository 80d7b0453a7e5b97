"""Focal: cross entropy that looks away from what is already right."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional


class Focal(nn.Module):
    """Focal loss `(1 - p)^gamma · -log p`, with p the probability of the truth.

    Lin et al. 2017, arXiv:1708.02002, eq. 4; the weights alpha of eq. 5 are the task's class weights. The
    paper's loss is a sigmoid for each class: so it is for multi-label targets, averaged over the classes;
    single-label targets take the probability of the softmax.

    Args:
        gamma: how strongly it looks away, 0 or more; 0 is cross entropy, the paper's choice is 2.

    Raises:
        ValueError: `gamma` is negative or not finite.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        if not (math.isfinite(gamma) and gamma >= 0):
            raise ValueError(f"Focal.gamma takes a number of 0 or more, got {gamma}")
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor, positive_weights: Tensor | None = None) -> Tensor:
        """The loss of each sequence.

        Args:
            logits: (S, C).
            labels: (S,) int64 for single-label, (S, C) float for multi-label.
            positive_weights: (C,) weights of the term of a class that is present, multi-label only.

        Returns:
            (S,), in nats.
        """
        if labels.dim() == 1:
            entropy = functional.cross_entropy(logits, labels, reduction="none")
            return self._focus(entropy) * entropy
        entropy = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        elements = self._focus(entropy) * entropy
        if positive_weights is not None:
            elements = elements * (1 + labels * (positive_weights - 1))
        return elements.mean(dim=1)

    def _focus(self, entropy: Tensor) -> Tensor:
        # p = exp(-entropy); -expm1 keeps 1 - p exact near p = 1, and the clamp keeps the derivative of the
        # power finite where 1 - p is zero and gamma below 1.
        return (-(-entropy).expm1()).clamp_min(1e-12) ** self.gamma

    def extra_repr(self) -> str:
        """The argument."""
        return f"gamma={self.gamma}"
