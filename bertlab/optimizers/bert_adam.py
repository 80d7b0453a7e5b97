"""BertAdam: the optimizer that BERT was pretrained with."""

# torch documents its operations on lists of tensors ("Foreach Operations") and names them with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from bertlab.optimizers.group_optimizer import GroupOptimizer, gradients


class BertAdam(GroupOptimizer):
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
        self.check(betas, lr=lr, eps=eps, weight_decay=weight_decay)
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update some parameters of a group, all of which have a gradient.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        found = gradients(parameters)
        if any(gradient.is_sparse for gradient in found):
            raise RuntimeError("BertAdam takes dense gradients; set sparse=False in the embedding")
        first, second = self.moments(parameters, "exp_avg"), self.moments(parameters, "exp_avg_sq")
        (beta1, beta2), rate = group["betas"], group["lr"]
        torch._foreach_mul_(first, beta1)
        torch._foreach_add_(first, found, alpha=1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, found, found, value=1 - beta2)
        size = torch._foreach_sqrt(second)
        torch._foreach_add_(size, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, first, size, value=-rate)
