"""LatestAverage: the mean of the last few weights that were set aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from bertlab.callbacks.average_times import At, AverageTimes
from bertlab.callbacks.weight_average import WeightAverage
from bertlab.optimizers.averages import mean_of


class LatestAverage(WeightAverage):
    """Latest weight averaging, LAWA (Kaddour 2022, arXiv:2209.14981, abstract).

    The equal mean of the last k weights, taken at the end of each epoch or every so many optimizer steps; of as many
    as there are, while there are fewer. What is done with it says `WeightAverage`. The k weights are in main memory
    and in the checkpoints, which so grow by k times the size of the model.

    Args:
        last: k, 2 or more.
        at: "epoch": at the end of each epoch; "cycle": at the end of each cycle of `LrRestarts`; "steps": every
            `every_steps`.
        every_steps: optimizer steps, 1 or more; for "steps" only.
        start_fraction: fraction of training from which on weights are taken.
        start_epoch: the same in epochs; may be a fraction.
        start_step: the same in optimizer steps; of the three at most one, and without any from the beginning.

    Raises:
        ValueError: an argument is out of range, or two clash.
    """

    def __init__(
        self,
        last: int = 5,
        at: At = "epoch",
        every_steps: int | None = None,
        start_fraction: float | None = None,
        start_epoch: float | None = None,
        start_step: int | None = None,
    ) -> None:
        if last < 2:
            raise ValueError(f"LatestAverage.last takes 2 or more, got {last}")
        starts = {"start_fraction": start_fraction, "start_epoch": start_epoch, "start_step": start_step}
        super().__init__(AverageTimes("LatestAverage", at, every_steps, starts))
        self.last = last
        self._latest: list[dict[str, Tensor]] = []

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Set the weights aside, drop the oldest, and average what is there."""
        aside = {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
        self._latest = [*self._latest, aside][-self.last :]
        self.average = mean_of(self._latest)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Forget the weights that were set aside, in whose place the checkpoint's come."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if self.resumed:
            self._latest = []

    def state_dict(self) -> dict[str, Any]:
        """The average, and the weights that it is the mean of."""
        return super().state_dict() | {"latest": self._latest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._latest = state_dict["latest"]
