"""What is trained and what is frozen: parameters by identity, modes, and the ranks that must agree."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from bertlab.interfaces import Block


def train_blocks(blocks: Sequence[Block], chosen: Iterable[Block]) -> bool:
    """Train the chosen blocks and freeze the others.

    A frozen parameter requires no gradient and holds none, so that no optimizer moves it, not by weight
    decay or momentum either. A parameter shared by blocks is trained if any block that holds it is chosen.
    The dropout of a frozen block is off, that of a trained one on.

    Args:
        blocks: all blocks of the model.
        chosen: the blocks to train.

    Returns:
        Whether the set of trained parameters has changed.
    """
    wanted = {id(block) for block in chosen}
    trained = {id(p) for block in blocks if id(block) in wanted for p in block.parameters()}
    changed = False
    for block in blocks:
        block.train(id(block) in wanted)
        for parameter in block.parameters():
            train = id(parameter) in trained
            changed |= parameter.requires_grad != train
            parameter.requires_grad_(train)
            if not train:
                parameter.grad = None
    return changed


def wrap_again(trainer: Trainer) -> None:
    """Give DDP a new reducer for the parameters that are trained now.

    A parameter that was frozen when DDP wrapped the model has no hook in its reducer: once it is trained,
    each rank would silently train its own copy (Lightning issue 20340). The new reducer also exchanges
    nothing for what is frozen. Construction broadcasts rank 0's parameters and buffers.
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and isinstance(strategy.model, DistributedDataParallel):
        strategy.model = trainer.lightning_module
        gc.collect()  # the old reducer takes its hooks along only when it is destroyed
        strategy.configure_ddp()
