"""The weights that training starts from, as strategies make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.step_seed import seeded
from bertlab.interfaces import HasEncoderBlocks

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


class StartingWeights:
    """The weights that training starts from: made once, and the same however often the trainer goes on with it.

    Attributes:
        weights: copies of the encoder's weights by the identity of the parameter, if any strategy asks for them.
    """

    def __init__(self) -> None:
        self.weights: dict[int, Tensor] = {}
        self._module: LightningModule | None = None

    def make(self, trainer: Trainer, module: LightningModule, strategies: Sequence[Strategy]) -> None:
        """Let strategies change them, then add parameters of their own: each once, for the same task.

        Another fit of a task that they have trained already goes on from the trained weights, as a resume does, which
        makes them anew in its own process and loads the trained ones over them.

        Args:
            trainer: about to train.
            module: its task, whose head may not be built yet.
            strategies: of the trainer.
        """
        if not isinstance(module, HasEncoderBlocks):
            return  # what strategies need of it is checked before training
        blocks = Blocks(module.encoder_blocks())
        new = [strategy for strategy in strategies if strategy.weights_made_for is not module]
        for strategy in new:
            strategy.initialise(blocks, seeded(trainer, f"{type(strategy).__name__}/start"))
        for strategy in new:
            strategy.extend(module, seeded(trainer, f"{type(strategy).__name__}/parameters"))
            strategy.weights_made_for = module
        if self._module is module:
            return
        self._module, self.weights = module, {}
        if any(strategy.needs_starting_weights for strategy in strategies):
            self.weights = {id(p): p.detach().clone() for block in blocks for p in block.parameters()}

    def put_away(self) -> None:
        """Keep them in main memory, for another fit."""
        for key, weight in self.weights.items():
            self.weights[key] = weight.cpu()
