"""StagedUnfreezing: train a few blocks first and more of them stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import (
    AtEpoch,
    AtFraction,
    AtStep,
    InTurn,
    OnPlateau,
    Run,
    Strategy,
    Trigger,
)
from bertlab.callbacks.triggers import metric_value
from bertlab.callbacks.undone import Undone, next_of
from bertlab.callbacks.unfreezing_plans import Stage, check_order, ends_of, planned


class StagedUnfreezing(Strategy):
    """Unfreezes the encoder in stages, by a plan made for you or stage by stage by hand.

    Plans:

    - "gradual": the head (with the pooler) first, then `blocks_per_stage` more blocks each stage from the top
      down (Howard & Ruder 2018, arXiv:1801.06146, section 3.3).
    - "top_k": the head first, then the head and the `top` highest blocks for the rest.
    - "chain_thaw": the head first, then each block alone from the bottom up, then everything (Felbo et al.
      2017, arXiv:1708.00524, section 3.3; the paper trains each step to convergence: use `plateau`).

    A made plan goes on by `stage_steps`, `stage_epochs`, `stage_fraction` or `plateau`; without any of them
    the stages before the last one share the first `spread_fraction` of training evenly.

    Args:
        plan: "gradual", "top_k" or "chain_thaw"; ignored when there are `stages`.
        stages: stages by hand, in order; the last one has no end.
        blocks_per_stage: blocks that join with each stage of "gradual".
        top: blocks that "top_k" trains besides the head.
        stage_steps: optimizer steps of each stage but the last.
        stage_epochs: epochs of each stage but the last; may be a fraction.
        stage_fraction: fraction of training of each stage but the last.
        plateau: metric whose plateau ends a stage.
        patience: validations without betterment that make a plateau.
        mode: whether less ("min") or more ("max") of `plateau` and `restore_best` is better.
        spread_fraction: see above.
        lr_decay: factor on the rate for each block further down: `lr_decay ** depth` with the head at depth 0
            (Howard & Ruder 2018, section 3.2, use 1 / 2.6).
        restore_best: metric by which the best weights of a stage are put back before the next stage begins
            (optimizer moments stay); refused beside a strategy or an optimizer that validates an average. None: the
            last weights stay.

    Raises:
        ValueError: an argument is out of its range, or two clash; the message names them.
    """

    touches: ClassVar[set[str]] = {"trainable", "lr", "weights"}
    leads = "stage"

    def __init__(
        self,
        plan: Literal["gradual", "top_k", "chain_thaw"] = "gradual",
        stages: list[Stage] | None = None,
        blocks_per_stage: int = 1,
        top: int | None = None,
        stage_steps: int | None = None,
        stage_epochs: float | None = None,
        stage_fraction: float | None = None,
        plateau: str | None = None,
        patience: int = 1,
        mode: Literal["min", "max"] = "min",
        spread_fraction: float = 0.5,
        lr_decay: float = 1.0,
        restore_best: str | None = None,
    ) -> None:
        self.plan, self.hand_made = plan, stages
        self.blocks_per_stage, self.top = blocks_per_stage, top
        self.stage_steps, self.stage_epochs = stage_steps, stage_epochs
        self.stage_fraction, self.plateau = stage_fraction, plateau
        self.patience, self.spread_fraction = patience, spread_fraction
        self.mode: Literal["min", "max"] = mode
        self.lr_decay, self.restore_best = lr_decay, restore_best
        self.keeps_copies = restore_best is not None
        self.puts_weights_back = None if restore_best is None else "restore_best"
        self.best: dict[str, Any] | None = None
        self._check()

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Make the plan for this model's blocks; a selector that matches no block is an error here."""
        selectors = self._selectors(blocks.names)
        for index, chosen in enumerate(selectors):
            try:
                blocks.named(*chosen)
            except ValueError as error:
                raise ValueError(f"StagedUnfreezing.stages, stage {index}: {error}") from error
        self.stages = len(selectors)
        self.when = InTurn(self._ends(len(selectors) - 1))
        if self.hand_made is not None:
            check_order(self.hand_made, horizon)

    def apply(self, run: Run) -> None:
        """Train the blocks of this stage, at its rate."""
        blocks = run.all_blocks
        selectors = self._selectors(blocks.names)[run.stage]
        factor = self.hand_made[run.stage].lr_factor if self.hand_made else 1.0
        chosen = blocks.named(*selectors)
        run.train_only(chosen)
        if factor != 1.0 or self.lr_decay != 1.0:
            run.scale_lr(chosen, lambda depth: factor * self.lr_decay**depth)

    def on_stage_start(self, run: Run) -> None:
        """Put the best weights of the stage before back, if asked to."""
        if self.best is not None:
            parameters = _parameters(run.all_blocks)
            with torch.no_grad():
                for name, kept in self.best["weights"].items():
                    parameters[name].copy_(kept)
            run.note("restore_best", value=self.best["value"], of_step=self.best["step"])
        self.best = None

    def leaves_out(self, run: Run) -> str | None:
        """Stages that would end at the step at which they begin."""
        empty = self.trigger.empty_stages(run.horizon)
        if not empty:
            return None
        return (
            f"{_stages(empty)} of 0 to {(self.stages or 1) - 1} would have no step and train nothing, since the end is "
            "at the step of the beginning: make stages longer, or training"
        )

    def left_undone(self, run: Run) -> Undone | None:
        """Stages that never came, or had no step, and the blocks that no stage has trained."""
        last = (self.stages or 1) - 1
        empty = [stage for stage in self.trigger.empty_stages(run.horizon) if stage < run.stage]
        if run.stage >= last and not empty:
            return None
        selectors, blocks = self._selectors(run.all_blocks.names), run.all_blocks
        came = [stage for stage in range(run.stage + 1) if stage not in empty]
        trained = {block.name for at in came for block in blocks.named(*selectors[at])}
        never = [name for name in blocks.names if name not in trained]
        ended = run.stage >= last
        return Undone(
            what=f"trained nothing in {_stages(empty)} of 0 to {last}"
            if ended
            else f"did not get beyond stage {run.stage} of 0 to {last}",
            waited_for="a step between the beginning and the end of each stage"
            if ended
            else next_of(self, run.horizon),
            instead=f"Never trained: {', '.join(never)}"
            if never
            else "Every block was trained in some stage",
            advice="lower `patience`, end stages sooner, or by time (stage_fraction, until_fraction)",
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what is trained in this stage, if it has never been better."""
        super().on_validation_end(trainer, pl_module)
        if self.restore_best is None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        value = metric_value(metrics, self.restore_best, "StagedUnfreezing.restore_best")
        value = trainer.strategy.broadcast(value)
        sign = 1.0 if self.mode == "max" else -1.0
        if self.best is None or sign * (value - self.best["value"]) > 0:
            parameters = _parameters(Conductor.of(trainer).blocks)
            weights = {name: p.detach().clone() for name, p in parameters.items() if p.requires_grad}
            self.best = {"value": value, "step": trainer.global_step, "weights": weights}

    def watched_metrics(self) -> Sequence[str]:
        """Those of plateaus, and the one that says which weights of a stage are best."""
        return [*super().watched_metrics(), *([] if self.restore_best is None else [self.restore_best])]

    def state_dict(self) -> dict[str, Any]:
        """The stage, and the best weights of the stage under way where they may be needed."""
        return super().state_dict() | {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best = state_dict["best"]
        super().load_state_dict(state_dict)

    def _selectors(self, names: Sequence[str]) -> list[list[str]]:
        """For each stage the selectors of the blocks it trains."""
        if self.hand_made is not None:
            return [stage.train for stage in self.hand_made]
        return planned(self.plan, names, self.blocks_per_stage, self.top)

    def _ends(self, count: int) -> list[Trigger]:
        """How each of the `count` stages before the last one ends."""
        if self.hand_made is not None:
            return ends_of(self.hand_made)
        turns = range(1, count + 1)
        if self.stage_steps is not None:
            return [AtStep(turn * self.stage_steps) for turn in turns]
        if self.stage_epochs is not None:
            return [AtEpoch(turn * self.stage_epochs) for turn in turns]
        if self.stage_fraction is not None:
            return [AtFraction(min(1.0, turn * self.stage_fraction)) for turn in turns]
        if self.plateau is not None:
            plateaus: list[Trigger] = []
            plateaus += [OnPlateau(self.plateau, self.patience, self.mode) for _ in turns]
            return plateaus
        return [AtFraction(self.spread_fraction * turn / count) for turn in turns]

    def _check(self) -> None:
        lengths = {
            "stage_steps": self.stage_steps,
            "stage_epochs": self.stage_epochs,
            "stage_fraction": self.stage_fraction,
            "plateau": self.plateau,
        }
        given = [name for name, value in lengths.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"StagedUnfreezing: {' and '.join(given)} clash; give one of them")
        for name in given:
            value = lengths[name]
            if not isinstance(value, str) and (value is None or not 0 < value < float("inf")):
                raise ValueError(f"StagedUnfreezing.{name} takes a number above 0, got {value}")
        self._check_stages(given)
        self._check_ranges()

    def _check_stages(self, given: Sequence[str]) -> None:
        """Stages by hand, beside which no length of the stages of a plan is given."""
        if self.hand_made is None:
            return
        if given:
            raise ValueError(
                f"StagedUnfreezing: {given[0]} belongs to a plan and clashes with stages by hand"
            )
        if not self.hand_made:
            raise ValueError("StagedUnfreezing.stages is empty; list at least one stage, or name a plan")
        ends_of(self.hand_made)

    def _check_ranges(self) -> None:
        if self.plan not in ("gradual", "top_k", "chain_thaw"):
            raise ValueError(f"StagedUnfreezing.plan: {self.plan!r}; accepted are gradual, top_k, chain_thaw")
        if self.mode not in ("min", "max"):
            raise ValueError(f"StagedUnfreezing.mode: {self.mode!r}; accepted are min, max")
        if self.patience < 1:
            raise ValueError(f"StagedUnfreezing.patience takes 1 validation or more, got {self.patience}")
        if (self.plan == "top_k") != (self.top is not None):
            raise ValueError(
                "StagedUnfreezing: plan top_k needs `top`, a number of blocks, and no other plan does"
            )
        if self.blocks_per_stage < 1 or (self.top is not None and self.top < 0):
            raise ValueError("StagedUnfreezing: blocks_per_stage takes 1 or more, top 0 or more")
        if not 0 < self.spread_fraction <= 1:
            raise ValueError(f"StagedUnfreezing.spread_fraction: {self.spread_fraction} is not in (0, 1]")
        if not 0 < self.lr_decay < float("inf"):
            raise ValueError(f"StagedUnfreezing.lr_decay takes a factor above 0, got {self.lr_decay}")


def _stages(numbers: Sequence[int]) -> str:
    return f"stage{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _parameters(blocks: Blocks) -> dict[str, nn.Parameter]:
    """Every parameter of the blocks under a name that is the same in every process."""
    return {f"{block.name}/{i}": p for block in blocks for i, p in enumerate(block.parameters())}
