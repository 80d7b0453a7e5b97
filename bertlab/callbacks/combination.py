"""What strategies can be used together, on which task and where: checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.callbacks.run import EXCLUSIVE, RESOURCES
from bertlab.callbacks.triggers import Follow, Horizon
from bertlab.interfaces import HasBlocks, HasClassWeights

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


def check_platform(strategies: Sequence[Strategy], trainer: Trainer, module: LightningModule) -> None:
    """Refuse a way of sharding, or a task, that strategies cannot work with.

    Raises:
        TypeError: FSDP1; freezing under FSDP2; a task that does not tell its blocks.
    """
    if isinstance(trainer.strategy, FSDPStrategy):
        raise TypeError(
            "trainer.strategy 'fsdp' (FSDP1) flattens parameters, so strategies cannot tell them apart; use "
            "ddp, or ModelParallelStrategy (FSDP2) as configs/hardware/fsdp.yaml does"
        )
    freezing = [type(strategy).__name__ for strategy in strategies if "trainable" in strategy.touches]
    if freezing and isinstance(trainer.strategy, ModelParallelStrategy):
        raise TypeError(
            f"{freezing[0]} freezes blocks, which ModelParallelStrategy (FSDP2) cannot resume: torch's sharded "
            "checkpoints hold no optimizer state of what is frozen and refuse to load without it; use "
            "trainer.strategy ddp, or leave this strategy out"
        )
    if not isinstance(module, HasBlocks):
        raise TypeError(f"strategies need a task with blocks(), which {type(module).__name__} lacks")


def claims_of(strategies: Sequence[Strategy], module: LightningModule) -> dict[str, Strategy]:
    """Who has what one strategy alone can have: a resource, or the lead of stages or cycles.

    Raises:
        ValueError: an unknown name in `touches`; two strategies that claim the same (both are named).
        TypeError: class weights for a task that takes none.
    """
    claimed: dict[str, Strategy] = {}
    for strategy in strategies:
        name = type(strategy).__name__
        if unknown := strategy.touches - RESOURCES.keys():
            raise ValueError(f"{name}.touches names {sorted(unknown)}; accepted are {sorted(RESOURCES)}")
        claims = {resource: resource for resource in strategy.touches & EXCLUSIVE}
        if strategy.leads:
            claims[strategy.leads] = f"the lead of each {strategy.leads}"
        for claim, shown in sorted(claims.items()):
            if claim in claimed:
                raise ValueError(
                    f"{type(claimed[claim]).__name__} and {name} both claim {shown!r}, which one alone "
                    "can have: take one of them out of trainer.callbacks"
                )
            claimed[claim] = strategy
    if "class_weights" in claimed and not isinstance(module, HasClassWeights):
        raise TypeError(
            f"{type(claimed['class_weights']).__name__} weighs classes, and {type(module).__name__} "
            "takes no class weights"
        )
    return claimed


def bind_followers(strategies: Sequence[Strategy], claimed: Mapping[str, Strategy]) -> None:
    """Let triggers that follow the stages or cycles of another strategy find it."""
    for strategy in strategies:
        if isinstance(strategy.trigger, Follow):
            leader = claimed.get(strategy.trigger.follows or "")
            if leader is not None and leader is not strategy:
                strategy.trigger.leader = leader.trigger


def warn_of_stages_never_reached(strategies: Sequence[Strategy], horizon: Horizon) -> None:
    """Say which stages would begin only when training has ended."""
    for strategy in strategies:
        starts = list(strategy.trigger.starts(horizon))
        if strategy.stages is not None:
            starts = starts[: strategy.stages - 1]
        if late := [start for start in starts if start >= horizon.total_steps]:
            rank_zero_warn(
                f"{type(strategy).__name__}: {len(late)} of its {len(starts) + 1} stages would begin at "
                f"step {late[0]} or later, and training ends at step {horizon.total_steps}: never reached"
            )
