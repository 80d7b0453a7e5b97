"""What the strategies of a run would do if it went to its end: looked at before it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.combination import FREEZING
from bertlab.callbacks.run import Run
from bertlab.callbacks.trainable import trained_by
from bertlab.callbacks.triggers import Horizon

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


def warn_of_what_never_acts(
    strategies: Sequence[Strategy],
    horizon: Horizon,
    blocks: Blocks,
    run_of: Callable[[Strategy, int], Run],
) -> None:
    """Say which strategies would do nothing, and which stages would begin only when training has ended.

    Args:
        strategies: of the run.
        horizon: of the run.
        blocks: of the whole task.
        run_of: the run as a strategy would see it in a stage.
    """
    for strategy in strategies:
        if reason := strategy.never_acts(horizon) or _frozen(strategy, strategies, horizon, blocks, run_of):
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


def _frozen(
    strategy: Strategy,
    strategies: Sequence[Strategy],
    horizon: Horizon,
    blocks: Blocks,
    run_of: Callable[[Strategy, int], Run],
) -> str | None:
    """Why a strategy never acts: all that it works on is frozen in every stage of the strategies that freeze."""
    works_on = strategy.works_on(blocks)
    if works_on is None:
        return None
    left = {id(parameter) for parameter in works_on}
    for other in strategies:
        if other.touches & FREEZING:
            left &= _ever_trained(other, horizon, blocks, run_of)
    return None if left else "all that it works on is frozen from start to end"


def _ever_trained(
    strategy: Strategy, horizon: Horizon, blocks: Blocks, run_of: Callable[[Strategy, int], Run]
) -> set[int]:
    """Identities of the parameters that a strategy leaves to be trained in any stage that is reached.

    `apply` is a function of the stage without side effects, so it can be asked about stages that are still to come.
    """
    starts = [0, *strategy.trigger.starts(horizon)]
    count = len(starts) if strategy.stages is None else strategy.stages
    found: set[int] = set()
    for stage in range(count):
        if stage < len(starts) and starts[stage] >= horizon.total_steps:
            break
        run = run_of(strategy, stage)
        strategy.apply(run)
        chosen = list(blocks) if run.wishes.trainable is None else run.wishes.trainable
        found |= trained_by(chosen, run.wishes.parameters)
    return found
