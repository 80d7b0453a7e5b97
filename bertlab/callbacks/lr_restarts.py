"""LrRestarts: the learning rate falls along a cosine, jumps back up, and falls again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import EachStage, OnPlateau, Run, Strategy, Trigger
from bertlab.callbacks.undone import Undone
from bertlab.schedules.sgdr import cycle_at, restart_factor


class LrRestarts(Strategy):
    """Stochastic gradient descent with warm restarts (Loshchilov & Hutter 2017, arXiv:1608.03983, section 3).

    The factor of each step multiplies the rate of the schedule and of other strategies, so the usual schedule
    beside it is `Constant`, or one with a warm-up only. Cycles begin on a clock of their own, with each stage
    of unfreezing, or when a metric stops getting better.

    Deviations from the paper: a cycle may warm up and its peak may decay; and the last cycle always ends with
    training, at the minimum: a rest of less than half a cycle joins the cycle before it, a longer one is a
    shorter cycle.

    Args:
        at: "cycle": after each cycle's length; "stage": with each stage of `StagedUnfreezing`, a cycle
            lasting a stage; "plateau": when `plateau` stops getting better.
        cycle_steps: optimizer steps of the first cycle.
        cycle_epochs: its epochs; may be a fraction.
        cycle_fraction: its fraction of training. One of the three is needed, except at "stage" where stages
            end by the clock.
        multiplier: each cycle is this many times as long as the one before (T_mult), 1 or more.
        peak_decay: each peak is this many times the one before, in (0, 1].
        warmup_fraction: part of each cycle over which the rate climbs, in [0, 1).
        minimum_factor: factor at the end of each cycle, in [0, 1].
        plateau: metric to watch, for "plateau".
        patience: validations without betterment that make a plateau.
        mode: whether less ("min") or more ("max") of the metric is better.
        save_cycles: keep checkpoints/cycle-<n>.ckpt at the end of each cycle, for a snapshot ensemble
            (Huang et al. 2017, arXiv:1704.00109).

    Raises:
        ValueError: an argument is out of its range, or two clash; the message names them.
    """

    touches: ClassVar[set[str]] = {"lr", "checkpoints"}
    leads = "cycle"

    def __init__(
        self,
        at: Literal["cycle", "stage", "plateau"] = "cycle",
        cycle_steps: int | None = None,
        cycle_epochs: float | None = None,
        cycle_fraction: float | None = None,
        multiplier: float = 1.0,
        peak_decay: float = 1.0,
        warmup_fraction: float = 0.0,
        minimum_factor: float = 0.0,
        plateau: str | None = None,
        patience: int = 1,
        mode: Literal["min", "max"] = "min",
        save_cycles: bool = False,
    ) -> None:
        self.at, self.multiplier, self.peak_decay = at, multiplier, peak_decay
        self.warmup_fraction, self.minimum_factor = warmup_fraction, minimum_factor
        self.save_cycles = save_cycles
        #: the cycle whose snapshot has the weights as they are now; None: a step was taken since, or there is none.
        self._kept: int | None = None
        self.cycle = CycleLength(cycle_steps, cycle_epochs, cycle_fraction)
        self._check(plateau)
        if at == "cycle":
            self.when = Cycles(self.cycle, multiplier)
        elif at == "stage":
            self.when = EachStage()
        else:
            self.when = OnPlateau(plateau or "", patience, mode)

    def apply(self, run: Run) -> None:
        """Begin a cycle: from its peak down to the minimum."""
        length = self._length(run)
        index = run.stage

        def factor(step: int) -> float:
            return restart_factor(
                min(1.0, step / length),
                index,
                peak_decay=self.peak_decay,
                warmup_fraction=self.warmup_fraction,
                minimum_factor=self.minimum_factor,
            )

        run.anneal_lr(factor)
        peak = max(self.peak_decay**index, self.minimum_factor)
        run.note("restart", cycle=index, steps=length, peak_factor=peak)

    def leaves_out(self, run: Run) -> str | None:
        """Restarts of which none comes: a cycle is about as long as the training, or nobody has stages or epochs."""
        follows = isinstance(self.trigger, EachStage) and not self.trigger.has_leader
        if follows and not self.trigger.starts(run.horizon):
            return (
                "at: stage, and no strategy of this run unfreezes in stages (StagedUnfreezing); it would restart with "
                "each epoch, and there is one: never"
            )
        length, total = self._sole_cycle(run.horizon), run.horizon.total_steps
        if length is None:
            return None
        return (
            f"a cycle has {length} steps and training {total}, so that it never restarts: its one cycle is made as "
            "long as training"
        )

    def left_undone(self, run: Run) -> Undone | None:
        """Whether it never restarted, though it waited to: the rate then stays where the one cycle has ended."""
        length = self._sole_cycle(run.horizon)
        if length is not None:
            return Undone(
                what="never restarted",
                waited_for=f"step {length}, with as much as half a cycle after it",
                instead="All steps were of one cycle, as long as training",
                advice="make cycles shorter, or training longer",
            )
        undone = super().left_undone(run)
        if undone is None:
            return None
        low = run.stage_start + self._length(run)
        return dataclasses.replace(
            undone,
            what="never restarted",
            instead=(
                f"From step {low} on the rate was {self.minimum_factor:g} times the schedule's"
                if low < run.trainer.global_step
                else "All steps were of one cycle"
            ),
            advice="lower `patience`, or restart by time (at: cycle)",
        )

    def on_stage_end(self, run: Run) -> None:
        """Keep the weights of the end of the cycle, if asked to: once, though a training that goes on ends it again."""
        if not self.save_cycles:
            return
        trainer, name = run.trainer, f"cycle-{run.stage}.ckpt"
        file = Path(trainer.default_root_dir) / "checkpoints" / name
        # A training may go on in another directory, which has no snapshot yet.
        if self._kept == run.stage and trainer.strategy.broadcast(file.exists()):
            return
        trainer.save_checkpoint(file, weights_only=False)
        run.note("snapshot", file=f"checkpoints/{name}")
        self._kept = run.stage

    def after_step(self, run: Run) -> None:
        """Remember that the weights have moved on from the last snapshot."""
        self._kept = None

    def state_dict(self) -> dict[str, Any]:
        """The stage, what the trigger has learnt, and which snapshot is of now."""
        return super().state_dict() | {"kept": self._kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._kept = state_dict.get("kept")
        super().load_state_dict(state_dict)

    def _sole_cycle(self, horizon: Horizon) -> int | None:
        """Length of the first cycle, if no other comes, and training has another length."""
        if self.at != "cycle" or self.trigger.starts(horizon):
            return None
        length = self.cycle.steps(horizon)
        return None if length == horizon.total_steps else length

    def _length(self, run: Run) -> int:
        """Optimizer steps of the cycle that begins."""
        if self.at != "plateau" and run.stage_end is not None:
            return max(1, run.stage_end - run.stage_start)
        if not self.cycle.given:
            raise ValueError(
                f"LrRestarts at {self.at!r}: nobody knows how long a cycle that ends on a plateau will "
                "be; give cycle_steps, cycle_epochs or cycle_fraction"
            )
        return max(1, round(self.cycle.steps(run.horizon) * self.multiplier**run.stage))

    def _check(self, plateau: str | None) -> None:
        if self.at not in ("cycle", "stage", "plateau"):
            raise ValueError(f"LrRestarts.at: {self.at!r}; accepted are 'cycle', 'stage', 'plateau'")
        if self.at in ("cycle", "plateau") and not self.cycle.given:
            raise ValueError(
                f"LrRestarts at {self.at!r} needs one of cycle_steps, cycle_epochs, cycle_fraction"
            )
        if (self.at == "plateau") != (plateau is not None):
            raise ValueError(
                "LrRestarts: `plateau`, the metric to watch, goes with at: plateau, and only with it"
            )
        if not 1 <= self.multiplier < float("inf"):
            raise ValueError(f"LrRestarts.multiplier takes 1 or more, got {self.multiplier}")
        # The other arguments are checked by the function that uses them, before training.
        restart_factor(
            0.0,
            peak_decay=self.peak_decay,
            warmup_fraction=self.warmup_fraction,
            minimum_factor=self.minimum_factor,
        )


class CycleLength:
    """The length of the first cycle, in one of three units.

    Raises:
        ValueError: several units at once, or a length that is not above 0.
    """

    def __init__(self, steps: int | None, epochs: float | None, fraction: float | None) -> None:
        units = {"cycle_steps": steps, "cycle_epochs": epochs, "cycle_fraction": fraction}
        given = [name for name, value in units.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"LrRestarts: {' and '.join(given)} clash; give one of them")
        for name, value in units.items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"LrRestarts.{name} takes a number above 0, got {value}")
        self.given = bool(given)
        self._steps, self._epochs, self._fraction = steps, epochs, fraction

    def steps(self, horizon: Horizon) -> int:
        """In optimizer steps, at least 1."""
        if self._steps is not None:
            return self._steps
        return max(1, horizon.step_of(epoch=self._epochs, fraction=self._fraction))


class Cycles(Trigger):
    """A new stage with each cycle of a given length, growing by a multiplier.

    Args:
        first: length of the first cycle.
        multiplier: each cycle is this many times as long as the one before.
    """

    def __init__(self, first: CycleLength, multiplier: float) -> None:
        self.first, self.multiplier = first, multiplier

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """Starts of the cycles but the first; a rest shorter than half a cycle is none of its own."""
        first = self.first.steps(horizon)
        starts: list[int] = []
        cycle = cycle_at(0, first, self.multiplier)
        while cycle.start + cycle.length < horizon.total_steps:
            cycle = cycle_at(cycle.start + cycle.length, first, self.multiplier)
            if 2 * (horizon.total_steps - cycle.start) < cycle.length:
                break
            starts.append(cycle.start)
        return starts
