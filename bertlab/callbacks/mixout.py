"""Mixout: while training, what many neurons give to others is seen as it was before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.encoders.dropout import dropout


class Mixout(Strategy):
    """Replaces the weights from a random share of neurons by those that training started from, anew in each step.

    Lee et al. 2020, arXiv:1909.11299, section 3: the model is trained with (M·w + (1 − M)·u − p·u) / (1 − p), where u
    are the starting weights, and M is 0 with probability p: all weights that go out from one neuron share one M, as in
    dropout, which is the case of u = 0. Its expectation is w; it holds w near u, the more the greater p.

    As in the authors' code the weights of linear layers are mixed, each layer by a mask of its inputs; biases,
    normalisations and tables are not. Deviations: the head, which has no starting weights, is not mixed and keeps its
    dropout; the gradient is that of the formula (the authors' code leaves out its 1/(1 − p)); the mask is the same in
    all micro-batches and on all ranks of an optimizer step. Passes that have dropout of their own, as those of `RDrop`,
    have masks of their own. What is frozen is not mixed, as its dropout is off.

    In the paper mixout takes the place of the encoder's dropout: set `model.init_args.encoder.init_args.dropout` to 0
    for the same.

    Args:
        p: share of the neurons, in [0, 1). The paper's best are 0.7 to 0.9.

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

    def never_acts(self, run: Run) -> str | None:
        """Nothing is replaced."""
        return "p is 0" if self.p == 0 else None

    def apply(self, run: Run) -> None:
        """Mix in each pass."""
        if self.p == 0:
            return
        weights = {id(weight) for weight in linear_weights(run.blocks)}

        def mix(p: TrainingPass) -> Tensor:
            generator = run.generator(f"pass {p.number}", run.trainer.strategy.root_device)

            def change(parameter: nn.Parameter, value: Tensor) -> Tensor:
                if id(parameter) not in weights or not parameter.requires_grad:
                    return value
                start = run.starting_weight(parameter)
                assert start is not None
                return mixed(value, start, self.p, generator)

            return p.loss(weights=change)

        run.wrap_loss(mix)


def mixed(value: Tensor, start: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """(M·value + (1 − M)·start − p·start) / (1 − p), M being 0 with probability p for each input of a linear layer.

    Which is start + (value − start)·M / (1 − p): Lee et al. 2020, section 3.

    Args:
        value: (outputs, inputs) weights that are trained.
        start: the weights to mix in, of the same shape.
        p: in [0, 1); on the CPU it is rounded as in `bertlab.encoders.dropout`.
        generator: decides about M; of the device of the weights.
    """
    inputs = dropout(torch.ones_like(start[0]), p, training=True, generator=generator)
    return start + (value - start) * inputs


def linear_weights(blocks: Blocks) -> list[nn.Parameter]:
    """The weights of all linear layers in blocks, each once."""
    modules = (inner for block in blocks for module in block.modules for inner in module.modules())
    weights = (module.weight for module in modules if isinstance(module, nn.Linear))
    found = {id(weight): weight for weight in weights if isinstance(weight, nn.Parameter)}
    return list(found.values())
