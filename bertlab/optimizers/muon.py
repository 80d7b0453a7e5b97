"""Muon: momentum whose matrices are made orthogonal, and AdamW for what is no hidden matrix."""

# torch documents its operations on lists of tensors ("Foreach Operations") and names them with an underscore.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT

from bertlab.optimizers.group_optimizer import GroupOptimizer, adamw_update, gradients
from bertlab.optimizers.orthogonal import orthogonalized


class Muon(GroupOptimizer):
    """Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks", at the rates of AdamW.

    The matrices of the encoder's layers move along their Nesterov momentum, made orthogonal. The update is scaled to
    the size of one of AdamW's, 0.2·√max(m, n) for an (m, n) matrix, so that rates and weight decay found for AdamW
    can be kept (Liu et al. 2025, arXiv:2502.16982, section 2.2). Embeddings, heads, biases and normalisations get
    AdamW, all at the same rate: one optimizer over the groups of `bertlab.optimizers.parameter_groups`, whose layer
    decay, schedules and strategies apply to both parts alike.

    A weight that holds several matrices (ModernBERT's query, key and value in one; its input and gate) is made
    orthogonal matrix by matrix.

    Args:
        params: groups that name their `block`.
        lr: rate of both parts, 0 or more.
        weight_decay: decoupled, of the groups that do not have their own, 0 or more.
        momentum: in [0, 1).
        nesterov: look one step ahead along the momentum.
        iterations: of Newton-Schulz, 1 or more.
        betas: β₁ and β₂ of AdamW, each in [0, 1).
        eps: ε of AdamW, 0 or more.
        adamw_blocks: blocks that AdamW trains whole.

    Raises:
        ValueError: an argument is out of range; a group names no block.
        TypeError: a matrix is sharded over ranks (FSDP2).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 5e-5,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        iterations: int = 5,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        adamw_blocks: Sequence[str] = ("embeddings", "head"),
    ) -> None:
        self.check(betas, lr=lr, weight_decay=weight_decay, eps=eps)
        if not 0 <= momentum < 1:
            raise ValueError(f"Muon.momentum takes a number in [0, 1), got {momentum}")
        if iterations < 1:
            raise ValueError(f"Muon.iterations takes 1 or more, got {iterations}")
        self._adamw_blocks = frozenset(adamw_blocks)
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "iterations": iterations,
            "betas": tuple(betas),
            "eps": eps,
        }
        super().__init__(params, defaults)
        self._check_groups()

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update some parameters of a group, all of which have a gradient."""
        hidden = [parameter for parameter in parameters if self._is_hidden(group, parameter)]
        others = [parameter for parameter in parameters if not self._is_hidden(group, parameter)]
        if hidden:
            self._orthogonal_step(hidden, group)
        if others:
            self._adamw_step(others, group)

    def _is_hidden(self, group: dict[str, Any], parameter: Tensor) -> bool:
        return group["block"] not in self._adamw_blocks and parameter.ndim == 2

    def _orthogonal_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        found, momenta = gradients(parameters), self.moments(parameters, "momentum_buffer")
        torch._foreach_lerp_(momenta, found, 1 - group["momentum"])
        ahead = torch._foreach_lerp(found, momenta, group["momentum"]) if group["nesterov"] else momenta
        parts = [update.chunk(self._matrices(group, p)) for p, update in zip(parameters, ahead, strict=True)]
        made = iter(orthogonalized([part for several in parts for part in several], group["iterations"]))
        updates = [torch.cat([next(made) * _size_of_adamw(part) for part in several]) for several in parts]
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _adamw_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            self.state[parameter].setdefault("step", torch.tensor(0.0))
        adamw_update(
            parameters,
            gradients(parameters),
            self.moments(parameters, "exp_avg"),
            self.moments(parameters, "exp_avg_sq"),
            [self.state[parameter]["step"] for parameter in parameters],
            group,
            fused=False,
        )

    @staticmethod
    def _matrices(group: dict[str, Any], parameter: Tensor) -> int:
        """How many matrices a weight holds."""
        numbers = group.get("matrices")
        if numbers is None:
            return 1
        return next(n for p, n in zip(group["params"], numbers, strict=True) if p is parameter)

    def _check_groups(self) -> None:
        for group, parameter in self._each():
            if "block" not in group:
                raise ValueError(
                    "Muon takes groups that name their block, to tell hidden matrices from embeddings and heads: "
                    "build them with bertlab.optimizers.parameter_groups"
                )
            if isinstance(parameter, DTensor):
                raise TypeError(
                    "Muon takes whole matrices, and ModelParallelStrategy (FSDP2) shards them: use "
                    "trainer.strategy ddp, or another optimizer"
                )

    def _each(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                yield group, parameter


def _size_of_adamw(matrix: Tensor) -> float:
    """Scales an orthogonal (m, n) matrix to the root mean square of a typical update of AdamW, 0.2."""
    return 0.2 * math.sqrt(max(matrix.shape))
