"""The pooler of a model of transformers, which an `Encoder` runs itself, on what it needs alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def pooled(model: nn.Module, first: Tensor) -> Tensor | None:
    """The output of a model's pooler for (S, D) hidden states of first tokens; None where it has none."""
    pooler: Any = getattr(model, "pooler", None)
    if pooler is None:
        return None
    if isinstance(pooler, nn.Linear):  # ALBERT
        activation: Any = model.pooler_activation
        return activation(pooler(first))
    return pooler(first[:, None])


@contextmanager
def pooler_at_rest(model: nn.Module) -> Generator[None]:
    """Have the pooler draw no random numbers where the model runs it and nobody looks: adapters have dropout."""
    pooler: Any = getattr(model, "pooler", None)
    modes = [] if pooler is None else [(module, module.training) for module in pooler.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
