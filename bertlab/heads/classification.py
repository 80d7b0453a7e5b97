"""ClassificationHead: one answer for each sequence."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bertlab.interfaces import EncoderOutput

Pool = Literal["pooled", "first", "mean"]


class ClassificationHead(nn.Module):
    """Dropout and a linear layer on one vector for each sequence.

    Devlin et al. 2019, arXiv:1810.04805, section 4.1: the vector is the encoder's pooled output. Weights begin
    as BERT's do: normal with standard deviation 0.02, bias 0.

    Args:
        hidden_size: D of the encoder.
        outputs: C.
        dropout: in [0, 1).
        pool: "pooled": the encoder's own pooler; of an encoder without one (DistilBERT, ELECTRA, ModernBERT)
            the first token, as "first". "first": the last hidden state of the first token. "mean": the mean of
            the last hidden states of all tokens.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, hidden_size: int, outputs: int, dropout: float = 0.1, pool: Pool = "pooled") -> None:
        super().__init__()
        if pool not in get_args(Pool):
            raise ValueError(f"pool takes one of {get_args(Pool)}, got {pool!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout takes a share in [0, 1), got {dropout}")
        if outputs < 1:
            raise ValueError(f"outputs takes 1 or more, got {outputs}")
        self.pool: Pool = pool
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, outputs)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, encoded: EncoderOutput, lengths: Tensor) -> Tensor:
        """Answers of a batch.

        Args:
            encoded: what the encoder gave.
            lengths: (S,) tokens of each sequence.

        Returns:
            (S, C) logits.
        """
        return self.answers(self.vector(encoded, lengths))

    def answers(self, vector: Tensor) -> Tensor:
        """(S, C) logits from the (S, D) vectors of the sequences."""
        return self.output(self.dropout(vector))

    def vector(self, encoded: EncoderOutput, lengths: Tensor) -> Tensor:
        """(S, D): the vector of each sequence, as `pool` says."""
        if self.pool == "mean":
            # Summed in float32 whatever the precision: a sum of hundreds of bfloat16 loses digits.
            lengths = lengths.to(encoded.hidden.device)
            return torch.segment_reduce(encoded.hidden.float(), "mean", lengths=lengths, axis=0)
        if self.pool == "pooled" and encoded.pooled is not None:
            return encoded.pooled
        return encoded.first
