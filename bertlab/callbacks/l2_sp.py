"""L2Sp: weights are drawn to where training started instead of to zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.strategy import Run, Strategy


class L2Sp(Strategy):
    """Adds α/2·|w − w₀|² of the encoder and β/2·|w|² of the head to the loss (L2-SP).

    Li et al. 2018, arXiv:1802.01483, section 3: w₀ are the weights that training starts from. The gradient is added
    once for each optimizer step, before clipping, whatever the number of micro-batches and ranks; `train/loss` is
    without it.

    Of the encoder every parameter is drawn to its start, biases and normalisations too: unlike zero, that is where
    they belong. Of the head the matrices alone are drawn to zero, as by weight decay. A decoder that shares the word
    embeddings is part of the encoder. Layers that `ReinitTopLayers` has drawn anew are drawn to these new weights.

    An adaptive optimizer such as AdamW divides this gradient by its estimate of the gradient's size, as any other. Its
    weight decay still draws everything to zero: set `model.init_args.weight_decay` to 0.

    Args:
        alpha: α, 0 or more, of the encoder.
        beta: β, 0 or more, of the head. The paper has 0.01.

    Raises:
        ValueError: α or β is negative or not finite.
    """

    touches: ClassVar[set[str]] = {"gradients"}
    needs_starting_weights: ClassVar[bool] = True

    def __init__(self, alpha: float = 0.1, beta: float = 0.01) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0 <= value < math.inf:
                raise ValueError(f"L2Sp.{name} takes a number of 0 or more, got {value}")
        self.alpha, self.beta = alpha, beta

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The encoder; the matrices of the head."""
        encoder = [p for block in list(blocks)[:-1] for p in block.parameters()] if self.alpha else []
        head = [p for p in blocks[len(blocks) - 1].parameters() if p.dim() > 1] if self.beta else []
        return [*encoder, *head]

    def never_acts(self, run: Run) -> str | None:
        """Nothing draws."""
        return "alpha and beta are 0" if self.alpha == 0 and self.beta == 0 else None

    def apply(self, run: Run) -> None:
        """Add the gradient of the penalty in each step."""
        parameters = {id(p): p for block in run.all_blocks for p in block.parameters()}

        def pull() -> None:
            for parameter in parameters.values():
                start = run.starting_weight(parameter)
                if parameter.grad is None:
                    continue
                if start is not None:
                    add_pull(parameter.grad, parameter, start, self.alpha)
                elif parameter.dim() > 1:
                    add_pull(parameter.grad, parameter, None, self.beta)

        run.edit_gradients(pull)


@torch.no_grad()
def add_pull(gradient: Tensor, weight: Tensor, start: Tensor | None, strength: float) -> None:
    """Add the gradient of strength/2·|weight − start|², in place.

    Args:
        gradient: of the weight.
        weight: of any shape.
        start: where it is drawn to; None: zero.
        strength: 0 or more.

    Examples:
        >>> gradient = torch.tensor([1.0, 1.0])
        >>> add_pull(gradient, torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0]), 0.5)
        >>> gradient
        tensor([2., 1.])
    """
    gradient.add_(weight if start is None else weight - start, alpha=strength)
