"""CostWeightedLoss: a mistake on a rare or dear class weighs more in the training loss."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import AtEpoch, AtFraction, AtStep, Run, Strategy
from bertlab.interfaces import HasClassCounts
from bertlab.losses import class_weights as weighting


class CostWeightedLoss(Strategy):
    """Weighs the classes in the training loss, from their counts in the training split or from given costs.

    The loss of an optimizer step is Σ w[y]·ℓ / Σ w[y] over all its sequences, whatever the number of
    micro-batches and ranks it is split into. Validation and test losses are not weighted.

    Args:
        weights: "balanced": n / (C · n_c); "inverse_sqrt": ∝ 1 / √n_c; "effective_number": ∝ (1 − β) /
            (1 − β^n_c) (Cui et al. 2019, arXiv:1901.05555, eq. 2); "costs" and "cost_matrix": as given below.
        costs: cost of a mistake on each class, by label name.
        cost_matrix: (C, C) cost of predicting class j (column) where class i (row) is right, in the order of
            the labels, zero on the diagonal; a class weighs what its row sums to (Ting 2002).
        beta: β of "effective_number", in [0, 1).
        start_fraction: fraction of training after which the weights come in; before it all classes weigh the
            same (deferred re-weighting, Cao et al. 2019, arXiv:1906.07413, section 3.3).
        start_epoch: the same in epochs.
        start_step: the same in optimizer steps; of the three at most one.
        anneal_fraction: fraction of training over which the weights grow from 1 to what they will be, each by
            its own power: w ** s, with s from 0 to 1 in a straight line. 0: at once.
    """

    touches: ClassVar[set[str]] = {"class_weights"}

    def __init__(
        self,
        weights: Literal["balanced", "inverse_sqrt", "effective_number", "costs", "cost_matrix"] = "balanced",
        costs: dict[str, float] | None = None,
        cost_matrix: list[list[float]] | None = None,
        beta: float = 0.999,
        start_fraction: float | None = None,
        start_epoch: float | None = None,
        start_step: int | None = None,
        anneal_fraction: float = 0.0,
    ) -> None:
        self.weights, self.costs, self.cost_matrix, self.beta = weights, costs, cost_matrix, beta
        self.anneal_fraction = anneal_fraction
        self._check({"start_fraction": start_fraction, "start_epoch": start_epoch, "start_step": start_step})
        if start_fraction:
            self.when = AtFraction(start_fraction)
        elif start_epoch:
            self.when = AtEpoch(start_epoch)
        elif start_step:
            self.when = AtStep(start_step)
        self.deferred = bool(start_fraction or start_epoch or start_step)

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Costs that do not fit the classes are an error before training."""
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, HasClassCounts) and data.label_names is not None:
            self._target(data.label_names, data.class_counts())

    def apply(self, run: Run) -> None:
        """No weights before the start; then the weights, at once or growing."""
        if self.deferred and run.stage == 0:
            return
        target = self._target(run.class_names(), run.class_counts())
        steps = run.horizon.step_of(fraction=self.anneal_fraction)
        if steps == 0:
            run.weight_classes(target)
        else:
            run.weight_classes(lambda step: weighting.annealed(target, min(1.0, step / steps)))

    def _target(self, names: tuple[str, ...], counts: Tensor) -> Tensor:
        """(C,) float32 weights.

        Raises:
            ValueError: costs that do not fit the classes, or a class without a row; names the argument.
        """
        try:
            if self.weights == "costs":
                assert self.costs is not None
                found = weighting.explicit(self._costs_in_order(names), len(names))
            elif self.weights == "cost_matrix":
                assert self.cost_matrix is not None
                found = weighting.from_cost_matrix(self.cost_matrix, counts)
            elif self.weights == "effective_number":
                found = weighting.effective_number(counts, self.beta)
            elif self.weights == "inverse_sqrt":
                found = weighting.inverse_sqrt(counts)
            else:
                found = weighting.balanced(counts)
        except ValueError as error:
            raise ValueError(f"CostWeightedLoss (labels {', '.join(names)}): {error}") from error
        return found.to(torch.float32)

    def _costs_in_order(self, names: tuple[str, ...]) -> list[float]:
        assert self.costs is not None
        if set(self.costs) != set(names):
            raise ValueError(
                f"costs takes one number for each label; missing {sorted(set(names) - set(self.costs))}, "
                f"unknown {sorted(set(self.costs) - set(names))}"
            )
        return [self.costs[name] for name in names]

    def _check(self, starts: dict[str, float | None]) -> None:
        accepted = ("balanced", "inverse_sqrt", "effective_number", "costs", "cost_matrix")
        if self.weights not in accepted:
            raise ValueError(
                f"CostWeightedLoss.weights: {self.weights!r}; accepted are {', '.join(accepted)}"
            )
        for name in ("costs", "cost_matrix"):
            if (getattr(self, name) is not None) != (self.weights == name):
                raise ValueError(f"CostWeightedLoss: `{name}` goes with weights: {name}, and only with it")
        given = [name for name, value in starts.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"CostWeightedLoss: {' and '.join(given)} clash; give one of them")
        for name in given:
            value = starts[name]
            if value is None or value < 0 or (name == "start_fraction" and value > 1):
                raise ValueError(f"CostWeightedLoss.{name}: {value} is out of range")
        if not 0 <= self.anneal_fraction <= 1:
            raise ValueError(f"CostWeightedLoss.anneal_fraction: {self.anneal_fraction} is not in [0, 1]")
