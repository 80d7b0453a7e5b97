"""CostWeightedLoss: a mistake on a rare or dear class weighs more in the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.classes import Classes, classes_of, flat_names
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import AtEpoch, AtFraction, AtStep, Run, Strategy
from bertlab.losses import class_weights as weighting


class CostWeightedLoss(Strategy):
    """Weighs the classes in the training loss, from their counts in the training split or from given costs.

    The loss of an optimizer step is Σ w[y]·ℓ / Σ w[y] over all its sequences, whatever the number of
    micro-batches and ranks it is split into. Validation and test losses are not weighted. Of several tasks in one
    (`bertlab.tasks.multi_task.MultiTask`) each is weighed by its own classes, within its own loss.

    Args:
        weights: "balanced": n / (C · n_c); "inverse_sqrt": ∝ 1 / √n_c; "effective_number": ∝ (1 − β) /
            (1 − β^n_c) (Cui et al. 2019, arXiv:1901.05555, eq. 2); "costs" and "cost_matrix": as given below.
        costs: cost of a mistake on each class, by label name; of several tasks by `<task>/<label>`.
        cost_matrix: (C, C) cost of predicting class j (column) where class i (row) is right, in the order of
            the labels, zero on the diagonal; a class weighs what its row sums to (Ting 2002).
        beta: β of "effective_number", in [0, 1).
        start_fraction: fraction of training after which the weights come in; before it all classes weigh the
            same (deferred re-weighting, Cao et al. 2019, arXiv:1906.07413, section 3.3).
        start_epoch: the same in epochs.
        start_step: the same in optimizer steps; of the three at most one.
        anneal_fraction: fraction of training over which the weights grow from 1 to what they will be, each by
            its own power: w ** s, with s from 0 to 1 in a straight line. 0: at once.
        tasks: of several tasks in one, the names of those that are weighed; None: all that have classes.

    Raises:
        ValueError: an argument is out of its range, or two clash; the message names them.
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
        tasks: list[str] | None = None,
    ) -> None:
        self.weights, self.costs, self.cost_matrix, self.beta = weights, costs, cost_matrix, beta
        self.anneal_fraction, self.tasks = anneal_fraction, tasks
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
        if classes := classes_of(trainer):
            self._target(classes)

    def apply(self, run: Run) -> None:
        """No weights before the start; then the weights, at once or growing."""
        if self.deferred and run.stage == 0:
            return
        target = self._target(run.classes())
        steps = run.horizon.step_of(fraction=self.anneal_fraction)
        if steps == 0:
            run.weight_classes(target)
        else:
            run.weight_classes(lambda step: weighting.annealed(target, min(1.0, step / steps)))

    def _target(self, classes: Mapping[str, Classes]) -> Tensor:
        """(C,) float32 weights; of several tasks those of each one after another.

        Raises:
            ValueError: costs that do not fit the classes, or a class without a row; names the argument.
        """
        chosen = {task: classes[task] for task in self._chosen(classes)}
        costs = self._costs_in_order(flat_names(chosen)) if self.weights == "costs" else {}
        parts = [
            self._weights(task, held, [costs[name] for name in flat_names({task: held})] if costs else [])
            if task in chosen
            else torch.ones(len(held.names))
            for task, held in classes.items()
        ]
        return torch.cat([part.to(torch.float32) for part in parts])

    def _weights(self, task: str, classes: Classes, costs: list[float]) -> Tensor:
        """(C,) weights of one task."""
        counts = classes.counts
        try:
            if self.weights == "costs":
                return weighting.explicit(costs, len(counts))
            if self.weights == "cost_matrix":
                assert self.cost_matrix is not None
                return weighting.from_cost_matrix(self.cost_matrix, counts)
            if self.weights == "effective_number":
                return weighting.effective_number(counts, self.beta)
            return (weighting.inverse_sqrt if self.weights == "inverse_sqrt" else weighting.balanced)(counts)
        except ValueError as error:
            of_task = f"task {task}, " if task else ""
            raise ValueError(
                f"CostWeightedLoss ({of_task}labels {', '.join(classes.names)}): {error}"
            ) from error

    def _chosen(self, classes: Mapping[str, Classes]) -> list[str]:
        """The tasks that are weighed."""
        if self.tasks is None:
            chosen = list(classes)
        elif not self.tasks or not all(task and task in classes for task in self.tasks):
            known = ", ".join(task for task in classes if task)
            raise ValueError(
                f"CostWeightedLoss.tasks takes names of tasks that have classes, got {self.tasks}; "
                + (f"these are {known}" if known else "there is one task alone: leave the key out")
            )
        else:
            chosen = self.tasks
        if self.weights == "cost_matrix" and len(chosen) > 1:
            raise ValueError(
                f"CostWeightedLoss.cost_matrix is of the classes of one task, and {', '.join(chosen)} are weighed: "
                "name one of them in `tasks`, or give `costs` by <task>/<label>"
            )
        return chosen

    def _costs_in_order(self, names: tuple[str, ...]) -> dict[str, float]:
        assert self.costs is not None
        if set(self.costs) != set(names):
            raise ValueError(
                f"CostWeightedLoss (labels {', '.join(names)}): costs takes one number for each label; missing "
                f"{sorted(set(names) - set(self.costs))}, unknown {sorted(set(self.costs) - set(names))}"
            )
        return self.costs

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
            if value is None or not 0 <= value < float("inf") or (name == "start_fraction" and value > 1):
                raise ValueError(f"CostWeightedLoss.{name}: {value} is out of range")
        if not 0 <= self.anneal_fraction <= 1:
            raise ValueError(f"CostWeightedLoss.anneal_fraction: {self.anneal_fraction} is not in [0, 1]")
