"""Strategy: the base of every optimisation strategy.

Write one in about ten lines:

class GradualUnfreeze(Strategy):
    '''Howard & Ruder 2018, section 3.3.'''

    when = EachStage()
    touches = {"trainable", "lr"}

    def __init__(self, blocks_per_stage: int = 1, decay: float = 0.9) -> None:
        self.blocks_per_stage, self.decay = blocks_per_stage, decay

    def apply(self, run: Run) -> None:
        top = run.blocks.top(run.stage * self.blocks_per_stage)
        run.train_only(run.head, *top)
        run.scale_lr(top, lambda depth: self.decay**depth)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.conducted import Conducted
from bertlab.callbacks.data_pass import DataPass
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.run import Run
from bertlab.callbacks.training_pass import TrainingPass
from bertlab.callbacks.trigger import Trigger
from bertlab.callbacks.triggers import (
    AtEpoch,
    AtFraction,
    AtStep,
    EachCycle,
    EachEpoch,
    EachStage,
    InTurn,
    OnPlateau,
)
from bertlab.callbacks.undone import Undone, still_waiting

__all__ = [
    "AtEpoch",
    "AtFraction",
    "AtStep",
    "EachCycle",
    "EachEpoch",
    "EachStage",
    "InTurn",
    "OnPlateau",
    "Run",
    "Strategy",
    "TrainingPass",
    "Trigger",
]


class Strategy(Conducted):
    """An optimisation strategy: *when* it acts, *what it touches*, *what it does*.

    What the `run` it is handed guarantees, alone or together with other strategies: parameters are told apart
    by identity; every parameter stays in its optimizer group from start to end; frozen parameters do not move
    and cost no backward; ranks stay equal; a killed and resumed run ends as one never killed; what is trained
    is in train mode; every change is on the timeline. The order of strategies in the list does not matter. What your
    own code has frozen stays frozen; when training has ended, nothing is left but the weights.

    Attributes:
        when: the trigger that moves the strategy from stage to stage. A class attribute, or set in __init__
            (what follows from it: `bertlab.callbacks.staged.Staged`).
        touches: what `apply` changes: names of `bertlab.callbacks.resources.RESOURCES`, which says how the wishes of
            several strategies come together. Of what one alone decides, such as "trainable", two are refused by name.
            "inputs" belongs there where it adds noise, or changes tokens, embeddings or weights that may be frozen.
        nesting: of strategies that wrap the loss: the one with the greater number is outside; of those that change
            gradients it is the first.
        depends_on_split: whether the gradient of an optimizer step depends on how it is split into micro-batches and
            ranks, even without dropout.
        needs_tasks: whether it works on steps of several tasks (`bertlab.interfaces.HasTasks`).
        needs_starting_weights: whether `run.starting_weight` is to know the weights that training starts from.
        sets_weights: whether it writes weights beside the optimizer while training lasts, in `after_step`.
        puts_weights_back: the argument by which it puts weights back that a validation has found best; None: it does
            not.
        keeps_copies: whether it keeps something as large as the weights, for `bertlab plan`.
        leads: "stage" or "cycle", if others may follow this one's stages (`EachStage`, `EachCycle`).
        stages: how many stages there are; the last one lasts. None: as many as the trigger gives. The stage of a
            strategy that has only 1 is not logged.
    """

    touches: ClassVar[set[str]] = set()
    leads: ClassVar[str | None] = None
    nesting: ClassVar[int] = 0
    depends_on_split: ClassVar[bool] = False
    needs_tasks: ClassVar[bool] = False
    needs_starting_weights: ClassVar[bool] = False
    sets_weights: ClassVar[bool] = False
    puts_weights_back: str | None = None
    keeps_copies: bool = False

    #: the task whose first weights it has made (`initialise`, `extend`).
    weights_made_for: LightningModule | None = None

    def apply(self, run: Run) -> None:
        """Say what holds during stage `run.stage`.

        A function of `run` alone, without side effects: it is called again, for the same stage, on resume.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it does: write apply(self, run)")

    def initialise(self, blocks: Blocks, generator: torch.Generator) -> None:
        """Change the weights that training starts from; a checkpoint that is resumed overwrites them again.

        Not called by another fit of the same task, which goes on from what was trained.

        Args:
            blocks: of the encoder; the head is not built yet.
            generator: for random numbers, the same on all ranks.
        """

    def extend(self, module: LightningModule, generator: torch.Generator) -> None:
        """Add parameters to the encoder, which are in its blocks before an optimizer is built.

        Called when all strategies have changed the weights that training starts from (`initialise`).

        Args:
            module: the task, whose head is not built yet.
            generator: for random numbers, the same on all ranks.
        """

    def never_acts(self, run: Run) -> str | None:
        """Why this strategy would do nothing in the whole training, as far as that is known; None: it acts.

        Args:
            run: as the strategy sees it, before training, in the stage that training begins in.
        """
        return None

    def leaves_out(self, run: Run) -> str | None:
        """What it is configured to do and would not come in the whole training, as far as is known; None: all comes.

        Args:
            run: as the strategy sees it, before training, in the stage that training begins in.
        """
        return None

    def left_undone(self, run: Run) -> Undone | None:
        """What this strategy has not done, now that training has ended or was told to stop; None: it has done its work.

        Args:
            run: as the strategy sees it in the stage that it is in.
        """
        return still_waiting(self, run)

    def untimed(self, run: Run) -> str | None:
        """What the timed steps of `bertlab plan` do not show while it is in a stage, for readers; None: nothing.

        Args:
            run: as the strategy sees it in the stage that it is in.
        """
        return None

    def pass_before(self, run: Run) -> DataPass | None:
        """The pass over data that it makes before the next step, in which it is in a stage; None: it makes none.

        `bertlab plan` asks for it, and times a part of it.

        Args:
            run: as the strategy sees it in the stage that it is in.
        """
        return None

    def before_timed_step(self, run: Run, batches: Sequence[Any]) -> None:
        """Do what training would have done long before a step that `bertlab plan` is about to time.

        Args:
            run: as the strategy sees it in the stage that it is in.
            batches: the micro-batches of the step on this rank.
        """

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter] | None:
        """The parameters without which this strategy does nothing while they are frozen; None: it needs none.

        Args:
            blocks: of the whole task, the head last.
        """
        return None

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Look at the model, the data and the length of training before it begins; refuse what cannot work.

        Args:
            trainer: its data module is set up.
            blocks: of the whole task, the head last.
            horizon: total steps and steps per epoch.
        """

    def on_stage_start(self, run: Run) -> None:
        """Act once when a stage begins, after `apply`; never on resume. For effects on weights and files."""

    def on_stage_end(self, run: Run) -> None:
        """Act once when a stage ends, before the next one begins, and at the end of training."""

    def after_step(self, run: Run) -> None:
        """Act after each optimizer step; what is kept from it goes into `state_dict`, beside what super() gives."""

    def before_validation(self, module: LightningModule) -> None:
        """Change what a validation within training sees; called at least once, also before the sanity check."""

    def after_validation(self, module: LightningModule) -> None:
        """Undo what `before_validation` did; called at least once, before any strategy looks at the metrics."""
