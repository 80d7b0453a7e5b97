"""Factors of strategies on the rate of each optimizer group, whatever scheduler owns the rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

#: The key of an optimizer group under which the factor stands; `lr/<block>` is logged as rate × factor.
FACTOR = "strategy_factor"


class StepFactors:
    """Multiplies the rate of each group by a factor while an optimizer step is taken, and only then.

    The scheduler owns `group["lr"]` and finds it as it left it, so any scheduler works, also one that
    computes the next rate from the last; strategies own `group["strategy_factor"]`.

    Args:
        optimizers: their groups carry the name of their block under "block".

    Raises:
        ValueError: a group that belongs to no block.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = list(optimizers)
        self._kept: list[Any] | None = None
        for optimizer in self._optimizers:
            if any("block" not in group for group in optimizer.param_groups):
                raise ValueError(
                    "strategies need one optimizer group per block, and the task's optimizer has groups of "
                    "no block: build them with bertlab.optimizers.parameter_groups"
                )
        self._hooks = [
            hook
            for optimizer in self._optimizers
            for hook in (
                optimizer.register_step_pre_hook(self._multiply),
                optimizer.register_step_post_hook(self._restore),
            )
        ]

    def set(self, factors: Mapping[str, float]) -> None:
        """Take the factor of each block, 1 where none is given, for the steps from now on."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group[FACTOR] = factors.get(group["block"], 1.0)

    def remove(self) -> None:
        """Take the hooks off and the factors away."""
        for hook in self._hooks:
            hook.remove()
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group.pop(FACTOR, None)

    def _multiply(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._kept = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group.get(FACTOR, 1.0)

    def _restore(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        assert self._kept is not None
        for group, rate in zip(optimizer.param_groups, self._kept, strict=True):
            group["lr"] = rate
        self._kept = None
