"""LiveTensors: how many bytes of tensors are made and not yet given back."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts, while it is entered, the memory of the tensors that operations give, by their storage, until it is free.

    Activations that autograd keeps, gradients, and what an operation hands to the next one; what a kernel takes for
    itself within one operation is not seen. (Modes of dispatch and trees are modules of torch with an underscore: its
    notes on extending it show them. tests/planning/test_memory.py holds the count against torch's profiler.)

    Attributes:
        now: bytes of what was made since it was entered, and is still there.
        most: the highest that `now` has been, since it was entered or since `begin`.

    Examples:
        >>> import torch
        >>> x = torch.zeros(10, requires_grad=True)
        >>> with LiveTensors() as live:
        ...     y = (x * x).exp().sum()  # x · x is given back when exp, which keeps its result, is there
        >>> live.most, live.now
        (80, 44)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def begin(self) -> int:
        """Count `most` anew, from what there is now; returns what it was."""
        before, self.most = self.most, self.now
        return before

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the operation, and see what it gives: but views of what it was given, and what it changed in place."""
        given = {_place(tensor) for tensor in _tensors((args, kwargs))}
        found = func(*args, **(kwargs or {}))
        for tensor in _tensors(found):
            if _place(tensor) not in given:
                self._see(tensor)
        return found

    def _see(self, tensor: Tensor) -> None:
        storage, place = tensor.untyped_storage(), _place(tensor)
        if place and place not in self._seen:
            self._seen.add(place)
            size = storage.nbytes()
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._given_back, place, size)

    def _given_back(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size


def _tensors(tree: Any) -> list[Tensor]:
    """Those with memory of their own, on this rank."""
    here = [_here(leaf) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
    return [tensor for tensor in here if tensor.layout is torch.strided]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Memory of tensors, each once; of those that are divided over ranks, what this rank has.

    >>> import torch
    >>> weight = torch.zeros(4, 4)
    >>> bytes_of([weight, weight])
    64
    """
    once = [_here(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in once)


def _here(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
