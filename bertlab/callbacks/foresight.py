"""What the strategies of a run would do if it went to its end: looked at before it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.combination import FREEZING
from bertlab.callbacks.horizon import horizon_of
from bertlab.callbacks.run import Run
from bertlab.callbacks.trainable import trained_by
from bertlab.callbacks.triggers import Horizon
from bertlab.interfaces import Block

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


def warn_of_what_never_acts(
    strategies: Sequence[Strategy],
    trainer: Trainer,
    blocks: Blocks,
    run_in: Callable[[Strategy, int], Run],
) -> None:
    """Say which strategies would do nothing, and which stages would never begin.

    Args:
        strategies: of the trainer.
        trainer: about to train.
        blocks: of the whole task.
        run_in: the run as a strategy would see it in a stage.
    """
    horizon = horizon_of(trainer)
    for strategy in strategies:
        if reason := strategy.never_acts(horizon) or _frozen(strategy, strategies, horizon, blocks, run_in):
            rank_zero_warn(f"{type(strategy).__name__} would do nothing in this training: {reason}")
            continue
        starts = list(strategy.trigger.starts(horizon))
        if strategy.stages is not None:
            starts = starts[: strategy.stages - 1]
        if late := [start for start in starts if start >= horizon.total_steps]:
            rank_zero_warn(
                f"{type(strategy).__name__}: {len(late)} of its {len(starts) + 1} stages would begin at "
                f"step {late[0]} or later, and training ends at step {horizon.total_steps}: never reached"
            )
        elif strategy.trigger.waits_for(horizon) == "validation" and not validates(trainer):
            rank_zero_warn(
                f"{type(strategy).__name__} waits for a plateau of a validation metric, and this training has no "
                f"validation: it stays in stage {len(starts)}"
            )


def refuse_stages_of_nothing(
    strategies: Sequence[Strategy],
    trainer: Trainer,
    blocks: Blocks,
    run_in: Callable[[Strategy, int], Run],
) -> None:
    """Refuse stages in which blocks are trained that hold none of the parameters that another strategy trains.

    Args:
        strategies: of the trainer.
        trainer: about to train.
        blocks: of the whole task.
        run_in: the run as a strategy would see it in a stage.

    Raises:
        ValueError: there is one; the message names the strategies, the blocks and the stage.
    """
    horizon = horizon_of(trainer)
    stagers = [s for s in strategies if "trainable" in s.touches]
    for strategy in (s for s in strategies if "parameters" in s.touches):
        of_strategy = _ever_trained(strategy, horizon, blocks, run_in)
        for other in stagers:
            for stage, run in _runs(other, horizon, run_in):
                chosen = _chosen(run, blocks)
                if not of_strategy & trained_by(chosen, None):
                    raise ValueError(
                        f"{type(strategy).__name__} and {type(other).__name__} have nothing in common in stage "
                        f"{stage}: the parameters that the one names are in none of the blocks that the other trains "
                        f"({', '.join(block.name for block in chosen)}): take one of them out of trainer.callbacks, or "
                        "train another block in that stage"
                    )


def validates(trainer: Trainer) -> bool:
    """Whether any validation comes in a training, for a strategy to wait for."""
    if not trainer.enable_validation:
        return False
    # Loaders that are not made yet, for epochs without validation come first, may hold anything.
    return trainer.val_dataloaders is None or sum(trainer.num_val_batches) > 0


def _frozen(
    strategy: Strategy,
    strategies: Sequence[Strategy],
    horizon: Horizon,
    blocks: Blocks,
    run_in: Callable[[Strategy, int], Run],
) -> str | None:
    """Why a strategy never acts: all that it works on is frozen in every stage of the strategies that freeze."""
    works_on = strategy.works_on(blocks)
    if works_on is None:
        return None
    left = {id(parameter) for parameter in works_on}
    for other in strategies:
        if other.touches & FREEZING:
            left &= _ever_trained(other, horizon, blocks, run_in)
    return None if left else "all that it works on is frozen from start to end"


def _ever_trained(
    strategy: Strategy, horizon: Horizon, blocks: Blocks, run_in: Callable[[Strategy, int], Run]
) -> set[int]:
    """Identities of the parameters that a strategy leaves to be trained in any stage that is reached.

    `apply` is a function of the stage without side effects, so it can be asked about stages that are still to come.
    """
    found: set[int] = set()
    for _, run in _runs(strategy, horizon, run_in):
        found |= trained_by(_chosen(run, blocks), run.wishes.parameters)
    return found


def _chosen(run: Run, blocks: Blocks) -> Sequence[Block]:
    """The blocks that a strategy wants to be trained: all, if it says nothing of it."""
    return list(blocks) if run.wishes.trainable is None else list(run.wishes.trainable)


def _runs(
    strategy: Strategy, horizon: Horizon, run_in: Callable[[Strategy, int], Run]
) -> Iterator[tuple[int, Run]]:
    """What a strategy wants in each stage that is reached, as far as is known."""
    starts = [0, *strategy.trigger.starts(horizon)]
    count = len(starts) if strategy.stages is None else strategy.stages
    for stage in range(count):
        if stage < len(starts) and starts[stage] >= horizon.total_steps:
            break
        run = run_in(strategy, stage)
        strategy.apply(run)
        yield stage, run
