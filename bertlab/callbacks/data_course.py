"""What strategies ask of the training data: gathered and handed to the data module before training begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.resources import DATA
from bertlab.callbacks.run import Run
from bertlab.interfaces import Course, FollowsCourse

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


def course_data(strategy: Strategy, trainer: Trainer) -> FollowsCourse:
    """The data module that a strategy changes the data of.

    Raises:
        TypeError: there is none, or it cannot change what the strategy touches.
    """
    data: Any = getattr(trainer, "datamodule", None)
    wanted = sorted(strategy.touches & DATA)
    offered = data.course_parts if isinstance(data, FollowsCourse) else frozenset[str]()
    if missing := [part for part in wanted if part not in offered]:
        able = f"it can change {', '.join(sorted(offered))}" if offered else "it can change nothing"
        raise TypeError(
            f"{type(strategy).__name__} changes {' and '.join(missing)} of the training data from step to step, which "
            f"{type(data).__name__} cannot do: {able}"
        )
    return data


def hand_out_course(
    strategies: Sequence[Strategy],
    trainer: Trainer,
    horizon: Horizon,
    run_in: Callable[[Strategy, int], Run],
) -> None:
    """Let the data module know, before its first batch, what all strategies together make of the training data.

    Args:
        strategies: of the trainer; no two touch the same of the data.
        trainer: its data module is set up.
        horizon: how long training is.
        run_in: the run as a strategy would see it in a stage.

    Raises:
        TypeError: the data module cannot change what a strategy touches.
        ValueError: the strategy has several stages, or the data module cannot follow.
    """
    parts: dict[str, Any] = {}
    changing = [strategy for strategy in strategies if strategy.touches & DATA]
    for strategy in changing:
        course_data(strategy, trainer)
        if strategy.stages != 1 and list(strategy.trigger.starts(horizon)):
            raise ValueError(
                f"{type(strategy).__name__} changes the training data and has several stages; batches are drawn ahead, "
                "so what changes has to be said for the whole training: set stages = 1 and give a Course"
            )
        run = run_in(strategy, 0)
        strategy.apply(run)
        if run.wishes.course is not None:
            parts |= run.wishes.course.parts
    if changing:
        course_data(changing[0], trainer).follow(Course(**parts))


def withdraw_course(strategies: Sequence[Strategy], trainer: Trainer) -> None:
    """Leave the data as if no strategy had been."""
    data: Any = getattr(trainer, "datamodule", None)
    if isinstance(data, FollowsCourse) and any(strategy.touches & DATA for strategy in strategies):
        data.follow(Course())
