"""The weights that training starts from, as strategies make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.step_seed import seeded
from bertlab.interfaces import HasEncoderBlocks

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


def initialised(
    trainer: Trainer, module: LightningModule, strategies: Sequence[Strategy]
) -> dict[int, Tensor]:
    """Let strategies change the weights that training starts from, then add parameters of their own.

    Args:
        trainer: about to train.
        module: its task, whose head may not be built yet.
        strategies: of the trainer.

    Returns:
        Copies of the encoder's weights by the identity of the parameter, if any strategy asks for them.
    """
    if not isinstance(module, HasEncoderBlocks):
        return {}  # what strategies need of it is checked before training
    blocks = Blocks(module.encoder_blocks())
    for strategy in strategies:
        strategy.initialise(blocks, seeded(trainer, f"{type(strategy).__name__}/start"))
    for strategy in strategies:
        strategy.extend(module, seeded(trainer, f"{type(strategy).__name__}/parameters"))
    if not any(strategy.needs_starting_weights for strategy in strategies):
        return {}
    return {id(p): p.detach().clone() for block in blocks for p in block.parameters()}
