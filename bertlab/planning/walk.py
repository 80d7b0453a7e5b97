"""Walk: through a training from its first step to its last, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BaseFinetuning, EarlyStopping, Timer
from torch import Tensor, nn

from bertlab.callbacks.classes import classes_of, flat_names
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.strategy import Strategy
from bertlab.planning.plan import Plan
from bertlab.planning.plan_settings import PlanSettings
from bertlab.planning.planned_pass import PlannedPass, seconds_of
from bertlab.planning.planned_step import PlannedStep
from bertlab.planning.standpoint import Standpoint
from bertlab.planning.strategies_seen import Notes, StrategiesSeen
from bertlab.planning.timed_steps import TimedSteps
from bertlab.tracking.learning_rates import effective_rates


class Walk:
    """One way through a training.

    The conductor of the strategies says what holds in each step, Lightning moves the schedulers, the loader tells the
    data; rates and what is trained are read where training would find them.

    Args:
        trainer: before the first step of a fit.
        settings: of the plan.
        notes: what strategies note.
    """

    def __init__(self, trainer: Trainer, settings: PlanSettings, notes: Notes) -> None:
        self.trainer, self.settings = trainer, settings
        self.standpoint = Standpoint(trainer)
        self.strategies: StrategiesSeen | None = None
        if any(isinstance(callback, Strategy) for callback in _callbacks(trainer)):
            self.strategies = StrategiesSeen(Conductor.of(trainer), self.standpoint, notes)
        self.timed = TimedSteps(self.standpoint, settings.timed_steps, self._prepare)
        self.blocks = _parameters_of_blocks(trainer.optimizers)
        self.labels = _labels(trainer)
        self.steps: list[PlannedStep] = []
        self.passes: list[PlannedPass] = []
        self.validations: list[int] = []
        self._stages: Mapping[str, int] = {}
        self._trained: dict[str, float] = {}
        self._parameters = 0
        self._weights: tuple[Tensor | None, Mapping[str, float] | None] = (None, None)

    def go(self, say: Callable[[str], None]) -> None:
        """From the step that the trainer stands before to the last.

        Args:
            say: is told now and then where the walk is.
        """
        first, total = self.standpoint.first, self.standpoint.total_steps
        rows = self._rows(first, total)
        for step in range(first, total):
            if step % 1000 == 0:
                say(f"planning: step {step:,} of {total:,}")
            if step in rows:
                self.standpoint.before(step)
                self.steps.append(self._look(step, rows[step]))
            self.validations += self.standpoint.after(step)

    def plan(self, name: str, warned: Sequence[str]) -> Plan:
        """What was seen.

        Args:
            name: of the run.
            warned: what was warned of on the way.
        """
        module = self.trainer.lightning_module
        return Plan(
            name=name,
            total_steps=self.standpoint.total_steps,
            steps_per_epoch=self.standpoint.steps_per_epoch,
            steps=self.steps,
            stages=[] if self.strategies is None else self.strategies.stages,
            passes=self.passes,
            validations=self.validations,
            warnings=warned,
            remarks=list(self._remarks()),
            device=self.trainer.strategy.root_device.type,
            devices=self.trainer.world_size,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
        )

    def _rows(self, first: int, total: int) -> dict[int, int]:
        """The steps to look at, and how many each stands for."""
        stride = -(-(total - first) // self.settings.max_rows)
        wanted = set(range(first, total, stride))
        if self.strategies is not None:
            wanted |= {step for step in self.strategies.starts if first <= step < total}
        return {step: following - step for step, following in pairwise([*sorted(wanted), total])}

    def _look(self, step: int, stands_for: int) -> PlannedStep:
        """What holds during a step that the trainer stands before."""
        weights, works = None, frozenset[str]()
        if self.strategies is not None:
            weights = self.strategies.move().class_weights
            works = self.strategies.making_a_difference()
            self._time_passes(step)
        if not self._trained or (self.strategies and self.strategies.current is not self._stages):
            self._stages = self.strategies.current if self.strategies else {}
            self._trained = {name: _trained(held) / _count(held) for name, held in self.blocks.items()}
            self._parameters = sum(_trained(held) for held in self.blocks.values())
        data = self.timed.data()
        rates = effective_rates(self.trainer.optimizers)
        return PlannedStep(
            step=step,
            epoch=self.standpoint.epoch(step),
            steps=stands_for,
            rates={key.removeprefix("lr/"): rate for key, rate in rates.items()},
            trained=self._trained,
            parameters=self._parameters,
            stages=self._stages,
            class_weights=self._named(weights),
            data={} if data is None else dict(data.quantities),
            open_by=tuple(self._open_by(step)),
            cost=self.timed.cost(step, data, works),
        )

    def _time_passes(self, step: int) -> None:
        """Time the passes that strategies make before a step that the trainer stands before."""
        assert self.strategies is not None
        if not self.timed.count:
            return
        for name, made in self.strategies.passes.items():
            seconds = seconds_of(made, self.trainer, self.timed.count)
            self.passes.append(PlannedPass(name, made.what, step, seconds))
            self.standpoint.before(step)

    def _prepare(self, batches: Sequence[Any]) -> None:
        """Let strategies do what they would have done before a step that is timed."""
        if self.strategies is not None:
            self.strategies.before_timed_step(batches)

    def _named(self, weights: Tensor | None) -> Mapping[str, float] | None:
        """Class weights by label; the same object while they are the same."""
        known, named = self._weights
        if weights is not known:
            values = [] if weights is None else weights.tolist()
            labels = self.labels if len(self.labels) == len(values) else map(str, range(len(values)))
            named = None if weights is None else dict(zip(labels, values, strict=True))
            self._weights = (weights, named)
        return named

    def _open_by(self, step: int) -> Iterable[str]:
        """What waits for something that may have come before this step."""
        if self.strategies is not None:
            yield from self.strategies.open(step, self.validations)
        yield from self.standpoint.waiting_schedulers(step)

    def _remarks(self) -> Iterable[str]:
        """What the reader has to know of the numbers."""
        if any(isinstance(callback, EarlyStopping) for callback in _callbacks(self.trainer)):
            yield "EarlyStopping may end the training before its last step"
        if any(isinstance(callback, Timer) for callback in _callbacks(self.trainer)):
            yield "trainer.max_time may end the training before its last step"
        for callback in _callbacks(self.trainer):
            if isinstance(callback, BaseFinetuning):
                yield f"{type(callback).__name__} of Lightning freezes and thaws by itself, which a plan does not see"
        if self.standpoint.left_over:
            yield (
                f"the last optimizer step of each epoch takes {self.standpoint.left_over} micro-batches and not "
                f"{self.trainer.accumulate_grad_batches} (trainer.accumulate_grad_batches), so less data than is shown"
            )
        if self.standpoint.validates_by_time:
            yield "trainer.val_check_interval is a time, so nobody knows at which steps validations come"
        if self.strategies is not None and (keeping := self.strategies.keeping_copies()):
            keep = "keep" if len(keeping) > 1 else "keeps"
            yield f"the memory is without the copies of the weights that {' and '.join(keeping)} {keep}"
        if self.strategies is not None and self.timed.count:
            yield from self.strategies.untimed()
        steps = self.standpoint.total_steps - self.standpoint.first
        if len(self.steps) < steps:
            yield f"plan.csv has {len(self.steps):,} of {steps:,} steps (plan.max_rows {self.settings.max_rows:,})"


def _callbacks(trainer: Trainer) -> list[Any]:
    return list(trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]


def _parameters_of_blocks(optimizers: Sequence[Any]) -> dict[str, list[nn.Parameter]]:
    """The parameters under the name that their rate is logged with; each once, with the block that gives the rate."""
    found: dict[str, list[nn.Parameter]] = {}
    for optimizer in optimizers:
        for index, group in enumerate(optimizer.param_groups):
            found.setdefault(group.get("block", f"group-{index}"), []).extend(group["params"])
    return found


def _trained(parameters: Sequence[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)


def _count(parameters: Sequence[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _labels(trainer: Trainer) -> Sequence[str]:
    return flat_names(classes_of(trainer))
