"""The conductor: brings the wishes of all strategies of a run together and carries them out, once.

Everything dangerous sits here and in rates.py and trainable.py, so that no strategy can get it wrong: what is
trained, the rates, the class weights, the modes, the ranks, the resume, the events.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.combination import bind_followers, check_platform, claims_of
from bertlab.callbacks.foresight import warn_of_what_never_acts
from bertlab.callbacks.rates import StepFactors
from bertlab.callbacks.run import Run
from bertlab.callbacks.step_seed import seeded
from bertlab.callbacks.trainable import train_blocks, wrap_again
from bertlab.callbacks.training_pass import wrapped_loss
from bertlab.callbacks.triggers import Horizon
from bertlab.interfaces import (
    Block,
    HasBlocks,
    HasClassWeights,
    HasEncoderBlocks,
    HasTrainingLoss,
    RecordsEvents,
)

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


class Conductor:
    """Of one trainer; owned by its first strategy, found by the others through `Conductor.of`.

    Args:
        trainer: the trainer whose strategies it conducts.
    """

    def __init__(self, trainer: Trainer) -> None:
        from bertlab.callbacks.strategy import Strategy

        self.trainer = trainer
        found = [callback for callback in _callbacks(trainer) if isinstance(callback, Strategy)]
        # An order of their own, leaders first, so that their order in the configuration does not matter.
        self.strategies = sorted(found, key=lambda s: (s.leads != "stage", s.leads != "cycle", s.state_key))
        self._runs: dict[str, Run] = {}
        self._factors: StepFactors | None = None
        self._step: int | None = None
        self._checked = False
        self._weights: Tensor | None = None
        self._starting_weights: dict[int, Tensor] | None = None
        self._edited: int | None = None
        self._finished_steps = 0

    @classmethod
    def of(cls, trainer: Trainer) -> Conductor:
        """The conductor of a trainer, made at first need and kept until `release`."""
        from bertlab.callbacks.strategy import Strategy

        first = next(callback for callback in _callbacks(trainer) if isinstance(callback, Strategy))
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
        """How long training is.

        Raises:
            ValueError: nobody has said how long training is.
        """
        total = self.trainer.estimated_stepping_batches
        batches = self.trainer.num_training_batches
        if total == -1 or float("inf") in (total, batches):
            raise ValueError(
                "strategies need to know how long training is: set trainer.max_epochs or trainer.max_steps "
                f"(found max_epochs={self.trainer.max_epochs}, max_steps={self.trainer.max_steps})"
            )
        per_epoch = -(-int(batches) // self.trainer.accumulate_grad_batches)
        return Horizon(total_steps=int(total), steps_per_epoch=per_epoch)

    def initialise(self, module: LightningModule) -> None:
        """Let strategies change the weights that training starts from, once, and remember them if any asks."""
        if self._starting_weights is not None:
            return
        self._starting_weights = {}
        if not isinstance(module, HasEncoderBlocks):
            return  # what strategies need of it is checked before training
        blocks = Blocks(module.encoder_blocks())
        for strategy in self.strategies:
            strategy.initialise(blocks, seeded(self.trainer, f"{type(strategy).__name__}/start"))
        if any(strategy.needs_starting_weights for strategy in self.strategies):
            parameters = [parameter for block in blocks for parameter in block.parameters()]
            self._starting_weights = {id(p): p.detach().clone() for p in parameters}

    def check(self) -> None:
        """Refuse what cannot work, before training, and let triggers that follow find their leaders.

        Raises:
            ValueError: two strategies that clash (both are named), an unknown name in `touches`, two leaders.
            TypeError: a task or trainer strategy that strategies cannot work with.
        """
        if self._checked:
            return
        self._checked = True
        check_platform(self.strategies, self.trainer, self.module)
        for strategy in self.strategies:
            strategy.prepare(self.trainer, self.blocks, self.horizon)
        bind_followers(self.strategies, claims_of(self.strategies, self.module))

    def start(self) -> None:
        """Put in force what held when the checkpoint was saved (nothing, on a fresh run), then move on."""
        if self._factors is not None:
            return
        self._factors = StepFactors(self.trainer.optimizers)
        resumed = [strategy for strategy in self.strategies if strategy.entered >= 0]
        for strategy in resumed:
            self._apply(strategy)
        self._carry_out_trainable()
        warn_of_what_never_acts(self.strategies, self.horizon, self.blocks, self._run_of)
        self._finished_steps = self.trainer.global_step
        self._wrap_loss()
        self.advance()

    def advance(self) -> None:
        """Move every strategy to the stage of the next optimizer step, and set rates and weights for it.

        Only at the boundary of an optimizer step: never between micro-batches of one step.
        """
        step = self.trainer.global_step
        if step == self._step or self._factors is None:
            return
        self._step = step
        horizon = self.horizon
        movers: list[Strategy] = []
        for strategy in self.strategies:
            if self._stage_at(strategy, step, horizon) > strategy.entered:
                movers.append(strategy)
                if strategy.entered >= 0:
                    strategy.on_stage_end(self._runs[strategy.state_key])
        notes: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for strategy in movers:
            strategy.entered = self._stage_at(strategy, step, horizon)
            notes[strategy.state_key] = self._apply(strategy)
        if movers:
            self._carry_out_trainable()
        for strategy in movers:
            self._record_stage(strategy)
            for what, facts in notes[strategy.state_key]:
                self._record(type(strategy).__name__, what, facts)
            strategy.on_stage_start(self._runs[strategy.state_key])
        self._carry_out_rates(step)
        self._carry_out_class_weights(step)

    def edit_gradients(self) -> None:
        """Let strategies change the gradients of the step that is about to be taken, once."""
        step = self.trainer.global_step
        if self._factors is None or step == self._edited:
            return
        self._edited = step
        for strategy in self._by_name():
            edit = self._runs[strategy.state_key].wishes.gradients
            if edit is not None:
                edit()

    def after_step(self) -> None:
        """Let strategies act after an optimizer step, once; never between micro-batches of one."""
        step = self.trainer.global_step
        if self._factors is None or step == self._finished_steps:
            return
        self._finished_steps = step
        for strategy in self._by_name():
            strategy.after_step(self._runs[strategy.state_key])

    def before_validation(self) -> None:
        """Let strategies change what a validation sees."""
        for strategy in self.strategies:
            strategy.before_validation(self.module)

    def after_validation(self) -> None:
        """Have all of it undone before any strategy acts on the validation, whatever their order."""
        for strategy in self.strategies:
            strategy.after_validation(self.module)

    def observe(self, strategy: Strategy) -> None:
        """Show a strategy's trigger the metrics of a validation: those of rank 0, on all ranks."""
        metrics = {
            key: float(value) for key, value in self.trainer.callback_metrics.items() if value.numel() == 1
        }
        metrics = self.trainer.strategy.broadcast(metrics)
        strategy.trigger.observe(metrics, self.trainer.global_step, self.horizon)

    def finish(self) -> None:
        """End the stage that each strategy is in."""
        if self._factors is None:
            return
        for strategy in self.strategies:
            if strategy.state_key in self._runs:
                strategy.on_stage_end(self._runs[strategy.state_key])

    def release(self) -> None:
        """Leave no trace: all can be trained, rates are the schedule's, classes weigh the same."""
        if self._factors is None:
            return
        self._factors.remove()
        self._factors = None
        self._step, self._checked, self._edited = None, False, None
        self._starting_weights = None
        vars(self.module).pop("training_loss", None)
        self._runs.clear()
        for block in self.blocks:
            for parameter in block.parameters():
                parameter.requires_grad_(True)
        if isinstance(self.module, HasClassWeights) and self._weights is not None:
            self.module.set_class_weights(None)

    def _by_name(self) -> list[Strategy]:
        return sorted(self.strategies, key=lambda s: s.state_key)

    def _wrap_loss(self) -> None:
        """Put the strategies' loss in the place of the task's, until `release`."""
        module = self.module
        nested = sorted(
            (s for s in self.strategies if "loss" in s.touches), key=lambda s: (-s.nesting, s.state_key)
        )
        if not nested:
            return
        assert isinstance(module, HasTrainingLoss)
        own = module.training_loss

        def training_loss(batch: Any) -> Tensor:
            wishes = [self._runs[strategy.state_key].wishes.loss for strategy in nested]
            return wrapped_loss(module, own, batch, [wish for wish in wishes if wish is not None])

        # On the instance: the class, and what it does without strategies, is left alone.
        vars(module)["training_loss"] = training_loss

    def _stage_at(self, strategy: Strategy, step: int, horizon: Horizon) -> int:
        stage = strategy.trigger.stage_at(step, horizon)
        return stage if strategy.stages is None else min(stage, strategy.stages - 1)

    def _apply(self, strategy: Strategy) -> list[tuple[str, dict[str, Any]]]:
        """Ask a strategy what it wants for the stage it has entered; returns what it noted."""
        run = self._run_of(strategy, strategy.entered)
        strategy.apply(run)
        self._runs[strategy.state_key] = run
        return run.settle()

    def _run_of(self, strategy: Strategy, stage: int) -> Run:
        """The run as a strategy sees it in a stage, also in one whose beginning is not known yet."""
        horizon, name, trigger = self.horizon, type(strategy).__name__, strategy.trigger
        start, end = trigger.span(min(stage, len(trigger.starts(horizon))), horizon)
        if strategy.stages is not None and stage == strategy.stages - 1:
            end = horizon.total_steps
        return Run(
            strategy=name,
            touches=strategy.touches,
            stage=stage,
            span=(start, end),
            horizon=horizon,
            blocks=self.blocks,
            trainer=self.trainer,
            record=lambda what, facts: self._record(name, what, facts),
            starting_weights=self._starting_weights or {},
        )

    def _carry_out_trainable(self) -> None:
        wishes = [run.wishes for run in self._runs.values()]
        chosen: list[Block] = next(
            (w.trainable for w in wishes if w.trainable is not None), list(self.blocks)
        )
        only = next((w.parameters for w in wishes if w.parameters is not None), None)
        if train_blocks(self.blocks, chosen, only):
            wrap_again(self.trainer)

    def _carry_out_rates(self, step: int) -> None:
        assert self._factors is not None
        factors = dict.fromkeys(self.blocks.names, 1.0)
        for run in self._runs.values():
            for blocks, factor in run.wishes.factors:
                value = factor(step - run.stage_start) if callable(factor) else factor
                for block in blocks:
                    factors[block.name] *= value
        self._factors.set(factors)

    def _carry_out_class_weights(self, step: int) -> None:
        for run in self._runs.values():
            wish = run.wishes.class_weights
            if wish is not None and isinstance(self.module, HasClassWeights):
                weights = wish(step - run.stage_start) if callable(wish) else wish
                if self._weights is None or not torch.equal(weights, self._weights):
                    self._weights = weights.clone()
                    self.module.set_class_weights(weights)

    def _record_stage(self, strategy: Strategy) -> None:
        run = self._runs[strategy.state_key]
        name = type(strategy).__name__
        self._record(name, "stage", {"stage": run.stage, "ends_at_step": run.stage_end})
        if run.wishes.trainable is not None:
            trained = {id(block) for block in run.wishes.trainable}
            names = [block.name for block in self.blocks if id(block) in trained]
            self._record(name, "trainable", {"blocks": names})
        static = {b.name: f for blocks, f in run.wishes.factors if not callable(f) for b in blocks}
        if static:
            self._record(name, "lr", {"factors": static})
        if run.wishes.class_weights is not None:
            wish = run.wishes.class_weights
            weights = wish(0) if callable(wish) else wish
            self._record(
                name,
                "class_weights",
                {"weights": dict(zip(run.class_names(), weights.tolist(), strict=True))},
            )

    def _record(self, strategy: str, what: str, facts: dict[str, Any]) -> None:
        for keeper in [*_callbacks(self.trainer), *self.trainer.loggers]:
            if isinstance(keeper, RecordsEvents):
                keeper.record_event(
                    self.trainer.global_step, self.trainer.current_epoch, strategy, what, facts
                )


def _callbacks(trainer: Trainer) -> list[Any]:
    return list(trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
