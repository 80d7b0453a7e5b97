"""CrossEntropy: the loss of single-label classification."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CrossEntropy(nn.Module):
    """Cross entropy with softmax, one value a sequence.

    Args:
        label_smoothing: part of the target, in [0, 1), that is spread evenly over all classes (Szegedy et al.
            2016, arXiv:1512.00567, section 7).

    Raises:
        ValueError: `label_smoothing` is out of range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"CrossEntropy.label_smoothing takes a number in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sequence.

        Args:
            logits: (S, C).
            labels: (S,) int64.

        Returns:
            (S,), in nats.
        """
        return functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.label_smoothing
        )

    def extra_repr(self) -> str:
        """The argument."""
        return f"label_smoothing={self.label_smoothing}"
