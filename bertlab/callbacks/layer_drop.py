"""LayerDrop: whole layers are left out at random while training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.encoders.layer_drop import dropping


class LayerDrop(Strategy):
    """Leaves each layer of the encoder out with probability p, anew for each optimizer step.

    Fan et al. 2020, arXiv:1909.11556, section 3.1: a layer that is left out is the identity; validation and
    prediction take all layers, without scaling. It regularises, saves about the share p of the arithmetic of the
    layers, and makes a model from which layers can be taken away later.

    The same layers are left out in all micro-batches and on all ranks, so that a step is the same however it is split;
    passes that have dropout of their own, as those of `RDrop`, each leave out layers of their own. What is left out
    gets a gradient of zero: momentum and weight decay still move it. Frozen layers stay in, as their dropout is off.

    Args:
        p: probability in [0, 1). The paper has 0.2; 0.5 where half of the layers are to be taken away later.

    Raises:
        ValueError: `p` is out of range.
    """

    touches: ClassVar[set[str]] = {"loss"}

    def __init__(self, p: float = 0.2) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"LayerDrop.p takes a probability in [0, 1), got {p}")
        self.p = p

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The layers."""
        return [parameter for block in blocks.layers for parameter in block.parameters()]

    def never_acts(self, run: Run) -> str | None:
        """No layer is left out."""
        return "p is 0" if self.p == 0 else None

    def apply(self, run: Run) -> None:
        """Leave layers out in each pass."""
        # What else belongs to the block of the top layer, such as a last normalisation, stays.
        layers = [block.modules[0] for block in run.blocks.layers]

        def thin(p: TrainingPass) -> Tensor:
            generator = run.generator(f"pass {p.number}")
            with dropping(layers, lambda: float(torch.rand((), generator=generator)) < self.p):
                return p.loss()

        if self.p > 0:
            run.wrap_loss(thin)
