"""Floating-point operations that the pretraining of a BERT asks for, and what a GPU could do of them in a second."""

from __future__ import annotations

from typing import Any, NamedTuple

#: Dense bfloat16 products with sums in float32, in TFLOP/s, by the name that torch gives a card: of NVIDIA's data
#: sheets (half of a figure that is "with sparsity"), of GeForce the white papers of Ampere and Ada. The whole name has
#: to be the same, for a slice of a card and its other forms have other peaks. Lightning's own table
#: (`lightning.fabric.utilities.throughput`) has the H200 with sparsity.
PEAK_TFLOPS = {
    "NVIDIA A10": 125.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H200": 989.4,
    "NVIDIA L4": 121.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA GeForce RTX 3090": 71.0,
    "NVIDIA GeForce RTX 4090": 165.2,
}


class Amount(NamedTuple):
    """What some sequences hold.

    Attributes:
        sequences: how many.
        tokens: without padding.
        squares: sum over the sequences of the square of their tokens.
        masked: tokens that are to be predicted.
    """

    sequences: int
    tokens: int
    squares: int
    masked: int


def training_flops(model: Any, amount: Amount) -> float:
    """Operations of the products of matrices in a training step, forward and backward.

    Those that the model needs, whatever a program does besides: 6 for each weight of a layer and token, and
    12 · layers · width · tokens of its sequence for a token's attention (Chowdhery et al. 2022, arXiv:2204.02311,
    appendix B, after Kaplan et al. 2020, arXiv:2001.08361, table 1). The head is counted where it is asked for: pieces
    are predicted at masked tokens alone, and pooler and sentence head see a token of each sequence. So what a program
    makes of padding and of other tokens counts as waste. Embeddings are read and not multiplied.

    Args:
        model: BertConfig.
        amount: of the step.

    Examples:
        A layer of width 2 with 3 inner units has 4 · 2 · 2 + 2 · 2 · 3 weights.

        >>> from transformers import BertConfig
        >>> one = BertConfig(num_hidden_layers=1, hidden_size=2, num_attention_heads=1, intermediate_size=3)
        >>> training_flops(one, Amount(sequences=0, tokens=10, squares=100, masked=0)) == 6 * 28 * 10 + 12 * 2 * 100
        True
    """
    width = model.hidden_size
    layers = 4 * width**2 + 2 * width * model.intermediate_size
    products = model.num_hidden_layers * (layers * amount.tokens + 2 * width * amount.squares)
    products += (width**2 + width * model.vocab_size) * amount.masked
    products += (width**2 + 2 * width) * amount.sequences
    return 6.0 * products


def share_of_peak(tflops: float, card: str) -> float | None:
    """The share of its `PEAK_TFLOPS` that a card gave; None of a card that is not among them."""
    peak = PEAK_TFLOPS.get(card)
    return None if peak is None else tflops / peak
