"""ReinitTopLayers: the top layers start afresh, as if they had never been pretrained."""

from __future__ import annotations

from typing import ClassVar

import torch

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.strategy import Run, Strategy


class ReinitTopLayers(Strategy):
    """Draws the top layers and the pooler anew before training begins.

    Zhang et al. 2021, arXiv:2006.05987, section 5: the top layers are specialised in the pretraining task, and on few
    examples it takes longer to unlearn that than to begin anew. Weights are drawn as the encoder itself was before its
    pretraining, by its configuration (for BERT normal with `initializer_range`, biases 0, normalisations 1), whatever
    its type; a normalisation above the last layer belongs to the top layer. They differ with the seed of the run.

    Args:
        layers: how many of the highest layers, 0 or more; the paper finds the best number in 1 to 6.
        pooler: whether the pooler is drawn anew too, if the encoder has one that is used.

    Raises:
        ValueError: `layers` is negative, or more than the encoder has.
    """

    touches: ClassVar[set[str]] = {"weights"}

    def __init__(self, layers: int = 2, pooler: bool = True) -> None:
        if layers < 0:
            raise ValueError(f"ReinitTopLayers.layers takes 0 or more, got {layers}")
        self.layers, self.pooler = layers, pooler
        self.drawn: list[str] = []

    def initialise(self, blocks: Blocks, generator: torch.Generator) -> None:
        """Draw them, from the bottom up."""
        layers = blocks.layers
        if self.layers > len(layers):
            raise ValueError(
                f"ReinitTopLayers.layers takes at most the {len(layers)} layers of the encoder, got {self.layers}"
            )
        chosen = list(layers.top(self.layers))
        chosen += [block for block in blocks if self.pooler and block.name == "pooler"]
        for block in chosen:
            block.draw_anew(generator)
        self.drawn = [block.name for block in chosen]

    def never_acts(self, run: Run) -> str | None:
        """Without layers, and without a pooler."""
        if self.drawn:
            return None
        return "layers is 0, and " + (
            "the encoder has no pooler in use" if self.pooler else "pooler is false"
        )

    def apply(self, run: Run) -> None:
        """Put on the timeline what was drawn."""
        run.note("drawn_anew", blocks=self.drawn)
