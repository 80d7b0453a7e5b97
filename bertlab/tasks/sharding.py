"""FSDP2: a task's blocks as the units that are sharded."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from bertlab.interfaces import Block


def shard_blocks(blocks: Sequence[Block], roots: Sequence[nn.Module], mesh: DeviceMesh) -> None:
    """Shard each module of each block on its own, then what is left of each root.

    Block by block, so that parameters frozen or trained together are sharded together. Modules that share a
    parameter (a decoder tied to the word embeddings) are one unit, for a parameter is sharded once.

    Args:
        blocks: from the embeddings up.
        roots: modules that are called from outside and hold the blocks.
        mesh: of Lightning's `ModelParallelStrategy`; its dimension "data_parallel" is sharded over.

    Raises:
        ValueError: the strategy wants tensor parallelism, which its default does.
    """
    if mesh["tensor_parallel"].size() > 1:
        ranks = mesh["data_parallel"].size() * mesh["tensor_parallel"].size()
        raise ValueError(
            "trainer.strategy: ModelParallelStrategy takes tensor_parallel_size 1 and data_parallel_size "
            f"{ranks} here (by default it splits the layers themselves), got tensor_parallel_size "
            f"{mesh['tensor_parallel'].size()}"
        )
    data_parallel = mesh["data_parallel"]
    held = {id(root) for root in roots}
    modules = [module for block in blocks for module in block.modules if id(module) not in held]
    for unit in _units(modules):
        fully_shard(unit if len(unit) > 1 else unit[0], mesh=data_parallel)
    for root in roots:
        fully_shard(root, mesh=data_parallel)


def refuse_fsdp1(trainer: Trainer) -> None:
    """Refuse FSDP1, which flattens parameters, so that the optimizer could not tell blocks apart.

    Raises:
        TypeError: the strategy of the trainer is FSDP1.
    """
    if isinstance(trainer.strategy, FSDPStrategy):
        raise TypeError(
            "trainer.strategy 'fsdp' (FSDP1) flattens parameters, so that blocks cannot be told apart; use ddp, or "
            "ModelParallelStrategy (FSDP2) as configs/hardware/fsdp.yaml does"
        )


def _units(modules: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """Modules that have parameters, those that share some together."""
    units: list[tuple[list[nn.Module], set[int]]] = []
    for module in modules:
        own = {id(parameter) for parameter in module.parameters()}
        if not own:
            continue
        sharing = [unit for unit in units if unit[1] & own]
        units = [unit for unit in units if not unit[1] & own]
        together = [member for members, _ in sharing for member in members]
        units.append(([*together, module], own.union(*(ids for _, ids in sharing))))
    return [members for members, _ in units]
