"""Undone: what a strategy has not done in a training that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.run import Run

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


@dataclass(frozen=True)
class Undone:
    """What a strategy has not done in a training that has ended, in words for a sentence.

    Attributes:
        what: it did not do, after its name: "froze nothing".
        waited_for: what it needed to go on: "a plateau of val/loss (patience 1)", "step 12".
        instead: what held in its place, a sentence without its full stop.
        advice: what to do, from a verb on.
    """

    what: str
    waited_for: str
    instead: str
    advice: str

    def sentences(self, name: str, step: int, total: int) -> str:
        """All of it.

        Args:
            name: of the strategy.
            step: optimizer steps taken when training ended.
            total: that there were to be; of a training that was stopped they are more.

        Examples:
            >>> Undone("did nothing", "step 12", "All was trained", "wait less").sentences("A", 9, 9)
            'A did nothing by step 9, where training ended: it waited for step 12. All was trained. Wait less.'
        """
        ended, advice = "ended", self.advice[0].upper() + self.advice[1:]
        if step < total:
            ended = f"was stopped before its {total} steps were done"
            advice = f"Train to the end, or {self.advice}"
        return (
            f"{name} {self.what} by step {step}, where training {ended}: it waited for {self.waited_for}. "
            f"{self.instead}. {advice}."
        )


def next_of(strategy: Strategy, horizon: Horizon) -> str:
    """In words, what the stage after the one that a strategy is in waits for."""
    starts = strategy.trigger.starts(horizon)
    if strategy.entered < len(starts):
        return f"step {starts[strategy.entered]}"
    return strategy.trigger.awaited(horizon)


def still_waiting(strategy: Strategy, run: Run) -> Undone | None:
    """Of a strategy whose next stage nobody knew beforehand, and which never came, or none of which ever came.

    Args:
        strategy: any.
        run: as it sees it in the stage that it is in.
    """
    if strategy.trigger.complete(run.horizon):
        return None
    if run.stage > 0 if strategy.stages is None else run.stage >= strategy.stages - 1:
        return None
    return Undone(
        what=f"did not get beyond stage {run.stage}",
        waited_for=next_of(strategy, run.horizon),
        instead="What it does in that stage held to the end",
        advice="make it wait for less, or let its stages begin by time",
    )
