"""BertAdam: the optimizer that BERT was pretrained with."""

# torch documents its operations on lists of tensors ("Foreach Operations") and names them with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class BertAdam(Optimizer):
    """Adam without bias correction, with decoupled weight decay: `AdamWeightDecayOptimizer` of google-research/bert.

    m ← β₁·m + (1 - β₁)·g, v ← β₂·v + (1 - β₂)·g², p ← p - lr·(m / (√v + ε) + decay·p), where ε stands outside the
    root. Without the correction the first steps are up to (1 - β₁) / √(1 - β₂) ≈ 3.2 times as long as Adam's, and ε is
    no longer small beside √v; the long warm-up of the original schedule is there for it. Zhang et al. 2021
    (arXiv:2006.05987, section 4) found fine-tuning on small data unstable because of it, so `torch.optim.AdamW` is the
    better choice for anything but repeating the original; with the correction this *is* AdamW, hence there is no
    option for it here.

    The decay of a group is its `weight_decay`; `bertlab.optimizers.parameter_groups` gives biases and normalisations
    0, which are the ones that Google's code leaves out. All parameters of a group are updated by a handful of
    calls (`torch._foreach_*`), and nothing is read back from the device.

    Args:
        params: parameters or groups of them.
        lr: rate, 0 or more; Google's is 1e-4 in pretraining.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε, 0 or more.
        weight_decay: of the groups that do not have their own, 0 or more.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"BertAdam.{name} takes a number of 0 or more, got {value}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"BertAdam.betas takes two numbers in [0, 1), got {betas}")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss and the gradients anew; its loss is returned.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if any(gradient.is_sparse for gradient in gradients):
            raise RuntimeError("BertAdam takes dense gradients; set sparse=False in the embedding")
        states = [self._state(parameter) for parameter in parameters]
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        (beta1, beta2), rate = group["betas"], group["lr"]
        torch._foreach_mul_(first, beta1)
        torch._foreach_add_(first, gradients, alpha=1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - beta2)
        size = torch._foreach_sqrt(second)
        torch._foreach_add_(size, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, first, size, value=-rate)

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        """The moments, under the names that torch's Adam gives them; zeros at first."""
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state
