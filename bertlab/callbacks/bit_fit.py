"""BitFit: of the encoder only the biases are trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from lightning.pytorch import Trainer
from torch import nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy


class BitFit(Strategy):
    """Trains the biases of the encoder, those of normalisations too, and the head; all else stays as it is.

    Ben Zaken et al. 2022, arXiv:2106.10199, section 3. The paper's rates are about ten times those of full fine-tuning:
    1e-4 to 1e-3. What is frozen costs no backward of its own: of the products of a backward pass those for the weights
    are left out, which is half of them. Dropout stays on throughout. A weight that the head shares with the encoder, as
    a decoder does the word embeddings, is the encoder's. With `StagedUnfreezing` the biases thaw in stages.

    Raises:
        ValueError: the encoder has no biases.
    """

    touches: ClassVar[set[str]] = {"parameters"}

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The biases."""
        return biases(Blocks(list(blocks)[:-1]))

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """An encoder without biases, such as ModernBERT's default, is an error before training."""
        if not biases(Blocks(list(blocks)[:-1])):
            raise ValueError(
                "BitFit trains the biases of the encoder, and this one has none: take an encoder with biases, or "
                "StagedUnfreezing to train the head alone"
            )

    def apply(self, run: Run) -> None:
        """Train the biases and the head."""
        encoder = {id(p): p for block in run.blocks for p in block.parameters()}
        head = [p for p in run.head.parameters() if id(p) not in encoder]
        trained = biases(run.blocks)
        run.train_parameters([*trained, *head])
        numbers = [sum(p.numel() for p in group) for group in (trained, head, encoder.values())]
        run.note("biases", biases=numbers[0], head=numbers[1], encoder=numbers[2])


def biases(blocks: Blocks) -> list[nn.Parameter]:
    """The parameters of blocks whose name ends in "bias", each once."""
    named = (pair for block in blocks for module in block.modules for pair in module.named_parameters())
    found = {id(p): p for name, p in named if name.rpartition(".")[2].endswith("bias")}
    return list(found.values())
