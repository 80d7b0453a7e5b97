"""Factors of strategies on the rate of each optimizer group, whatever scheduler owns the rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

#: The key of an optimizer group under which the factor stands; `lr/<block>` is logged as rate × factor.
FACTOR = "strategy_factor"


class StepFactors:
    """Multiplies the rate of each group by a factor while an optimizer step is taken, and only then.

    The scheduler owns `group["lr"]` and finds it as it left it, so any scheduler works, also one that
    computes the next rate from the last; strategies own `group["strategy_factor"]`. That holds for a step that fails,
    too: when the closure within it fails, before anybody is told; else with `remove`.

    Args:
        optimizers: their groups carry the name of their block under "block".

    Raises:
        ValueError: a group that belongs to no block.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = list(optimizers)
        #: the scheduler's rates, of optimizers that are in the middle of a step.
        self._kept: dict[Optimizer, list[Any]] = {}
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
        """Take the hooks off and the factors away, also those of a step that was broken off."""
        for hook in self._hooks:
            hook.remove()
        for optimizer in self._optimizers:
            self._restore(optimizer)
            for group in optimizer.param_groups:
                group.pop(FACTOR, None)

    def _multiply(
        self, optimizer: Optimizer, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        self._restore(optimizer)  # a step that failed and was tried again
        self._kept[optimizer] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group.get(FACTOR, 1.0)
        closure: Callable[[], Any] | None = kwargs.get("closure")
        if closure is None:
            return args, kwargs

        def restoring() -> Any:
            try:
                return closure()
            except BaseException:  # torch calls no hook after a step that fails
                self._restore(optimizer)
                raise

        return args, {**kwargs, "closure": restoring}

    def _restore(self, optimizer: Optimizer, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._kept.pop(optimizer, []), strict=False):
            group["lr"] = rate
