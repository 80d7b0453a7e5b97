"""TaggingHead: one answer for each word."""

from __future__ import annotations

from torch import Tensor, nn


class TaggingHead(nn.Module):
    """Dropout and a linear layer on the hidden state of each word's token.

    Devlin et al. 2019, arXiv:1810.04805, section 5.3. Weights begin as BERT's do: normal with standard deviation
    0.02, bias 0.

    Args:
        hidden_size: D of the encoder.
        outputs: C.
        dropout: in [0, 1).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, hidden_size: int, outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout takes a share in [0, 1), got {dropout}")
        if outputs < 1:
            raise ValueError(f"outputs takes 1 or more, got {outputs}")
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, outputs)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(W, D) hidden states to (W, C) logits."""
        return self.output(self.dropout(hidden))
