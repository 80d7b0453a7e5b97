"""TimedSteps: a few real optimizer steps, to see what they cost."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import Optimizer

from bertlab.interfaces import ForeseesSteps, StepData
from bertlab.planning.cost import Cost
from bertlab.planning.live_tensors import LiveTensors, bytes_of
from bertlab.planning.standpoint import Standpoint

#: A first step that takes longer than this many seconds is the only one that is taken.
LONG = 10.0


class TimedSteps:
    """Takes optimizer steps as fit does, at a rate of 0: the optimizer does its work, and no weight moves.

    Args:
        standpoint: of the trainer.
        count: steps to time, after one that warms up; 0: none.
        prepare: is given the micro-batches of each step before it is timed.
    """

    def __init__(self, standpoint: Standpoint, count: int, prepare: Callable[[Sequence[Any]], None]) -> None:
        self._standpoint, self._trainer, self._prepare = standpoint, standpoint.trainer, prepare
        self.count = count if self._trainer.lightning_module.automatic_optimization else 0
        self._known: dict[Hashable, Cost] = {}
        self._batches: list[Any] | None = None
        self._state = 0

    def data(self) -> StepData | None:
        """What the step takes that the trainer stands before; None: the loader does not say."""
        loader = self._trainer.train_dataloader
        return loader.foresee() if isinstance(loader, ForeseesSteps) else None

    def cost(self, step: int, data: StepData | None, works: Hashable) -> Cost:
        """What a step costs: as one that was timed, if there was one alike.

        Args:
            step: that the trainer stands before, and does so again afterwards.
            data: what it takes.
            works: whatever else makes a difference between steps.
        """
        quantities = {} if data is None else data.quantities
        size, length = quantities.get("sequences"), quantities.get("length")
        trained = frozenset(id(p) for p in self._trainer.lightning_module.parameters() if p.requires_grad)
        # Steps grow by a few sequences or tokens at a time: those of nearly a size share a cost, in proportion to their
        # tokens. Attention costs more than in proportion, so lengths are told apart more finely.
        alike = (
            trained,
            length and round(4 * math.log2(length)),
            size and round(size).bit_length(),
            works,
        )
        if alike not in self._known:
            self._known[alike] = self._measure(step, data)
            self._standpoint.before(step)
            self._state = bytes_of(_state(self._optimizer))
        cost = self._known[alike]
        if cost.timed and cost.optimizer != self._state:  # of what was trained in the meantime, which is kept
            cost = self._known[alike] = replace(cost, optimizer=self._state)
        return cost

    def _measure(self, step: int, data: StepData | None) -> Cost:
        module, device = self._trainer.lightning_module, self._trainer.strategy.root_device
        weights = bytes_of([*module.parameters(), *module.buffers()])
        gradients = bytes_of(p for p in module.parameters() if p.requires_grad)
        batches = self._batches_of(data) if self.count else []
        if not batches:
            return Cost(weights, gradients)
        with self._still():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            state, live, passes = bytes_of(_state(self._optimizer)), LiveTensors(), list[int]()
            with live:
                seconds = [self._take(batches, lambda: passes.append(live.begin()))]
            tokens = [self._tokens(data)]
            # What the optimizer's first step adds to its state stays, and is counted there.
            update = live.most - (bytes_of(_state(self._optimizer)) - state)
            if seconds[0] < LONG:
                seconds, tokens = self._several(step, data)
            peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        known = [count for count in tokens if count is not None]
        return Cost(
            weights,
            gradients,
            optimizer=bytes_of(_state(self._optimizer)),
            made=max([*passes, update]),
            device_peak=peak,
            seconds=statistics.median(seconds),
            tokens=statistics.median(known) if len(known) == len(seconds) else None,
            timed=len(seconds),
        )

    def _several(self, step: int, data: StepData | None) -> tuple[list[float], list[float | None]]:
        """Seconds and tokens of a step and those that follow it."""
        seconds: list[float] = []
        tokens: list[float | None] = []
        for number in range(step, step + self.count):
            if number < self._standpoint.total_steps:
                self._standpoint.before(number)
                data = self.data()
            seconds.append(self._take(self._batches_of(data)))
            tokens.append(self._tokens(data))
        return seconds, tokens

    def _take(self, batches: Sequence[Any], after_passes: Callable[[], None] | None = None) -> float:
        """Take an optimizer step of these micro-batches; returns its seconds.

        Args:
            batches: of the step.
            after_passes: is called when the gradients are there, before the optimizer's own work.
        """
        trainer, strategy = self._trainer, self._trainer.strategy
        self._prepare(batches)
        self._synchronise()
        begin = time.perf_counter()
        self._optimizer.zero_grad()

        def work(index: int) -> Tensor | None:
            batch = strategy.batch_to_device(trainer.precision_plugin.convert_input(batches[index]))
            output: Any = strategy.training_step(batch, index)
            loss: Tensor | None = output["loss"] if isinstance(output, dict) else output
            if loss is not None:
                strategy.backward(loss / trainer.accumulate_grad_batches, self._optimizer)
            return loss

        for index in range(len(batches) - 1):
            with strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext():
                work(index)

        def closure() -> Tensor | None:
            loss = work(len(batches) - 1)
            if after_passes is not None:
                after_passes()
            return loss

        strategy.optimizer_step(self._optimizer, closure)
        self._synchronise()
        return time.perf_counter() - begin

    @contextmanager
    def _still(self) -> Generator[None]:
        """Rates of 0, and nothing logged; the gradients are gone afterwards."""
        groups, names = self._optimizer.param_groups, vars(self._trainer.lightning_module)
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = 0.0 * group["lr"]
        names.update(log=_nothing, log_dict=_nothing)
        try:
            yield
        finally:
            del names["log"], names["log_dict"]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            self._optimizer.zero_grad()

    def _batches_of(self, data: StepData | None) -> list[Any]:
        """The micro-batches of a step; where the loader does not say, the first ones that it gives."""
        if data is not None:
            return data.batches()
        if self._batches is None:
            loader: Any = self._trainer.train_dataloader
            batches = iter(loader)
            found = (next(batches, None) for _ in range(self._trainer.accumulate_grad_batches))
            self._batches = [batch for batch in found if batch is not None]
        return self._batches

    @staticmethod
    def _tokens(data: StepData | None) -> float | None:
        return None if data is None else data.quantities.get("tokens")

    @property
    def _optimizer(self) -> Optimizer:
        return self._trainer.optimizers[0]

    def _synchronise(self) -> None:
        if self._trainer.strategy.root_device.type != "cpu":
            torch.accelerator.synchronize()


def _nothing(*args: Any, **kwargs: Any) -> None:
    """What `log` does in a step that is only timed."""


def _state(optimizer: Optimizer) -> list[Tensor]:
    """All tensors of an optimizer's state."""
    return [
        value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
    ]
