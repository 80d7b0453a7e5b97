"""AutoFreeze: lower layers are frozen when they have little left to learn."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from bertlab.callbacks.gradients_settle import GradientsSettle
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.callbacks.undone import Undone


class AutoFreeze(Strategy):
    """Freezes layers from the bottom up as soon as the norms of their gradients change less than those of the others.

    Liu et al. 2021, arXiv:2102.01386, section 3 and algorithm 1: over each interval of training the gradient of each
    layer is added up; η = | |Δ before| − |Δ now| | / |Δ before| says how much it still changes. The lowest layers, up
    to the first whose η is not below the percentile of all layers that are trained, are frozen for good. The
    embeddings are frozen with the lowest layer; one layer, the pooler and the head are always trained. A frozen part
    costs no backward, and its dropout is off. Deviations: the norm is the Euclidean one (the authors' code adds up
    absolute values), and outputs of frozen layers are not cached.

    The sums take the memory of one more gradient of the layers that are trained, and are kept in checkpoints.

    Args:
        interval_fraction: fraction of training of an interval, above 0 and below 0.5 (two are needed to compare).
        percentile: N of the paper, in [0, 100]; the more, the sooner layers are frozen.

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"trainable", "gradients"}
    keeps_copies: bool = True

    def __init__(self, interval_fraction: float = 0.05, percentile: float = 50.0) -> None:
        if not 0 < interval_fraction < 0.5:
            raise ValueError(
                f"AutoFreeze.interval_fraction takes a number in (0, 0.5), got {interval_fraction}"
            )
        if not 0 <= percentile <= 100:
            raise ValueError(f"AutoFreeze.percentile takes a number in [0, 100], got {percentile}")
        self.interval_fraction, self.percentile = interval_fraction, percentile
        self.when = GradientsSettle(interval_fraction, percentile)
        self.sums: dict[str, Tensor] = {}

    def never_acts(self, run: Run) -> str | None:
        """Training ends before two intervals can be compared, or nothing is below the percentile."""
        if self.percentile == 0:
            return "percentile is 0, which no change is below"
        if len(run.blocks.layers) < 2:
            return "the encoder has one layer, and the top one is never frozen"
        steps = self._settling.interval_steps(run.horizon)
        if 2 * steps >= run.horizon.total_steps:
            return (
                f"two intervals of {steps:g} steps have to be over before the first layer is frozen, and training "
                f"ends at step {run.horizon.total_steps}"
            )
        return None

    def left_undone(self, run: Run) -> Undone | None:
        """Whether it never froze a layer."""
        undone = super().left_undone(run)
        return undone and dataclasses.replace(
            undone,
            what="froze nothing",
            instead="All layers were trained, at the cost of a whole step each time",
            advice="raise `percentile`, change `interval_fraction`, or leave it out",
        )

    def apply(self, run: Run) -> None:
        """Freeze what has settled, and watch the rest."""
        layers = run.blocks.layers
        count = self._settling.settled[run.stage - 1] if run.stage > 0 else 0
        if count > 0:
            names = run.blocks.names
            run.freeze(run.blocks.bottom(names.index(layers[count - 1].name) + 1))
        watched = {
            f"{block.name}/{index}": parameter
            for block in layers.top(len(layers) - count)
            for index, parameter in enumerate(block.parameters())
        }

        def add_up() -> None:
            for name, parameter in watched.items():
                if parameter.grad is not None:
                    # In float32 or wider: in bfloat16 256 + 1 is 256.
                    before = self.sums.get(name, torch.zeros((1,) * parameter.dim())).to(parameter.device)
                    self.sums[name] = before + parameter.grad

        run.edit_gradients(add_up)

    def after_step(self, run: Run) -> None:
        """At the end of an interval, see which layers have settled: as rank 0 finds, on all ranks."""
        step = run.trainer.global_step
        if not self._settling.interval_ends(step, run.horizon):
            return
        norms = [
            self._norm(block.name) if any(p.requires_grad for p in block.parameters()) else None
            for block in run.blocks.layers
        ]
        self._settling.compare(run.trainer.strategy.broadcast(norms), step)
        self.sums = {}

    def state_dict(self) -> dict[str, Any]:
        """The stage, what the trigger has learnt, and the sums of the interval under way."""
        return super().state_dict() | {"sums": self.sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.sums = state_dict["sums"]
        super().load_state_dict(state_dict)

    def _norm(self, layer: str) -> float:
        """Of all gradients of a layer that were added up; 0 if there are none."""
        squares = [float(s.square().sum()) for name, s in self.sums.items() if name.startswith(f"{layer}/")]
        return math.sqrt(sum(squares))

    @property
    def _settling(self) -> GradientsSettle:
        assert isinstance(self.trigger, GradientsSettle)
        return self.trigger
