"""Adapters of an encoder in the checkpoint of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bertlab.tasks.checkpoint import ADAPTERS


def describe_adapters(checkpoint: dict[str, Any], encoder: Any) -> None:
    """Write into a checkpoint which adapters the encoder has, if it has any."""
    adapters = getattr(encoder, "adapters", None)
    if adapters is not None:
        checkpoint[ADAPTERS] = dict(adapters.settings)


def adapters_from(checkpoint: Mapping[str, Any], encoder: Any, fitting: bool) -> None:
    """Give an encoder the adapters of a checkpoint, whose weights are loaded next.

    Args:
        checkpoint: as loaded.
        encoder: of the task.
        fitting: whether training goes on from it; then a strategy of the run has to have put them in.

    Raises:
        ValueError: checkpoint and encoder have different adapters, or one alone has some.
    """
    kept = checkpoint.get(ADAPTERS)
    adapters = getattr(encoder, "adapters", None)
    if adapters is not None:
        if kept != adapters.settings:
            raise ValueError(
                f"the adapters of the checkpoint are {kept}, those of the run {dict(adapters.settings)}: they must be "
                "the same (trainer.callbacks, LowRankAdapters)"
            )
    elif kept is not None:
        if fitting:
            raise ValueError(
                f"the checkpoint has adapters ({kept}), and no strategy of this run puts any in: add "
                "bertlab.callbacks.low_rank_adapters.LowRankAdapters with the same to trainer.callbacks"
            )
        # Their first weights do not matter: those of the checkpoint follow.
        encoder.add_adapters(kept, torch.Generator().manual_seed(0))
