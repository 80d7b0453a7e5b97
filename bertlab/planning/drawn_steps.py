"""DrawnSteps: the numbers of a plan as they are drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bertlab.planning import wording
from bertlab.planning.plan import Plan

#: Steps that are drawn at most: a picture has no more columns.
MOST = 3000
#: Titles of what the data tells.
QUANTITIES = {
    "tokens": "tokens a step",
    "sequences": "sequences a step",
    "length": "tokens of a sequence, at most",
    "mask_rate": "mask rate",
    "easiest_share": "share of the rows, the easiest, that are drawn from",
}

Numbers = npt.NDArray[np.float64]


class DrawnSteps:
    """Those steps of a plan that a picture has room for.

    Args:
        plan: to draw.

    Attributes:
        steps: the N steps that are drawn.
        edges: (N + 1,) where each begins, and where the last one ends.
        shares: (N, blocks) of the parameters of each block that are trained, in [0, 1].
        trained_rates: (N, blocks) rate of each block; NaN while it is frozen.
        quantities: of the data, by their names.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.steps = [plan.steps[at] for at in _thinned(plan)]
        self.edges: Numbers = np.array(
            [*(step.step for step in self.steps), plan.total_steps], dtype=np.float64
        )
        rates: Numbers = np.array([list(step.rates.values()) for step in self.steps], dtype=np.float64)
        self.shares: Numbers = np.array(
            [list(step.trained.values()) for step in self.steps], dtype=np.float64
        )
        self.trained_rates: Numbers = np.where(self.shares > 0, rates, np.nan)
        self.quantities = list(dict.fromkeys(name for step in self.steps for name in step.data))

    def values(self, quantity: str) -> Numbers:
        """(N,) of a quantity of the data; NaN where nothing tells it."""
        return np.array([step.data.get(quantity, np.nan) for step in self.steps], dtype=np.float64)

    def changing_quantities(self) -> list[str]:
        """Those of the data that change by more than a twentieth."""
        found: list[str] = []
        for name in self.quantities:
            values = self.values(name)
            if np.nanmax(values) - np.nanmin(values) > 0.05 * abs(np.nanmax(values)):
                found.append(name)
        return found

    def spells(self, block: int) -> list[tuple[int, int]]:
        """Begin and end, among the N, of each stretch in which one share of a block, above 0, is trained."""
        shares = self.shares[:, block]
        found: list[tuple[int, int]] = []
        begin = 0
        for at in range(1, len(shares) + 1):
            if at == len(shares) or shares[at] != shares[begin]:
                if shares[begin] > 0:
                    found.append((begin, at))
                begin = at
        return found

    def caption(self) -> str:
        """What does not change, and what the signs mean."""
        changing = self.changing_quantities()
        steady = [
            f"{QUANTITIES.get(name, name)}: {wording.number(float(np.nanmax(self.values(name))))}"
            for name in self.quantities
            if name not in changing
        ]
        if any(0 < share < 1 for step in self.steps for share in step.trained.values()):
            steady.append("half height: trained in part")
        if 0 < len(self._plan.validations) <= 300:
            steady.append("triangles: validations")
        if self._plan.open_from is not None or any(stage.waits_for for stage in self._plan.stages):
            steady.append("hatched: depends on a metric or on gradients, which nobody knows yet")
        if self._plan.seconds is not None:
            steady.append(f"about {wording.duration(self._plan.seconds)} of training")
        if self._plan.memory is not None:
            steady.append(f"about {wording.size(self._plan.memory)}")
        return "   ·   ".join(steady)


def _thinned(plan: Plan) -> list[int]:
    """Which rows to draw: at most about MOST, and each that begins something."""
    stride = -(-len(plan.steps) // MOST)
    kept = set(range(0, len(plan.steps), stride)) | {len(plan.steps) - 1}
    for at in range(1, len(plan.steps)):
        before, step = plan.steps[at - 1], plan.steps[at]
        if stride > 1 and (before.trained is not step.trained or bool(before.open_by) != bool(step.open_by)):
            kept |= {at - 1, at}
    return sorted(kept)
