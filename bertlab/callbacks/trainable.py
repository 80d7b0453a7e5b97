"""What is trained and what is frozen: parameters by identity, modes, and the ranks that must agree."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence, Set

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bertlab.interfaces import Block


class Found:
    """What is trained, and in which mode, before strategies change it: what they choose from, and leave behind.

    A parameter that is frozen then, by the task, its encoder or the user, stays frozen whatever strategies want.

    Args:
        blocks: all blocks of the model.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        held = {id(parameter): parameter for block in blocks for parameter in block.parameters()}
        self._flags = [(parameter, parameter.requires_grad) for parameter in held.values()]
        modules = (module for block in blocks for top in block.modules for module in top.modules())
        self._modes = [(module, module.training) for module in modules]

    @property
    def trained(self) -> set[int]:
        """Identities of the parameters that were not frozen."""
        return {id(parameter) for parameter, trained in self._flags if trained}

    def restore(self) -> bool:
        """Make it so again; returns whether the set of trained parameters has changed."""
        changed = False
        for parameter, trained in self._flags:
            changed |= parameter.requires_grad != trained
            parameter.requires_grad_(trained)
        for module, mode in self._modes:
            module.training = mode
        return changed


def train_blocks(
    blocks: Sequence[Block],
    chosen: Sequence[Block],
    only: Sequence[nn.Parameter] | None = None,
    among: Set[int] | None = None,
) -> bool:
    """Train the chosen blocks and freeze the others.

    A frozen parameter requires no gradient and holds none, so that no optimizer moves it, not by weight
    decay or momentum either. A parameter shared by blocks is trained if any block that holds it is chosen.
    The dropout of a frozen block is off, that of a block with anything trained on.

    Args:
        blocks: all blocks of the model.
        chosen: the blocks to train.
        only: the parameters to train in them; None: all.
        among: identities of the parameters that can be trained; None: all.

    Returns:
        Whether the set of trained parameters has changed.

    Raises:
        ValueError: no parameter at all is left to train.
    """
    wanted = {id(block) for block in chosen}
    trained = trained_by(chosen, only)
    if among is not None:
        trained &= among
    if not trained:
        raise ValueError(
            "what strategies want to train has nothing in common: the parameters that one names are in none of the "
            f"blocks that another trains ({', '.join(block.name for block in chosen)}), or were frozen before training"
        )
    changed = False
    for block in blocks:
        parameters = list(block.parameters())
        alive = not parameters or any(id(p) in trained for p in parameters)
        block.train(id(block) in wanted and alive)
        for parameter in parameters:
            train = id(parameter) in trained
            changed |= parameter.requires_grad != train
            parameter.requires_grad_(train)
            if not train:
                parameter.grad = None
    return changed


def trained_by(chosen: Iterable[Block], only: Iterable[nn.Parameter] | None) -> set[int]:
    """Identities of the parameters in the chosen blocks; of those in `only`, if that is given."""
    trained = {id(parameter) for block in chosen for parameter in block.parameters()}
    return trained if only is None else trained & {id(parameter) for parameter in only}


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
