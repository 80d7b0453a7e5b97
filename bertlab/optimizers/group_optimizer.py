"""GroupOptimizer: what the optimizers of this folder have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adamw import adamw


class GroupOptimizer(Optimizer, ABC):
    """Updates those parameters of a group that have a gradient together."""

    def check(self, betas: tuple[float, float], **at_least_zero: float) -> None:
        """Refuse arguments that are out of range.

        Args:
            betas: β₁ and β₂.
            **at_least_zero: numbers of 0 or more, by name.

        Raises:
            ValueError: a number is negative or not finite; a β is not in [0, 1).
        """
        name = type(self).__name__
        for argument, value in at_least_zero.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}.{argument} takes a number of 0 or more, got {value}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{name}.betas takes two numbers in [0, 1), got {betas}")

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients anew; its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self.update(parameters, group)
        return loss

    @abstractmethod
    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update some parameters of a group, all of which have a gradient."""

    def moments(self, parameters: list[Tensor], name: str) -> list[Tensor]:
        """A moment of each parameter, zeros at first, kept under a name; exp_avg and exp_avg_sq are those of torch."""
        return [self._moment(self.state[parameter], parameter, name) for parameter in parameters]

    @staticmethod
    def _moment(state: dict[str, Any], parameter: Tensor, name: str) -> Tensor:
        if name not in state:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state[name]


def gradients(parameters: list[Tensor]) -> list[Tensor]:
    """Their gradients; of those that have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def adamw_update(
    parameters: list[Tensor],
    found: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    steps: list[Tensor],
    group: dict[str, Any],
    fused: bool,
) -> None:
    """AdamW as torch computes it, in place.

    Args:
        parameters: that are updated.
        found: their gradients.
        first: their first moments.
        second: their second moments.
        steps: their numbers of steps, scalars, counted on here.
        group: with `lr`, `betas`, `eps` and `weight_decay`.
        fused: by torch's fused kernel; False: by its operations on lists of tensors.
    """
    beta1, beta2 = group["betas"]
    adamw(
        parameters,
        found,
        first,
        second,
        [],
        steps,
        foreach=not fused,
        fused=fused,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
