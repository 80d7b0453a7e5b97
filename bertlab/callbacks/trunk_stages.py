"""Which blocks are a frozen trunk, how long stages with one last, and whether any of those to come is worth a cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from typing import Any

from lightning.pytorch import Trainer

from bertlab.callbacks.combination import FREEZING
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.run import Run
from bertlab.callbacks.strategy import Strategy
from bertlab.callbacks.trunk_keys import TrunkWatch, watch_of
from bertlab.interfaces import HasEncoderBlocks, HasTrunk

#: Blocks that a trunk has at least: embeddings alone are computed as fast as they are read.
LEAST_BLOCKS = 2


def frozen_now(watch: TrunkWatch, trainer: Trainer, minimum_epochs: float) -> tuple[int, str | None]:
    """How many of the lowest blocks are frozen, and why what they give is not kept; None: it is.

    Args:
        watch: of the blocks.
        trainer: in a stage.
        minimum_epochs: passes over the training split that a stage has to last.

    Returns:
        0 blocks where there are too few.
    """
    module, blocks = trainer.lightning_module, watch.frozen()
    assert isinstance(module, HasTrunk)
    if blocks < LEAST_BLOCKS:
        return 0, None
    if module.trunk_unit(blocks) is None:
        return blocks, "the encoder cannot be divided above them"
    epochs = epochs_of(Conductor.of(trainer).training_stage, trainer)
    if epochs < minimum_epochs:
        return blocks, f"the stage lasts {epochs:.2f} epochs, less than minimum_epochs"
    return blocks, None


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
        return _why_not_without_strategies(trainer, minimum_epochs)
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


def _why_not_without_strategies(trainer: Trainer, minimum_epochs: float) -> str | None:
    """The same where no strategy freezes: of what the task, its encoder or one's own code has frozen before."""
    module = trainer.lightning_module
    blocks, obstacle = frozen_now(watch_of(module), trainer, minimum_epochs)
    if blocks:
        return obstacle and f"of the blocks that were frozen before training nothing can be kept: {obstacle}"
    trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    if _frozen_below(module, trained) >= LEAST_BLOCKS:
        return (
            "no other strategy freezes blocks (StagedUnfreezing does), and those that were frozen before are in "
            "training mode, in which their dropout makes each pass another one: call eval() on them in on_fit_start, "
            "before which all is put into training mode"
        )
    return "nothing is frozen, and no other strategy freezes blocks (StagedUnfreezing does)"


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
