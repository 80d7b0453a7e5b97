"""Wishes: what one strategy wants for the stage that it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from bertlab.callbacks.training_pass import LossWrapper
from bertlab.interfaces import Block, Course

#: A factor for each step: given optimizer steps since the stage began, the factor of the next step.
Curve = Callable[[int], float]


@dataclass
class Wishes:
    """What one strategy wants for the stage it is in.

    Attributes:
        trainable: the blocks to train, by identity; None: no wish.
        parameters: the parameters to train, where a block that holds them is trained; None: no wish.
        factors: pairs of blocks and the factor, or curve of factors, on their rate.
        class_weights: (C,) weights, or a function from steps since the stage began to them; None: no wish.
        loss: what to make of the training loss of each micro-batch; None: no wish.
        gradients: what to make of the gradients of each optimizer step; None: no wish.
        course: how the training data changes; None: no wish.
    """

    trainable: list[Block] | None = None
    parameters: list[nn.Parameter] | None = None
    factors: list[tuple[list[Block], float | Curve]] = field(default_factory=list)
    class_weights: Tensor | Callable[[int], Tensor] | None = None
    loss: LossWrapper | None = None
    gradients: Callable[[], None] | None = None
    course: Course | None = None

    def factors_at(self, since: int) -> Iterator[tuple[Sequence[Block], float]]:
        """Blocks and the factor on their rate, `since` optimizer steps after the stage began."""
        for blocks, factor in self.factors:
            yield blocks, factor(since) if callable(factor) else factor

    def class_weights_at(self, since: int) -> Tensor | None:
        """(C,) weights `since` optimizer steps after the stage began; None: no wish."""
        wish = self.class_weights
        return wish(since) if callable(wish) else wish
