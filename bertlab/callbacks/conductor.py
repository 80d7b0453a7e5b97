"""The conductor: brings the wishes of all strategies of a run together and carries them out, once.

Everything dangerous sits here and in rates.py and trainable.py, so that no strategy can get it wrong: what is
trained, the rates, the class weights, the modes, the ranks, the resume, the events.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.combination import (
    bind_followers,
    check_declarations,
    check_platform,
    claims_of,
    strategies_of,
)
from bertlab.callbacks.control import Control
from bertlab.callbacks.data_course import hand_out_course, withdraw_course
from bertlab.callbacks.events import Events
from bertlab.callbacks.foresight import Foresight
from bertlab.callbacks.hindsight import Hindsight
from bertlab.callbacks.holding import Holding, holding_of
from bertlab.callbacks.horizon import Horizon, horizon_of
from bertlab.callbacks.run import Run
from bertlab.callbacks.staged import Staged
from bertlab.callbacks.starting_weights import StartingWeights
from bertlab.callbacks.step_work import StepWork
from bertlab.interfaces import HasBlocks

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


class Conductor:
    """Of one trainer; owned by its first strategy, found by the others through `Conductor.of`.

    Args:
        trainer: the trainer whose strategies it conducts.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.strategies = strategies_of(trainer)
        check_declarations(self.strategies)
        self._events = Events(trainer)
        self._runs: dict[str, Run] = {}
        self._control: Control | None = None
        self._work: StepWork | None = None
        self._holding: Holding | None = None
        #: what strategies would do, from the beginning of a training on.
        self.foresight: Foresight | None = None
        self._checked = False
        self._starting_weights = StartingWeights()
        #: what was warned of before training, by `state_key`; None: hindsight has told of it, or is not to.
        self._foretold: dict[str, str] | None = None
        self._ended = False

    @classmethod
    def of(cls, trainer: Trainer) -> Conductor:
        """The conductor of a trainer, made at first need and kept until `release`."""
        first = strategies_of(trainer)[0]
        if first.conductor is None or first.conductor.trainer is not trainer:
            first.conductor = cls(trainer)
        return first.conductor

    @property
    def module(self) -> LightningModule:
        """The task."""
        return self.trainer.lightning_module

    @cached_property
    def blocks(self) -> Blocks:
        """All blocks of the task, the head last: the same objects from the first call on."""
        assert isinstance(self.module, HasBlocks)
        return Blocks(self.module.blocks())

    @property
    def training_stage(self) -> Run | None:
        """The stage, under way, of the strategy that decides what is trained; None: there is no such strategy."""
        return next((run for run in self._runs.values() if run.wishes.trainable is not None), None)

    @property
    def horizon(self) -> Horizon:
        """How long training is."""
        return horizon_of(self.trainer)

    def initialise(self, module: LightningModule) -> None:
        """Let strategies change the weights that training starts from, once, and remember them if any asks."""
        self._starting_weights.make(self.trainer, module, self.strategies)

    def check(self) -> None:
        """Refuse what cannot work, before training, and let triggers that follow find their leaders.

        Raises:
            ValueError: two strategies that clash (both are named), an unknown name in `touches`, two leaders; data that
                cannot change as a strategy asks.
            TypeError: a task, trainer strategy or data module that strategies cannot work with; a strategy whose state
                lacks its stage.
        """
        if self._checked:
            return
        self._checked = True
        check_platform(self.strategies, self.trainer, self.module)
        if self.trainer.global_step == 0:  # a trainer that goes on stands later
            for strategy in self.strategies:
                strategy.begin_anew(self.module)
        for strategy in self.strategies:
            strategy.prepare(self.trainer, self.blocks, self.horizon)
        bind_followers(self.strategies, claims_of(self.strategies, self.module))
        for strategy in self.strategies:
            strategy.check_state()
        hand_out_course(self.strategies, self.trainer, self.horizon, self._run_in)

    def start(self) -> None:
        """Put in force what held when the checkpoint was saved (nothing, on a fresh run), then move on."""
        if self._begin():
            self.advance()

    def advance(self) -> None:
        """Move every strategy to the stage of the next optimizer step, and set rates and weights for it.

        Only at the boundary of an optimizer step: never between micro-batches of one step.
        """
        if self._control is not None:
            self._move(rehearsed=False)

    def rehearse(self) -> Holding:
        """What `advance` does, but that no strategy acts on weights or files: to see what will hold.

        Returns:
            What holds during the optimizer step that the trainer stands before.
        """
        self._begin()
        return self._move(rehearsed=True)

    def run_of(self, strategy: Staged) -> Run:
        """The run as a strategy sees it in the stage that it is in."""
        return self._runs[strategy.state_key]

    def edit_gradients(self, asked_by: Staged) -> None:
        """Let strategies change the gradients of the step that is about to be taken."""
        if self._work is not None:
            self._work.edit_gradients(asked_by)

    def after_step(self) -> None:
        """Let strategies act after an optimizer step; never between micro-batches of one."""
        if self._work is not None:
            self._work.after(self.trainer.global_step)

    def before_validation(self) -> None:
        """Let strategies change what a validation sees."""
        for strategy in self.strategies:
            strategy.before_validation(self.module)

    def after_validation(self) -> None:
        """Have all of it undone before any strategy acts on the validation, whatever their order."""
        for strategy in self.strategies:
            strategy.after_validation(self.module)

    def observe(self, strategy: Staged) -> None:
        """Show a strategy's trigger the metrics of a validation: those of rank 0, on all ranks."""
        metrics = {
            key: float(value) for key, value in self.trainer.callback_metrics.items() if value.numel() == 1
        }
        metrics = self.trainer.strategy.broadcast(metrics)
        strategy.trigger.observe(metrics, self.trainer.global_step, self.horizon)

    def finish(self) -> None:
        """End the stage that each strategy is in, and say what was left undone: once, though each asks for it."""
        if self._ended:
            return
        self._ended = True
        self._end_stages(self.strategies)
        if self._foretold is not None:
            Hindsight(self.strategies, self.trainer, self._run_in, self._foretold).tell(self._events)
            self._foretold = None

    def skip_hindsight(self) -> None:
        """Say nothing, at the end, of what was left undone: what has begun is not a whole training."""
        self._foretold = None

    def release(self) -> None:
        """Leave no trace: model, optimizers and data are as if no strategy had been, but for the weights."""
        withdraw_course(self.strategies, self.trainer)
        self.let_go()

    def let_go(self) -> None:
        """Leave no trace in model and optimizers; the data can still tell a checkpoint where it stands."""
        if self._control is not None:
            self._control.release()
        self._control, self._work, self._holding, self._checked = None, None, None, False
        self._starting_weights.put_away()
        for strategy in self.strategies:
            strategy.resumed = False
        self._foretold, self.foresight, self._ended = None, None, False
        self._runs.clear()
        vars(self).pop("blocks", None)  # of another task, perhaps, the next time

    def _begin(self) -> bool:
        """Take hold of optimizer, parameters and loss, once; whether this call did it."""
        if self._control is not None:
            return False
        self.foresight = Foresight(self.strategies, self.trainer, self.blocks, self._run_in)
        self.foresight.refuse_stages_of_nothing()
        self._control = Control(self.trainer, self.blocks)
        for strategy in self.strategies:
            if strategy.entered >= 0:  # resumed
                self._apply(strategy)
        self._control.train_what_is_wanted(list(self._runs.values()))
        self._foretold = self.foresight.warn_of_what_never_acts()
        self._work = StepWork(self.strategies, self.run_of, self.trainer.global_step)
        self._work.wrap_loss(self.module)
        return True

    def _move(self, rehearsed: bool) -> Holding:
        assert self._control is not None
        step = self.trainer.global_step
        if self._holding is not None and step == self._holding.step:
            return self._holding
        horizon = self.horizon
        movers = [s for s in self.strategies if s.stage_at(step, horizon) > s.entered]
        if not rehearsed:
            self._end_stages(movers)
        notes: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for strategy in movers:
            strategy.entered = strategy.stage_at(step, horizon)
            notes[strategy.state_key] = self._apply(strategy)
        if movers:
            self._control.train_what_is_wanted(list(self._runs.values()))
        stages = {strategy.state_key: strategy.entered for strategy in self.strategies}
        self._holding = holding_of(step, stages, list(self._runs.values()))
        self._control.hold(self._holding)
        for strategy in movers:
            name, run = type(strategy).__name__, self._runs[strategy.state_key]
            self._events.record_stage(name, run, notes[strategy.state_key])
            if not rehearsed:
                strategy.on_stage_start(run)
        return self._holding

    def _end_stages(self, strategies: list[Strategy]) -> None:
        """End stages; of strategies that keep files last, so that these hold what the others do then."""
        for strategy in sorted(strategies, key=lambda s: "checkpoints" in s.touches):
            if strategy.state_key in self._runs:
                strategy.on_stage_end(self._runs[strategy.state_key])

    def _apply(self, strategy: Strategy) -> list[tuple[str, dict[str, Any]]]:
        """Ask a strategy what it wants for the stage it has entered; returns what it noted."""
        run = self._run_in(strategy, strategy.entered)
        strategy.apply(run)
        self._runs[strategy.state_key] = run
        return run.settle()

    def _run_in(self, strategy: Strategy, stage: int) -> Run:
        """The run as a strategy sees it in a stage, also in one whose beginning is not known yet."""
        horizon, name = self.horizon, type(strategy).__name__
        return Run(
            strategy=name,
            touches=strategy.touches,
            stage=stage,
            span=strategy.span_of(stage, horizon),
            horizon=horizon,
            blocks=self.blocks,
            trainer=self.trainer,
            record=lambda what, facts: self._events.record(name, what, facts),
            starting_weights=self._starting_weights.weights,
        )
