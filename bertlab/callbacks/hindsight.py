"""Hindsight: what the strategies of a training did not do, looked at when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.callbacks.effects import SEEN, has_effect
from bertlab.callbacks.events import Events
from bertlab.callbacks.horizon import horizon_of
from bertlab.callbacks.run import Run
from bertlab.callbacks.undone import Undone, next_of

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


class Hindsight:
    """What the strategies of a training did not do, though they were configured to.

    Args:
        strategies: of the trainer.
        trainer: has trained, to the end or until it was told to stop.
        run_in: the run as a strategy sees it in a stage.
        foretold: what was warned of before training, by the `state_key` of a strategy: not said once more.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        trainer: Trainer,
        run_in: Callable[[Strategy, int], Run],
        foretold: Mapping[str, str],
    ) -> None:
        self._strategies, self._run_in, self._foretold = strategies, run_in, foretold
        self._step, self._total = trainer.global_step, horizon_of(trainer).total_steps

    def tell(self, events: Events) -> None:
        """Warn of what was left undone, and put it on the timeline, what was foretold too.

        Args:
            events: of the trainer.
        """
        stopped = self._step < self._total
        for strategy in self._strategies:
            name, foretold = type(strategy).__name__, self._foretold.get(strategy.state_key)
            undone = strategy.left_undone(self._run_in(strategy, strategy.entered))
            if undone is None and stopped and foretold is None:
                undone = self._never_acted(strategy)
            if undone is not None:
                facts = {"outcome": undone.what, "waited_for": undone.waited_for, "instead": undone.instead}
                events.record(name, "undone", {**facts, "stopped": stopped})
                if stopped or foretold is None:
                    rank_zero_warn(undone.sentences(name, self._step, self._total))
            elif foretold is not None:
                events.record(name, "undone", {"foretold": foretold, "stopped": stopped})

    def _never_acted(self, strategy: Strategy) -> Undone | None:
        """Of a training that was stopped: a strategy that would have changed something only later."""
        seen = sorted(strategy.touches & SEEN.keys())
        if not seen:
            return None
        for stage in range(strategy.entered + 1):
            run = self._run_in(strategy, stage)
            strategy.apply(run)
            if has_effect(run, self._step):
                return None
        horizon = self._run_in(strategy, strategy.entered).horizon
        return Undone(
            what="never acted",
            waited_for=next_of(strategy, horizon),
            instead=f"In every step it {' and '.join(SEEN[of] for of in seen)}",
            advice="let it begin earlier",
        )
