"""ReplacedTokenHead: whether a token is the one that stood in the text."""

from __future__ import annotations

from torch import Tensor, nn


class ReplacedTokenHead(nn.Module):
    """One logit for each token: positive where it was replaced.

    Clark et al. 2020, arXiv:2003.10555, section 3.1, as google-research/electra builds it: dense, activation,
    projection to one number.

    Args:
        hidden_size: D.
        activation: of the dense layer.
        deviation: standard deviation of the first weights.
    """

    def __init__(self, hidden_size: int, activation: nn.Module, deviation: float = 0.02) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = activation
        self.output = nn.Linear(hidden_size, 1)
        for layer in (self.dense, self.output):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, D) to (N,) logits in float32."""
        return self.output(self.activation(self.dense(hidden))).squeeze(1).float()
