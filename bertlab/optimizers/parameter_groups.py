"""Parameter groups: one for each block × decayed or not, by identity, complete from the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from typing import Any

from torch import nn
from torch.optim import Optimizer

from bertlab.interfaces import Block
from bertlab.optimizers.frozen_groups import hold_frozen_groups
from bertlab.optimizers.fused_matrices import matrices_of

#: Of torch's fused optimizers: they can undo float16's scaling of gradients while they step. Lightning then refuses to
#: clip gradients, with bfloat16 too, which has no scaling. Without the mark it has the scaling undone before it clips.
_UNSCALES = "_step_supports_amp_scaling"


def parameter_groups(
    blocks: Sequence[Block],
    weight_decay: float | None,
    layer_decay: float = 1.0,
    model: nn.Module | None = None,
) -> list[dict[str, Any]]:
    """Every parameter in exactly one group, frozen or not, so that no group is ever added or removed later.

    Biases, all parameters of normalisation layers and other vectors are not decayed. A parameter that several
    blocks hold (a tied weight) belongs to the lowest of them. Parameters are told apart by identity, never by
    value: at the start many are equal.

    Args:
        blocks: from the embeddings up.
        weight_decay: of the decayed groups, 0 or more; None: the optimizer's own.
        layer_decay: the rate of a block is the base rate times this to the power of the block's depth; in (0,
            1]. 1 is one rate for all; Howard & Ruder 2018 (arXiv:1801.06146, section 3.2) take 1/2.6.
        model: where given, each of its parameters is checked to be in a block.

    Returns:
        Groups from the lowest block up, none of them empty, with the keys `params`, `block` (name), `depth`,
        `rate_factor` (`layer_decay ** depth`), `weight_decay` but where the optimizer's own is to be taken, and
        `matrices` where a parameter holds several (how many each one holds, in the order of `params`).

    Raises:
        ValueError: an argument is out of range, two blocks have the same name, or a parameter is in no block.
    """
    if weight_decay is not None and weight_decay < 0:
        raise ValueError(f"weight_decay takes a number of 0 or more, got {weight_decay}")
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay takes a number in (0, 1], got {layer_decay}")
    twice = [name for name, count in Counter(block.name for block in blocks).items() if count > 1]
    if twice:
        raise ValueError(f"blocks take names of their own, {twice} are there more than once")
    groups: list[dict[str, Any]] = []
    owned: set[int] = set()
    for block in blocks:
        parameters = [parameter for parameter in block.parameters() if id(parameter) not in owned]
        owned.update(id(parameter) for parameter in parameters)
        undecayed = _undecayed(block)
        matrices = {key: n for module in block.modules for key, n in matrices_of(module).items()}
        for decayed in (True, False):
            members = [parameter for parameter in parameters if (id(parameter) not in undecayed) is decayed]
            if members:
                decay = weight_decay if decayed else 0.0
                numbers = [matrices.get(id(parameter), 1) for parameter in members]
                groups.append(
                    {
                        "params": members,
                        "block": block.name,
                        "depth": block.depth,
                        "rate_factor": layer_decay**block.depth,
                        **({} if decay is None else {"weight_decay": decay}),
                        **({"matrices": numbers} if max(numbers) > 1 else {}),
                    }
                )
    if model is not None:
        _check_covered(model, owned, blocks)
    return groups


def build_optimizer(make: Callable[[Iterable[Any]], Optimizer], groups: list[dict[str, Any]]) -> Optimizer:
    """An optimizer over the groups, the rate of each group being its base rate times its `rate_factor`.

    The base rate is the optimizer's own, so any optimizer with rates can be taken; the factor is applied
    after construction because only then is the base rate known. A group that is frozen keeps its counters
    (`hold_frozen_groups`). Gradients of fused optimizers can be clipped under mixed precision.

    Args:
        make: takes the groups, gives the optimizer; its arguments but the parameters are bound already.
        groups: of `parameter_groups`.

    Raises:
        ValueError: the optimizer has no rate, refuses its arguments, or needs derivatives of the gradient.
    """
    try:
        optimizer = make(groups)
    except Exception as error:
        # pytorch-optimizer has errors of its own, which are no ValueError.
        if isinstance(error, ValueError) or type(error).__module__.startswith("pytorch_optimizer."):
            raise ValueError(f"model.init_args.optimizer: {error}") from error
        raise
    if "hessian" in signature(optimizer.step).parameters:
        raise ValueError(
            f"model.init_args.optimizer: {type(optimizer).__name__} needs derivatives of the gradient, for which the "
            "backward pass would have to keep its graph, and bertlab's layers have none: take an optimizer of the "
            "first order (configs/optimizers)"
        )
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise ValueError(
                f"optimizer takes one with a learning rate `lr`, {type(optimizer).__name__} has none"
            )
        if group["lr"] is None:
            raise ValueError(
                f"model.init_args.optimizer: {type(optimizer).__name__} has no rate of its own to follow a schedule "
                "(lr: null): give it one, and none that it makes itself (relative_step: false)"
            )
        group["lr"] = group["lr"] * group["rate_factor"]
    if getattr(optimizer, _UNSCALES, False):
        setattr(optimizer, _UNSCALES, False)
    hold_frozen_groups(optimizer)
    return optimizer


def _undecayed(block: Block) -> set[int]:
    """Identities of the parameters that weight decay must not pull to zero.

    A normalisation is told by its class name, since transformers gives many models a class of their own
    (`LlamaRMSNorm`, `ModernBertRMSNorm`, …); a vector is a bias or a scale. The scales of (IA)³, which begin at 1, are
    vectors too, though peft gives them two dimensions.
    """
    named = [pair for top in block.modules for pair in top.named_parameters()]
    vectors = {id(parameter) for name, parameter in named if parameter.dim() <= 1 or ".ia3_l." in f".{name}"}
    norms = {
        id(parameter)
        for top in block.modules
        for module in top.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    return vectors | norms


def _check_covered(model: nn.Module, owned: set[int], blocks: Sequence[Block]) -> None:
    missing = [name for name, parameter in model.named_parameters() if id(parameter) not in owned]
    if missing:
        raise ValueError(
            f"parameters in no block, which no optimizer would ever train: {', '.join(missing)}; the blocks "
            f"are {', '.join(block.name for block in blocks)}"
        )
