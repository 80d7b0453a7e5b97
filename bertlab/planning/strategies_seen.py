"""StrategiesSeen: the strategies of a training, followed from stage to stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.holding import Holding
from bertlab.callbacks.strategy import Strategy
from bertlab.planning.acting import SEEN, effects_of
from bertlab.planning.standpoint import Standpoint
from bertlab.planning.strategy_stage import StrategyStage

#: Gives what a strategy, by name, has noted since it was asked last.
Notes = Callable[[str], list[tuple[str, Mapping[str, Any]]]]


class StrategiesSeen:
    """What the strategies of a training do, as they are moved from step to step.

    Args:
        conductor: of the strategies.
        standpoint: of the trainer.
        notes: what they note.
    """

    def __init__(self, conductor: Conductor, standpoint: Standpoint, notes: Notes) -> None:
        self._conductor, self._standpoint, self._notes = conductor, standpoint, notes
        self._stages: dict[str, list[StrategyStage]] = {_name(s): [] for s in conductor.strategies}
        self._effects: dict[str, set[str]] = {_name(s): set() for s in conductor.strategies}
        #: the stage that each strategy is in, by its name; another object when any of them has changed.
        self.current: Mapping[str, int] = {}

    @property
    def stages(self) -> list[StrategyStage]:
        """All stages seen so far, by strategy and in order."""
        return [stage for name in sorted(self._stages) for stage in self._stages[name]]

    @property
    def starts(self) -> set[int]:
        """The steps at which stages begin, as far as they are known."""
        horizon = self._conductor.horizon
        return {s for strategy in self._conductor.strategies for s in strategy.trigger.starts(horizon)}

    def move(self) -> Holding:
        """Move them on to the step that the trainer stands before."""
        holding = self._conductor.rehearse()
        current = {_name(s): holding.stages[s.state_key] for s in self._conductor.strategies}
        for strategy in self._conductor.strategies:
            name, known = _name(strategy), self._stages[_name(strategy)]
            if not known or known[-1].stage != current[name]:
                if known:
                    known[-1].end = holding.step
                run, total = self._conductor.run_of(strategy), self._standpoint.total_steps
                notes = [note for note in self._notes(name) if note[0] != "stage"]
                waits = strategy.trigger.waits_for(run.horizon) if run.stage_end is None else None
                if waits == "validation" and not self._standpoint.validates:
                    waits = None
                known.append(StrategyStage(name, current[name], run.stage_start, total, waits, notes))
            self._effects[name] |= effects_of(self._conductor.run_of(strategy), holding.step)
        if current != self.current:
            self.current = current
        return holding

    def working_on_the_loss(self) -> frozenset[str]:
        """Strategies that have their part in computing the gradients of the step they stand before."""
        found: set[str] = set()
        for strategy in self._conductor.strategies:
            wishes = self._conductor.run_of(strategy).wishes
            if wishes.loss is not None or wishes.gradients is not None:
                found.add(_name(strategy))
        return frozenset(found)

    def open(self, step: int, validations: list[int]) -> Iterator[str]:
        """Strategies whose stage waits for something that may have come before a step."""
        for stages in self._stages.values():
            stage = stages[-1]
            at_any = stage.waits_for == "gradients" or self._standpoint.validates_by_time
            came = stage.start < step if at_any else any(stage.start < v <= step for v in validations)
            if stage.waits_for is not None and came:
                yield stage.strategy

    def keeping_copies(self) -> list[str]:
        """Strategies that keep weights beside those of the model."""
        return [
            _name(strategy)
            for strategy in self._conductor.strategies
            if strategy.needs_starting_weights or "average" in strategy.touches
        ]

    def without_effect(self) -> Iterator[str]:
        """Strategies that change nothing in any step, of those whose doing can be seen."""
        for strategy in self._conductor.strategies:
            name = _name(strategy)
            seen = sorted(strategy.touches & SEEN.keys())
            if not seen or self._effects[name] or any(stage.waits_for for stage in self._stages[name]):
                continue
            never = (
                " never acts" if strategy.touches <= SEEN.keys() else ""
            )  # others may act where nobody sees it
            yield f"{name}{never}: in every step of this training it {' and '.join(SEEN[s] for s in seen)}"


def _name(strategy: Strategy) -> str:
    return type(strategy).__name__
