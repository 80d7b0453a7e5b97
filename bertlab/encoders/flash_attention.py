"""Attention over packed sequences by FlashAttention's kernels, which need no layout and no padding."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

LARGEST_HEAD = 256


def takes(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether there are kernels for it: half precision, on a GPU of AMD's, or NVIDIA's from Ampere on.

    Args:
        device: of the tokens.
        dtype: of queries, keys and values.
        head_size: E, of which kernels take multiples of 8 up to `LARGEST_HEAD`.
    """
    fits = dtype in (torch.float16, torch.bfloat16) and head_size % 8 == 0 and head_size <= LARGEST_HEAD
    return fits and device.type == "cuda" and _has_kernels(device)


@cache
def _has_kernels(device: torch.device) -> bool:
    modern = torch.cuda.get_device_capability(device) >= (8, 0)
    return modern and torch.backends.cuda.is_flash_attention_available()


def flash_attention(
    qkv: Tensor, offsets: Tensor, longest: int, scaling: float, p: float = 0.0, window: int | None = None
) -> Tensor:
    """Scaled dot-product attention within each sequence; Dao 2023, arXiv:2307.08691.

    Args:
        qkv: (N, 3, H, E) of the tokens, of a kind that `takes` accepts.
        offsets: (S + 1,) int32 number of the first token of each sequence, and of all tokens.
        longest: tokens of the longest sequence.
        scaling: factor of the scores.
        p: dropout of the attention probabilities, in [0, 1).
        window: a token sees those less than this many places away; None: all of its sequence.

    Returns:
        (N, H, E).
    """
    query, key, value = qkv.unbind(1)
    sight = None if window is None else window - 1
    # torch has no public name for these kernels that takes dropout: `torch.nn.attention.varlen` has none, and nested
    # tensors took three times as long as the whole step (CPU work) and may choose other kernels.
    output, *_ = torch.ops.aten._flash_attention_forward(
        *(query, key, value, offsets, offsets, longest, longest),
        *(p, False, False),  # neither causal nor with the mask given back
        scale=scaling,
        window_size_left=sight,
        window_size_right=sight,
    )
    return output
