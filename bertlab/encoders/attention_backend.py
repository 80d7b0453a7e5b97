"""Packed attention as a backend that models of transformers can be switched to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from bertlab.encoders.packed_attention import packed_attention
from bertlab.encoders.packing import Packing

NAME = "bertlab_packed"


class NotPackedError(RuntimeError):
    """A model did not hand the packing down to its attention."""


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  (always None; transformers passes it by position)
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    packing: Packing | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in place of its own attention: (1, H, N, E) in, (1, N, H, E) out."""
    if packing is None:
        raise NotPackedError(f"{type(module).__name__} was not handed the packing")
    qkv = torch.stack([part.squeeze(0).transpose(0, 1) for part in (query, key, value)], dim=1)
    factor: float = query.shape[-1] ** -0.5 if scaling is None else scaling
    return packed_attention(qkv, packing, factor, dropout, sliding_window)[None], None


def _no_mask(*_: Any, **__: Any) -> None:
    """Packed attention needs no mask of transformers."""


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _no_mask)
