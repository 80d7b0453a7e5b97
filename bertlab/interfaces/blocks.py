"""The parts of a model that are frozen, trained and given a rate as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Where a checkpoint keeps the weights that training goes on from, if its `state_dict` holds others (an average).
TRAINED_WEIGHTS = "bertlab_trained_weights"


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a model that is frozen, trained and given a rate as one: an object, equal only to itself.

    Attributes:
        name: "embeddings", "layer.0" … "layer.11", "pooler", "head".
        modules: the modules that belong to it and to no other block.
        depth: distance from the top: 0 for the head, growing towards the embeddings.
        initializer: draws what a module holds itself from torch's generator, as the model's configuration says; None:
            nobody knows how.
    """

    name: str
    modules: tuple[nn.Module, ...]
    depth: int
    initializer: Callable[[nn.Module], None] | None = None

    def draw_anew(self, generator: torch.Generator) -> None:
        """Give the block fresh weights, as if it had never been trained.

        Args:
            generator: decides about them; of the CPU, as the weights are while training is set up. Torch's own
                generators are left as they are.

        Raises:
            ValueError: nobody knows how the block is drawn.
        """
        if self.initializer is None:
            raise ValueError(
                f"block {self.name!r} does not know how it is initialised: give Block an initializer"
            )
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reach the generators of all GPUs too.
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            for module in self.modules:
                module.apply(self.initializer)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter of the block once, told apart by identity."""
        seen: set[int] = set()
        for module in self.modules:
            for parameter in module.parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter

    def train(self, mode: bool = True) -> None:
        """Set train mode (dropout on) or evaluation mode (dropout off) for the whole block."""
        for module in self.modules:
            module.train(mode)

    def __repr__(self) -> str:
        """Short: blocks appear in error messages."""
        return f"Block({self.name!r})"


class Trunk(NamedTuple):
    """What the lowest blocks of a model have made of a batch; the others go on from it.

    Attributes:
        blocks: how many blocks, from the embeddings up.
        values: (N, D), a vector for each token, or (S, D), one for each sequence.
    """

    blocks: int
    values: Tensor
