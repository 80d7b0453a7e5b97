"""The table of the word pieces, with a gradient that takes no new memory in each step."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bertlab.interfaces.gradient_rows import set_row_names


class GradientMemory:
    """Memory for the gradient of a table, used again as soon as nobody holds what was last made of it.

    New memory of tens of MB comes from the operating system page by page, which on a CPU takes longer than all that
    the gradient is made of; so does making all of it zero for the few rows that were written. What others wrote is told
    by the version that torch counts with each change in place (but not with one through `.data`). A copy has memory of
    its own.
    """

    def __init__(self) -> None:
        #: with the memory, and the count of changes, of the gradient that was made last.
        self._last: Tensor | None = None
        self._version = 0
        self._rows: Tensor | None = None

    def zeros(self, like: Tensor) -> Tensor:
        """Zeros of the shape and type of `like`, which is contiguous and on the CPU."""
        last = self._last
        if last is None or last.shape != like.shape or last.dtype != like.dtype or _is_held(last):
            self._last = None
            return torch.zeros_like(like)
        if self._rows is not None and last._version == self._version:
            last.index_fill_(0, self._rows, 0)
        else:
            last.zero_()
        return like.new_empty(0).set_(last.untyped_storage(), 0, like.shape, like.stride())

    def made(self, gradient: Tensor, rows: Tensor) -> None:
        """Take note of a gradient made of these zeros, (R, D), and its (N,) rows that are not zero."""
        self._last, self._rows, self._version = gradient.detach(), rows, gradient._version

    def rows_of(self, gradient: Tensor) -> Tensor | None:
        """(N,) rows besides which a gradient is zero; None where it is not the last one, or was changed since."""
        last = self._last
        same = (
            last is not None
            and gradient.data_ptr() == last.data_ptr()
            and gradient.shape == last.shape
            and gradient._version == last._version == self._version
        )
        return self._rows if same else None

    def __deepcopy__(self, _: dict[int, Any]) -> GradientMemory:
        return GradientMemory()

    def __reduce__(self) -> tuple[type[GradientMemory], tuple[()]]:
        return GradientMemory, ()


def _is_held(tensor: Tensor) -> bool:
    """Whether another tensor has its memory; torch has no public name for that."""
    storage = tensor.untyped_storage()  # one holder, besides the tensor
    return torch._C._storage_Use_Count(storage._cdata) > 2  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, ids: Tensor, padding_idx: int | None, memory: GradientMemory
    ) -> Tensor:
        ctx.save_for_backward(weight, ids)
        ctx.padding_idx, ctx.memory = padding_idx, memory
        return nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad,), (weight, ids) = grads, ctx.saved_tensors
        result, rows = ctx.memory.zeros(weight), ids.reshape(-1)
        result.index_add_(0, rows, grad.reshape(-1, weight.shape[1]))
        if ctx.padding_idx is not None:
            result[ctx.padding_idx] = 0
        ctx.memory.made(result, rows)
        return result, None, None, None


class WordTable(nn.Embedding):
    """`torch.nn.Embedding`, on the CPU with memory for its gradient that is kept from step to step.

    What it gives, and its gradient, are the same. Where the gradient is held beyond the next backward pass, new memory
    is taken.
    """

    #: whose results and gradients it gives, for what knows layers by their class.
    computes: ClassVar[type[nn.Module]] = nn.Embedding

    _memory: GradientMemory

    @classmethod
    def of(cls, table: nn.Embedding) -> WordTable:
        """One with the weight of another, the same parameter."""
        made = cls(table.num_embeddings, table.embedding_dim, table.padding_idx, device="meta")
        made.weight = table.weight
        made._memory = GradientMemory()
        return made.train(table.training)

    def forward(self, input: Tensor) -> Tensor:
        """(…) ids to (…, D)."""
        weight = self.weight
        trained = torch.is_grad_enabled() and weight.requires_grad
        plain = type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.is_contiguous()
        if trained and plain and not torch.compiler.is_compiling():
            set_row_names(weight, self._memory)
            return _Lookup.apply(weight, input, self.padding_idx, self._memory)
        return super().forward(input)


def swap_word_table(model: nn.Module, table: nn.Embedding) -> None:
    """Put a `WordTable` in the place of a plain table of a model."""
    if (
        type(table) is not nn.Embedding
        or table.max_norm is not None
        or table.scale_grad_by_freq
        or table.sparse
    ):
        return
    made = WordTable.of(table)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if child is table:
                setattr(module, name, made)
