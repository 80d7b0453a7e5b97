"""What strategies can be used together, on which task and where: checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from bertlab.callbacks.resources import BESIDE_PRIVACY, EXCLUSIVE, RESOURCES
from bertlab.callbacks.triggers import Follow
from bertlab.interfaces import (
    HasBlocks,
    HasClassWeights,
    HasEncoderBlocks,
    HasTasks,
    HasTrainingLoss,
    HasWordEmbedding,
)

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy

#: What freezes.
FREEZING = {"trainable", "parameters"}

#: What cannot be done with a share of each parameter.
WHOLE_PARAMETERS = {"loss", "passes", "gradients", "average"}


def strategies_of(trainer: Trainer) -> list[Strategy]:
    """The strategies of a trainer, leaders first, so that their order in the configuration does not matter."""
    from bertlab.callbacks.strategy import Strategy

    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    found = [callback for callback in callbacks if isinstance(callback, Strategy)]
    return sorted(found, key=lambda s: (s.leads != "stage", s.leads != "cycle", s.state_key))


def check_declarations(strategies: Sequence[Strategy]) -> None:
    """Refuse a strategy that does not declare what it touches as a set.

    Raises:
        TypeError: names it.
    """
    for strategy in strategies:
        touches: object = strategy.touches
        if not isinstance(touches, set | frozenset):
            raise TypeError(
                f"{type(strategy).__name__}.touches takes a set of names, such as {{'trainable', 'lr'}}, and is "
                f"{touches!r}"
            )


def check_platform(strategies: Sequence[Strategy], trainer: Trainer, module: LightningModule) -> None:
    """Refuse a way of sharding, or a task, that strategies cannot work with.

    Raises:
        TypeError: FSDP1; under FSDP2 what freezes or needs whole parameters; in 16-mixed gradients of its own, or work
            on those of a fused optimizer; a task that lacks what a strategy works on.
    """
    if isinstance(trainer.strategy, FSDPStrategy):
        raise TypeError(
            "trainer.strategy 'fsdp' (FSDP1) flattens parameters, so strategies cannot tell them apart; use "
            "ddp, or ModelParallelStrategy (FSDP2) as configs/hardware/fsdp.yaml does"
        )
    _check_sharding(strategies, trainer)
    _check_task(strategies, module)
    if trainer.precision == "16-mixed":
        _check_scaling(strategies, trainer)


def _check_scaling(strategies: Sequence[Strategy], trainer: Trainer) -> None:
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    scaled = any(group.get("fused") for group in groups)  # until within the optimizer's step
    for strategy in strategies:
        name = type(strategy).__name__
        if "passes" in strategy.touches:
            raise TypeError(
                f"{name} computes gradients of its own, which would underflow without the scaling of "
                "trainer.precision 16-mixed: use bf16-mixed"
            )
        if "gradients" in strategy.touches and scaled:
            raise TypeError(
                f"{name} works on gradients, which trainer.precision 16-mixed scales, and an optimizer with "
                "`fused: true` takes them as they are, scaled: use bf16-mixed, or `fused: false`"
            )


def _check_sharding(strategies: Sequence[Strategy], trainer: Trainer) -> None:
    if not isinstance(trainer.strategy, ModelParallelStrategy):
        return
    freezing = [type(strategy).__name__ for strategy in strategies if strategy.touches & FREEZING]
    if freezing:
        raise TypeError(
            f"{freezing[0]} freezes parameters, which ModelParallelStrategy (FSDP2) cannot resume: torch's sharded "
            "checkpoints hold no optimizer state of what is frozen and refuse to load without it; use "
            "trainer.strategy ddp, or leave this strategy out"
        )
    for strategy in strategies:
        if strategy.touches & WHOLE_PARAMETERS or strategy.needs_starting_weights:
            raise TypeError(
                f"{type(strategy).__name__} works on whole parameters, which ModelParallelStrategy (FSDP2) divides "
                "over ranks: use trainer.strategy ddp, or leave this strategy out"
            )


def _check_task(strategies: Sequence[Strategy], module: LightningModule) -> None:
    if not (isinstance(module, HasBlocks) and isinstance(module, HasEncoderBlocks)):
        raise TypeError(
            f"strategies need a task with blocks() and encoder_blocks(), which {type(module).__name__} lacks"
        )
    for strategy in strategies:
        if strategy.needs_tasks and not isinstance(module, HasTasks):
            raise TypeError(
                f"{type(strategy).__name__} works on the gradients of several tasks, and {type(module).__name__} is "
                "one: use bertlab.tasks.multi_task.MultiTask, or leave it out of trainer.callbacks"
            )
        if "loss" in strategy.touches and not isinstance(module, HasTrainingLoss):
            raise TypeError(
                f"{type(strategy).__name__} changes the training loss, and {type(module).__name__} has no "
                "training_loss(batch) that it could change"
            )
        if "word_vectors" in strategy.touches and not isinstance(module, HasWordEmbedding):
            raise TypeError(
                f"{type(strategy).__name__} moves word vectors, and {type(module).__name__} has no word_embedding"
            )


def claims_of(strategies: Sequence[Strategy], module: LightningModule) -> dict[str, Strategy]:
    """Who has what one strategy alone can have: a resource, or the lead of stages or cycles.

    Raises:
        ValueError: an unknown name in `touches`; two strategies that claim the same, one that keeps what another makes
            differ each time, one whose privacy another would undo, or one that puts back weights that nobody has
            validated beside another (both are named).
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
    _check_trunk(strategies, claimed.get("trunk"))
    _check_privacy(strategies, claimed.get("privacy"))
    _check_average(strategies, claimed.get("average"))
    if "class_weights" in claimed and not isinstance(module, HasClassWeights):
        raise TypeError(
            f"{type(claimed['class_weights']).__name__} weighs classes, and {type(module).__name__} "
            "takes no class weights"
        )
    return claimed


def _check_trunk(strategies: Sequence[Strategy], keeper: Strategy | None) -> None:
    for strategy in strategies if keeper else ():
        if "inputs" in strategy.touches:
            raise ValueError(
                f"{type(keeper).__name__} keeps what the frozen blocks make of each row, and "
                f"{type(strategy).__name__} makes it differ from pass to pass (noise, or changes of tokens, embeddings "
                "or frozen weights): take one of them out of trainer.callbacks"
            )


def _check_privacy(strategies: Sequence[Strategy], private: Strategy | None) -> None:
    for strategy in strategies if private else ():
        if strategy is not private and (more := strategy.touches - BESIDE_PRIVACY):
            raise ValueError(
                f"{type(private).__name__} accounts for what is learnt of each row, and {type(strategy).__name__} "
                f"touches {', '.join(sorted(more))} outside that account: take one of them out of trainer.callbacks"
            )


def _check_average(strategies: Sequence[Strategy], average: Strategy | None) -> None:
    for strategy in strategies if average else ():
        if strategy.puts_weights_back is not None:
            raise ValueError(
                f"{type(strategy).__name__}.{strategy.puts_weights_back} puts back the trained weights of the best "
                f"validation, and beside {type(average).__name__} it is the average that is validated: leave one of "
                "them out"
            )


def bind_followers(strategies: Sequence[Strategy], claimed: Mapping[str, Strategy]) -> None:
    """Let triggers that follow the stages or cycles of another strategy find it."""
    for strategy in strategies:
        if isinstance(strategy.trigger, Follow):
            leader = claimed.get(strategy.trigger.follows or "")
            if leader is not None and leader is not strategy:
                strategy.trigger.leader, strategy.trigger.has_leader = leader.trigger, True
