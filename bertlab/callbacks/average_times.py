"""AverageTimes: after which optimizer steps the weights go into an average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.triggers import Follow

#: When weights are taken.
At = Literal["epoch", "cycle", "steps"]


class AverageTimes(Follow):
    """A trigger: stage 0 until the first weights are taken, then stage 1; at "cycle" a stage for each cycle.

    Args:
        strategy: class name of the strategy it is of, for messages.
        at: "epoch": at the end of each epoch; "cycle": at the end of each cycle of the learning rate (without a
            strategy that has cycles, of each epoch); "steps": every so many optimizer steps.
        every_steps: for "steps", and only for it; 1 or more.
        starts: the arguments start_fraction, start_epoch and start_step, at most one of which is given.
        default: the fraction of training after which weights are taken, if none is.

    Raises:
        ValueError: an argument is out of range, or clashes with another.
    """

    def __init__(
        self,
        strategy: str,
        at: At,
        every_steps: int | None,
        starts: Mapping[str, float | None],
        default: float = 0.0,
    ) -> None:
        super().__init__()
        if at not in ("epoch", "cycle", "steps"):
            raise ValueError(f"{strategy}.at: {at!r}; accepted are 'epoch', 'cycle', 'steps'")
        if (at == "steps") != (every_steps is not None):
            raise ValueError(f"{strategy}: `every_steps` goes with at: steps, and only with it")
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"{strategy}.every_steps takes 1 or more, got {every_steps}")
        given = {name: value for name, value in starts.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{strategy}: {' and '.join(given)} clash; give one of them")
        for name, value in given.items():
            if not 0 <= value < math.inf or (name == "start_fraction" and value > 1):
                accepted = "[0, 1]" if name == "start_fraction" else "0 or more"
                raise ValueError(f"{strategy}.{name} takes {accepted}, got {value}")
        self.at, self.every_steps = at, every_steps
        self.follows = "cycle" if at == "cycle" else None
        self._start = given or {"start_fraction": default}

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """The step of the first weights; at "cycle" the beginnings of all cycles but the first."""
        if self.at == "cycle":
            return super().starts(horizon)
        first = self.first(horizon)
        return [first] if first is not None and first < horizon.total_steps else []

    def first(self, horizon: Horizon) -> int | None:
        """How many optimizer steps are done when the first weights are taken.

        May lie after the end of training; None: nobody knows yet, or there is no end of a cycle after the start.
        """
        start = self.start(horizon)
        if self.at == "steps":
            assert self.every_steps is not None
            return start or self.every_steps
        if self.at == "epoch":
            epoch = horizon.steps_per_epoch
            return max(1, -(-start // epoch)) * epoch
        return next((end for end in self._ends(horizon) if end >= start), None)

    def second(self, horizon: Horizon) -> int | None:
        """How many optimizer steps are done when the second weights are taken; as `first`."""
        first = self.first(horizon)
        if first is None:
            return None
        if self.at == "cycle":
            return next((end for end in self._ends(horizon) if end > first), None)
        return first + (self.every_steps or horizon.steps_per_epoch)

    def due(self, step: int, horizon: Horizon) -> bool:
        """Whether the weights are taken that there are after `step` optimizer steps, as far as is known by then."""
        first = self.first(horizon)
        if first is None or step < first:
            return False
        if self.at == "steps":
            assert self.every_steps is not None
            return (step - first) % self.every_steps == 0
        if self.at == "epoch":
            return step % horizon.steps_per_epoch == 0
        return step in self._ends(horizon)

    def start(self, horizon: Horizon) -> int:
        """The optimizer steps after which weights may be taken."""
        ((name, value),) = self._start.items()
        if name == "start_step":
            return int(value)
        return horizon.step_of(**{name.removeprefix("start_"): value})

    def _ends(self, horizon: Horizon) -> list[int]:
        """Ends of cycles, as far as they are known."""
        ends = [*super().starts(horizon)]
        return [*ends, horizon.total_steps] if self.complete(horizon) else ends
