"""KeptTensors: how many bytes autograd keeps for the backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.tensor import DTensor


class KeptTensors:
    """Counts, while it is entered, the memory of what autograd keeps: activations, by their storage, each once.

    Where several graphs are built and worked off one after another, the most that was kept at once counts. What an
    operation uses for itself and gives back at once is not kept, and not counted.

    Args:
        known: parameters and buffers, which are there anyway.

    Examples:
        >>> import torch
        >>> x = torch.zeros(10, requires_grad=True)
        >>> with KeptTensors([x]) as kept:
        ...     y = (x * x).exp().sum()  # exp keeps its result; x is known
        ...     y.backward()
        >>> kept.most
        40
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = {_storage(tensor) for tensor in known}
        self._held: Counter[int] = Counter()
        self._now = 0
        self.most = 0
        self._hooks = saved_tensors_hooks(self._keep, _Held.give)

    def __enter__(self) -> Self:
        """Begin to count."""
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Count no further tensor."""
        self._hooks.__exit__(kind, error, trace)

    def _keep(self, tensor: Tensor) -> _Held:
        storage = _storage(tensor)
        size = 0 if storage in self._known else _here(tensor).untyped_storage().nbytes()
        if size and not self._held[storage]:
            self._now += size
            self.most = max(self.most, self._now)
        self._held[storage] += 1
        return _Held(tensor, storage, size, self)

    def give_back(self, storage: int, size: int) -> None:
        """Autograd has let go of a tensor."""
        self._held[storage] -= 1
        if size and not self._held[storage]:
            self._now -= size


class _Held:
    """A tensor in autograd's hands: it says so when it is let go."""

    def __init__(self, tensor: Tensor, storage: int, size: int, counter: KeptTensors) -> None:
        self._tensor, self._storage, self._size, self._counter = tensor, storage, size, counter

    def give(self) -> Tensor:
        return self._tensor

    def __del__(self) -> None:
        self._counter.give_back(self._storage, self._size)


def _storage(tensor: Tensor) -> int:
    """What tells the memory of one tensor from that of another, while both are there."""
    return _here(tensor).untyped_storage().data_ptr()


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
