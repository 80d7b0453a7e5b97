"""MovedWeights: the base of strategies that train weights by the gradient at weights near them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import AtFraction, Run, Strategy, TrainingPass


class MovedWeights(Strategy, ABC):
    """Trains as `loss` says, from some point of training on.

    Args:
        start_fraction: fraction of training before which nothing is done, in [0, 1).

    Raises:
        ValueError: the fraction is out of range.
    """

    touches: ClassVar[set[str]] = {"loss", "passes"}
    depends_on_split: ClassVar[bool] = True

    def __init__(self, start_fraction: float) -> None:
        self.start_fraction = start_fraction
        if not 0 <= start_fraction < 1:
            raise ValueError(
                f"{type(self).__name__}.start_fraction takes a fraction of training in [0, 1), got {start_fraction}"
            )
        if start_fraction:
            self.when = AtFraction(start_fraction)

    @abstractmethod
    def loss(self, training: TrainingPass) -> Tensor:
        """The loss of a micro-batch at moved weights."""

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Refuse weights that are too coarse for so small a step.

        Raises:
            ValueError: the weights are held in half precision.
        """
        if trainer.precision in ("bf16-true", "16-true"):
            raise ValueError(
                f"{type(self).__name__} moves weights by less than a rounding of trainer.precision "
                f"{trainer.precision}: use bf16-mixed"
            )

    def apply(self, run: Run) -> None:
        """Nothing before the start; then the loss at the moved weights."""
        if run.stage > 0 or not self.start_fraction:
            run.wrap_loss(self.loss)
