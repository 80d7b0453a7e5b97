"""What a timeline tells of learning rates, to hold the rates of each step against."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from lightning.pytorch import Trainer

from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.run import Run
from bertlab.callbacks.wishes import Curve
from tests.callbacks.tiny import Timeline

#: Curves of a stage, each with the block that it is for and the step that the stage began with.
Curves = list[tuple[str, int, Curve]]


class ToldRates:
    """The factors on the rates of blocks: constant ones as events name them, curves with the events of their stages.

    Args:
        timeline: of a training with strategies.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._constant: dict[str, Mapping[str, float]] = {}
        self._curves: dict[str, Curves] = {}
        self._read = 0

    def resume(self, trainer: Trainer) -> None:
        """Take what holds as told: the run that was killed has."""
        for name, run in _runs(trainer).items():
            self._constant[name], self._curves[name] = _constant(run), _curves(run)
        self._read = len(self.timeline.events)

    def check(self, trainer: Trainer) -> None:
        """Each rate of the step is the schedule's times the factors that were told of."""
        factors, schedule = self._factors(trainer), trainer.lr_scheduler_configs[0].scheduler
        for group, rate in zip(trainer.optimizers[0].param_groups, schedule.get_last_lr(), strict=True):
            found, expected = group["lr"], rate * factors[group["block"]]
            where = f"step {trainer.global_step}, {group['block']}"
            assert math.isclose(found, expected, rel_tol=1e-9), f"a rate changes without an event: {where}"

    def _factors(self, trainer: Trainer) -> Mapping[str, float]:
        """By blocks, in the step that is about to be taken."""
        runs = _runs(trainer)
        for _, strategy, what, facts in self.timeline.events[self._read :]:
            if what == "stage":
                self._constant[strategy], self._curves[strategy] = {}, _curves(runs[strategy])
            elif what == "lr":
                self._constant[strategy] = facts["factors"]
        self._read = len(self.timeline.events)
        factors: defaultdict[str, float] = defaultdict(lambda: 1.0)
        for told in self._constant.values():
            for block, factor in told.items():
                factors[block] *= factor
        for curves in self._curves.values():
            for block, start, curve in curves:
                factors[block] *= curve(trainer.global_step - start)
        return factors


def _runs(trainer: Trainer) -> dict[str, Run]:
    """What each strategy wants for the stage that it is in, by its name."""
    conductor = Conductor.of(trainer)
    return {type(strategy).__name__: conductor.run_of(strategy) for strategy in conductor.strategies}


def _curves(run: Run) -> Curves:
    return [
        (block.name, run.stage_start, factor)
        for blocks, factor in run.wishes.factors
        if callable(factor)
        for block in blocks
    ]


def _constant(run: Run) -> Mapping[str, float]:
    found: defaultdict[str, float] = defaultdict(lambda: 1.0)
    for blocks, factor in run.wishes.factors:
        if not callable(factor):
            for block in blocks:
                found[block.name] *= factor
    return found
