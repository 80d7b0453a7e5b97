"""StrategiesSeen: the strategies of a training, followed from stage to stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.data_pass import DataPass
from bertlab.callbacks.holding import Holding
from bertlab.callbacks.strategy import Strategy
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
        #: of each step at which any stage begins, what strategies say that timing does not show.
        self._untimed: list[tuple[int, str, Mapping[str, str]]] = []
        #: the passes over data, by strategy, that come before the step that was moved to, beside it.
        self.passes: Mapping[str, DataPass] = {}
        self._keys: Mapping[str, str] = {}
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
        self.passes = {}
        if current != self.current:
            self.current = current
            self.passes = self._passes()
            found = {_name(s): s.untimed(self._conductor.run_of(s)) for s in self._conductor.strategies}
            freezing = [_name(s) for s in self._conductor.strategies if "trainable" in s.touches]
            stage = ", ".join(f"{name} {current[name]}" for name in freezing)
            self._untimed.append((holding.step, stage, {name: text for name, text in found.items() if text}))
        return holding

    def _passes(self) -> Mapping[str, DataPass]:
        """The passes that strategies make in the stages that they are in, but for those that they have made already."""
        asked = {_name(s): s.pass_before(self._conductor.run_of(s)) for s in self._conductor.strategies}
        found = {name: made for name, made in asked.items() if made is not None}
        known, self._keys = self._keys, {name: made.key for name, made in found.items()}
        return {name: made for name, made in found.items() if known.get(name) != made.key}

    def untimed(self) -> Iterator[str]:
        """What timed steps do not show, by strategy; with the steps that it is true of, if not of all."""
        places: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
        total = self._standpoint.total_steps
        ends = [step for step, _, _ in self._untimed[1:]] + [total]
        for (start, stage, found), end in zip(self._untimed, ends, strict=True):
            for key in found.items():
                known = places.setdefault(key, [])
                if known and known[-1][1:] == (start, stage):
                    known[-1] = (known[-1][0], end, stage)
                else:
                    known.append((start, end, stage))
        for (name, text), where in places.items():
            shown = ", ".join(f"{a:,} – {b - 1:,}{stage and f' ({stage})'}" for a, b, stage in where)
            steps = sum(end - start for start, end, _ in where)
            everywhere = steps == total - self._standpoint.first
            yield f"{name}{'' if everywhere else f', in steps {shown}'}: {text}"

    def making_a_difference(self) -> frozenset[str]:
        """Strategies that have their part in what the step costs that they stand before, beside what is trained."""
        found: set[str] = set()
        for strategy in self._conductor.strategies:
            wishes, name = self._conductor.run_of(strategy).wishes, _name(strategy)
            reads = "trunk" in strategy.touches and name in self._untimed[-1][2]
            if wishes.loss is not None or wishes.gradients is not None or reads:
                found.add(name)
        return frozenset(found)

    def before_timed_step(self, batches: Sequence[Any]) -> None:
        """Let them do what they would have done before a step of these micro-batches, which is about to be timed."""
        for strategy in self._conductor.strategies:
            strategy.before_timed_step(self._conductor.run_of(strategy), batches)

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
            if strategy.needs_starting_weights or strategy.keeps_copies or "average" in strategy.touches
        ]


def _name(strategy: Strategy) -> str:
    return type(strategy).__name__
