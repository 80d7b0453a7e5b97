"""NextSentenceHead: whether the second segment follows the first."""

from __future__ import annotations

from torch import Tensor, nn

from bertlab.interfaces import EncoderOutput


class NextSentenceHead(nn.Module):
    """Two logits for each sequence, of the classes 0 and 1 of the sentence labels.

    Devlin et al. 2019, arXiv:1810.04805, section 3.1, and for the order of sentences Lan et al. 2020,
    arXiv:1909.11942, section 3.1. An encoder without a pooler gets BERT's here: dense and tanh on the first token.

    Args:
        hidden_size: D.
        pooler: whether it needs a pooler of its own, since the encoder has none.
        deviation: standard deviation of the first weights.
    """

    def __init__(self, hidden_size: int, pooler: bool, deviation: float = 0.02) -> None:
        super().__init__()
        self.pooler = nn.Linear(hidden_size, hidden_size) if pooler else None
        self.output = nn.Linear(hidden_size, 2)
        for layer in (self.pooler, self.output):
            if layer is not None:
                nn.init.normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)

    def forward(self, encoded: EncoderOutput) -> Tensor:
        """(S, 2) logits in float32."""
        if self.pooler is not None:
            return self.output(self.pooler(encoded.first).tanh()).float()
        if encoded.pooled is None:
            raise ValueError("the encoder gives no pooled output: make the head with pooler=True")
        return self.output(encoded.pooled).float()
