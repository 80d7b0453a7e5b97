"""GradientsSettle: a trigger that waits until the gradients of lower layers change less than those of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.trigger import Trigger, Waited


class GradientsSettle(Trigger):
    """A new stage each time that more layers, from the bottom up, have settled.

    Liu et al. 2021, arXiv:2102.01386, algorithm 1.

    Args:
        interval_fraction: fraction of training over which gradients are added up before they are compared.
        percentile: of the changes of all layers that are trained: a layer below it has settled.

    Attributes:
        settled: how many layers have settled in stage 1, 2, ….
    """

    def __init__(self, interval_fraction: float, percentile: float) -> None:
        self.interval_fraction, self.percentile = interval_fraction, percentile
        self.settled: list[int] = []
        self._starts: list[int] = []
        self._previous: list[float | None] | None = None

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """The steps at which layers have settled so far."""
        return self._starts

    def waits_for(self, horizon: Horizon) -> Waited:
        """The next interval may end with more layers settled."""
        return "gradients"

    def awaited(self, horizon: Horizon) -> str:
        """Gradients that change little enough between two intervals."""
        lengths = f"intervals of {self.interval_steps(horizon):g} steps"
        return f"gradients of the lowest layers that settle (percentile {self.percentile:g}, {lengths})"

    def interval_steps(self, horizon: Horizon) -> float:
        """Optimizer steps of an interval, at least 1; intervals end at its multiples, rounded up."""
        return max(1.0, self.interval_fraction * horizon.total_steps)

    def interval_ends(self, step: int, horizon: Horizon) -> bool:
        """Whether an interval ends when `step` optimizer steps have been taken."""
        steps = self.interval_steps(horizon)
        return math.floor(step / steps) > math.floor((step - 1) / steps)

    def compare(self, norms: Sequence[float | None], step: int) -> None:
        """Learn from the interval that ended after `step` optimizer steps.

        Args:
            norms: of the gradients of each layer, from the bottom up, added up over the interval; None: it is frozen.
                If any is not finite, the interval is no measure for the next one.
            step: optimizer steps taken.
        """
        frozen = self.settled[-1] if self.settled else 0
        finite = all(norm is None or math.isfinite(norm) for norm in norms)
        if finite and self._previous is not None:
            now = settled_layers(self._previous, norms, frozen, self.percentile)
            if now > frozen:
                self.settled.append(now)
                self._starts.append(step)
        self._previous = list(norms) if finite else None

    def state_dict(self) -> dict[str, Any]:
        """What has settled when, and the norms of the last interval."""
        return {"starts": list(self._starts), "settled": list(self.settled), "previous": self._previous}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._starts, self.settled = list(state["starts"]), list(state["settled"])
        self._previous = state["previous"]


def settled_layers(
    before: Sequence[float | None], now: Sequence[float | None], frozen: int, percentile: float
) -> int:
    """How many of the lowest layers have settled: those below the first whose change is not below the percentile.

    The change of a layer is |before − now| / before. At least one layer is always left. Layers that somebody else has
    frozen are passed over.

    Args:
        before: norm of the gradient of each layer over one interval, from the bottom up; None: it is frozen.
        now: the same over the next interval.
        frozen: how many have settled before.
        percentile: in [0, 100], of the changes of the others, interpolated.

    Examples:
        >>> settled_layers([4.0, 4.0, 4.0, 4.0], [4.1, 4.2, 6.0, 4.3], frozen=0, percentile=50)
        2
        >>> settled_layers([4.0, 4.0, 4.0, 4.0], [9.0, 4.2, 6.0, 4.3], frozen=0, percentile=50)
        0
        >>> settled_layers([None, 4.0, 4.0, 4.0], [None, 4.1, 6.0, 4.3], frozen=0, percentile=50)
        2
    """
    changes = {
        index: abs(old - new) / old if old else math.inf
        for index, (old, new) in enumerate(zip(before, now, strict=True))
        if index >= frozen and new is not None
    }
    known = [change for change in changes.values() if math.isfinite(change)]
    limit = float(np.percentile(known, percentile)) if known else 0.0
    for index, change in changes.items():
        if change >= limit:
            break
        frozen = index + 1
    return frozen
