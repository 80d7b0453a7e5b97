"""MaskedLmHead: which word piece stood at a masked position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from bertlab.row_multiple import pad_rows, row_multiple

Answer = TypeVar("Answer")


class MaskedLmHead(nn.Module):
    """A transform and a decoder whose weights are the word embeddings.

    Devlin et al. 2019, arXiv:1810.04805, section 3.1, as google-research/bert builds it: dense, activation,
    normalisation, then the transposed embedding table and a bias. It is given the hidden states of masked
    positions only: logits of all tokens would cost more than the encoder.

    Args:
        hidden_size: D.
        embedding: the encoder's word embedding (V, E); the decoder holds the same parameter.
        activation: of the transform.
        epsilon: of the normalisation.
        dense_bias: whether the dense layer has one.
        norm_bias: whether the normalisation has one.
        tied: False: the decoder has weights of its own.
        deviation: standard deviation of the first weights.
    """

    def __init__(
        self,
        hidden_size: int,
        embedding: nn.Embedding,
        activation: nn.Module,
        epsilon: float = 1e-12,
        dense_bias: bool = True,
        norm_bias: bool = True,
        tied: bool = True,
        deviation: float = 0.02,
    ) -> None:
        super().__init__()
        size, width = embedding.weight.shape
        self.dense = nn.Linear(hidden_size, width, bias=dense_bias)
        self.activation = activation
        self.norm = nn.LayerNorm(width, eps=epsilon, bias=norm_bias)
        self.decoder = nn.Linear(width, size, device="meta" if tied else None)
        if tied:
            self.decoder.weight = embedding.weight
            self.decoder.bias = nn.Parameter(embedding.weight.new_empty(size))
        else:
            nn.init.normal_(self.decoder.weight, std=deviation)
        nn.init.normal_(self.dense.weight, std=deviation)
        nn.init.zeros_(self.decoder.bias)
        if dense_bias:
            nn.init.zeros_(self.dense.bias)

    def forward(self, hidden: Tensor, decode: Callable[[Tensor, Tensor, Tensor], Answer]) -> Answer:
        """What `decode` makes of the transformed states.

        A function is taken, rather than logits given, so that a loss need not hold all logits at once; it is
        called in here because weights sharded over ranks are whole only while their module runs.

        Args:
            hidden: (M, D) of masked positions.
            decode: takes states (M, E), weight (V, E) and bias (V,) of the decoder, such as
                `torch.nn.functional.linear`, which gives the logits (M, V).
        """
        padded = pad_rows(hidden, row_multiple(self.dense.weight))
        transformed = self.norm(self.activation(self.dense(padded)))[: len(hidden)]
        return decode(transformed, self.decoder.weight, self.decoder.bias)
