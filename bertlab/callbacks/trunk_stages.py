"""How long stages with a frozen trunk last, and whether any of those to come is worth a cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from typing import Any

from lightning.pytorch import Trainer

from bertlab.callbacks.combination import FREEZING
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.run import Run
from bertlab.callbacks.strategy import Strategy
from bertlab.interfaces import HasEncoderBlocks, HasTrunk

#: Blocks that a trunk has at least: embeddings alone are computed as fast as they are read.
LEAST_BLOCKS = 2


def epochs_of(stage: Run | None, trainer: Trainer) -> float:
    """How many passes over the training split a stage lasts; infinite where nobody knows."""
    if stage is None or stage.stage_end is None:
        return math.inf
    loader: Any = trainer.train_dataloader
    steps = min(stage.stage_end, stage.horizon.total_steps) - stage.stage_start
    # All its batches, whatever limit_train_batches is.
    return steps * trainer.accumulate_grad_batches / len(loader)


def why_none_is_worth_it(trainer: Trainer, minimum_epochs: float) -> str | None:
    """Why no stage of a training is worth keeping what frozen blocks give; None: one is, or nobody knows beforehand.

    Args:
        trainer: about to train.
        minimum_epochs: passes over the training split that a stage has to last.
    """
    conductor = Conductor.of(trainer)
    freezing = [strategy for strategy in conductor.strategies if strategy.touches & FREEZING]
    if not freezing:
        return "no other strategy freezes blocks (StagedUnfreezing does)"
    stager = next((strategy for strategy in freezing if "trainable" in strategy.touches), None)
    if stager is None or not stager.trigger.complete(conductor.horizon):
        return None
    name, lengths = type(stager).__name__, list(_lengths(stager, trainer))
    if not lengths:
        return f"no stage of {name} freezes lower blocks whose output can be kept (more than the embeddings)"
    if max(lengths) < minimum_epochs:
        return (
            f"the longest stage of {name} with frozen lower blocks lasts {max(lengths):.2f} epochs, less than "
            f"minimum_epochs {minimum_epochs}"
        )
    return None


def _lengths(stager: Strategy, trainer: Trainer) -> Iterator[float]:
    """Epochs of each stage that comes in which the lowest blocks are frozen and can be run apart from the others."""
    foresight, module = Conductor.of(trainer).foresight, trainer.lightning_module
    assert foresight is not None
    assert isinstance(module, HasTrunk)
    for run, trained in foresight.stages_of(stager):
        blocks, epochs = _frozen_below(module, trained), epochs_of(run, trainer)
        if epochs > 0 and blocks >= LEAST_BLOCKS and module.trunk_unit(blocks) is not None:
            yield epochs


def _frozen_below(module: Any, trained: Set[int]) -> int:
    """How many blocks, from the bottom up, hold nothing that is trained."""
    assert isinstance(module, HasEncoderBlocks)
    blocks = module.encoder_blocks()
    alive = (n for n, block in enumerate(blocks) if any(id(p) in trained for p in block.parameters()))
    return next(alive, len(blocks))
