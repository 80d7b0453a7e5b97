"""Mixout: while training, many of the weights are seen as they were before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.callbacks.triggers import Horizon
from bertlab.encoders.dropout import dropout_add


class Mixout(Strategy):
    """Replaces a random share of the weights by those that training started from, anew for each optimizer step.

    Lee et al. 2020, arXiv:1909.11299, eq. 4: the model is trained with (M·w + (1 − M)·u − p·u) / (1 − p), where u are
    the starting weights and M is 0 with probability p. Its expectation is w; it holds w near u, the more the greater p.

    As in the authors' code the weights of the linear layers of the encoder are mixed, biases, normalisations and tables
    are not, and the head, which has no starting weights, keeps its dropout. There mixout takes the place of the
    encoder's dropout: set `model.init_args.encoder.init_args.dropout` to 0 for the same. The mask is the same in all
    micro-batches and on all ranks; where a strategy makes several passes for one step, each has its own. What is
    frozen is not mixed, as its dropout is off.

    Args:
        p: share of the weights that is replaced, in [0, 1). The paper's best are 0.7 to 0.9.

    Raises:
        ValueError: `p` is out of range.
    """

    touches: ClassVar[set[str]] = {"loss"}
    needs_starting_weights: ClassVar[bool] = True

    def __init__(self, p: float = 0.7) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Mixout.p takes a share in [0, 1), got {p}")
        self.p = p

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The weights of the linear layers of the encoder."""
        return linear_weights(Blocks(list(blocks)[:-1]))

    def never_acts(self, horizon: Horizon) -> str | None:
        """Nothing is replaced."""
        return "p is 0" if self.p == 0 else None

    def apply(self, run: Run) -> None:
        """Mix in each pass."""
        if self.p == 0:
            return
        weights = {id(weight) for weight in linear_weights(run.blocks)}

        def mix(p: TrainingPass) -> Tensor:
            generator = run.generator(f"pass {p.passes}", run.trainer.strategy.root_device)

            def change(parameter: nn.Parameter, value: Tensor) -> Tensor:
                if id(parameter) not in weights or not parameter.requires_grad:
                    return value
                start = run.starting_weight(parameter)
                assert start is not None
                return mixed(value, start, self.p, generator)

            return p.loss(weights=change)

        run.wrap_loss(mix)


def mixed(value: Tensor, start: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """(M·value + (1 − M)·start − p·start) / (1 − p), M being 0 with probability p: Lee et al. 2020, eq. 4.

    Which is start + M·(value − start) / (1 − p).

    Args:
        value: the weights that are trained.
        start: the weights to mix in, of the same shape.
        p: in [0, 1); on the CPU it is rounded as in `bertlab.encoders.dropout`.
        generator: decides about M; of the device of the weights.
    """
    return dropout_add(value - start, start, p, training=True, generator=generator)


def linear_weights(blocks: Blocks) -> list[nn.Parameter]:
    """The weights of all linear layers in blocks, each once."""
    modules = (inner for block in blocks for module in block.modules for inner in module.modules())
    weights = (module.weight for module in modules if isinstance(module, nn.Linear))
    found = {id(weight): weight for weight in weights if isinstance(weight, nn.Parameter)}
    return list(found.values())
