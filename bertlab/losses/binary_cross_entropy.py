"""BinaryCrossEntropy: the loss of multi-label classification."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class BinaryCrossEntropy(nn.Module):
    """Cross entropy with a sigmoid for each class, averaged over the classes, one value a sequence."""

    def forward(self, logits: Tensor, labels: Tensor, positive_weights: Tensor | None = None) -> Tensor:
        """The loss of each sequence.

        Args:
            logits: (S, C).
            labels: (S, C) float, 0 or 1.
            positive_weights: (C,) weights of the term of a class that is present; None: all one.

        Returns:
            (S,), in nats.
        """
        elements = functional.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=positive_weights, reduction="none"
        )
        return elements.mean(dim=1)
