"""Dropout with masks that are cheap to draw on a CPU.

torch draws one number of a Mersenne twister for each element, which takes about a tenth of a training step in
bfloat16. Here one byte of a faster generator decides about an element, and the mask is a pattern of bits that is
laid over the activations by a bitwise and. A byte has 256 values and p lies between two of these steps: each block of
1,024 neighbours takes the lower or the higher step, at random, so that every element is dropped with probability p.
(Elements of a block thereby correlate by less than 1/250; by 4e-5 for p = 0.1.) Srivastava et al. 2014, JMLR 15;
deviation: p is rounded to a multiple of 1/65536 (0.1 becomes 6554/65536), and what is kept is scaled by the rounded
share, so that the expectation is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

STEPS = 65536
BLOCK = 1024  # neighbours that share the step between two values of a byte
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def kept_share(p: float) -> float:
    """The share of elements that is kept when the share `p` is dropped, as masks have it.

    >>> kept_share(0.5)
    0.5
    """
    return 1 - _dropped(p) / STEPS


def _dropped(p: float) -> int:
    """How many of `STEPS` equal chances drop an element."""
    return min(round(p * STEPS), STEPS - 1)


def draw_mask(
    shape: torch.Size | tuple[int, ...], p: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw a mask for activations on the CPU.

    Args:
        shape: of the activations.
        p: share that is dropped, in [0, 1).
        generator: from which it takes three numbers; None: torch's own.

    Returns:
        int8, so that what is kept for the backward pass is small: every bit set where an element is kept, none where it
        is dropped.
    """
    count = math.prod(shape)
    blocks = -(-count // BLOCK)
    # Where a whole step runs between two masks, what is done once a mask costs more than its bytes: numpy's calls are
    # the shorter ones, and torch's random words need not be stirred by a seed sequence.
    words = torch.randint(2**62, (3,), generator=generator).numpy().view(np.uint64)
    bits = np.random.SFC64(_Words(words))  # pyright: ignore[reportArgumentType]  (its annotation is narrower)
    raw = bits.random_raw((blocks * (BLOCK + 1) + 7) // 8).view(np.int8)
    of_elements, of_blocks = np.split(raw[: blocks * (BLOCK + 1)], [blocks * BLOCK])
    threshold, rest = divmod(_dropped(p), 256)
    higher = (of_blocks[:, None] < rest - 128).astype(np.int8 if threshold < 255 else np.int16)
    kept = of_elements.reshape(blocks, BLOCK) >= higher + higher.dtype.type(threshold - 128)
    return torch.from_numpy(kept.view(np.int8).reshape(-1)[:count]).view(shape).neg_()


class _Words(ISeedSequence):
    """Hands random words over as the state that a generator begins with."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        return self._words[:n_words].view(dtype)


def apply_mask(values: Tensor, mask: Tensor) -> Tensor:
    """`values` where the mask keeps them, 0 elsewhere; not scaled."""
    bits = BITS[values.itemsize]
    return (values.view(bits) & mask.to(bits)).view(values.dtype)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
        values = values.contiguous()
        mask = draw_mask(values.shape, p, generator)
        ctx.save_for_backward(mask)
        ctx.scale = 1 / kept_share(p)
        return apply_mask(values, mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,), (mask,) = grads, ctx.saved_tensors
        return apply_mask(grad.contiguous(), mask).mul_(ctx.scale), None, None


class _DropoutAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, residual: Tensor, p: float) -> Tensor:
        values = values.contiguous()
        mask = draw_mask(values.shape, p)
        ctx.save_for_backward(mask)
        ctx.scale, ctx.dtype = 1 / kept_share(p), values.dtype
        return torch.add(residual, apply_mask(values, mask), alpha=ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,), (mask,) = grads, ctx.saved_tensors
        scaled = torch.mul(grad, ctx.scale, out=torch.empty_like(grad, dtype=ctx.dtype))
        return apply_mask(scaled, mask), grad, None


def dropout(values: Tensor, p: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """Drop the share `p` of the elements and scale the others so that the expectation stays.

    Args:
        values: of any shape.
        p: in [0, 1).
        training: False: leave them as they are.
        generator: decides what is dropped, of the device of the values; None: torch's own.
    """
    if not training or p == 0:
        return values
    if _cheap(values):
        return _Dropout.apply(values, p, generator)
    if generator is None:
        return functional.dropout(values, p)
    kept = torch.empty_like(values, dtype=torch.bool).bernoulli_(1 - p, generator=generator)
    return torch.where(kept, values / (1 - p), 0.0)


def dropout_add(values: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
    """`dropout(values) + residual` in one pass; `residual` may be of higher precision."""
    if training and p > 0 and _cheap(values):
        return _DropoutAdd.apply(values, residual, p)
    return dropout(values, p, training) + residual


def _cheap(values: Tensor) -> bool:
    """Whether masks are drawn as above: what is compiled takes torch's own dropout, as part of one pass."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with cheap masks on the CPU; elsewhere, and where it is compiled, torch's own."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop, while in train mode."""
        return dropout(input, self.p, self.training)


def swap_dropout(model: nn.Module) -> None:
    """Put `Dropout` in the place of every plain `torch.nn.Dropout` of a model."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
