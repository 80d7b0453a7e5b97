"""Run: the façade a strategy is handed. It asks for changes here and never touches model or optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks, each_once
from bertlab.callbacks.classes import Classes, classes_of, flat_counts, flat_names
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.step_seed import seeded
from bertlab.callbacks.training_pass import LossWrapper
from bertlab.callbacks.wishes import Curve, Wishes
from bertlab.interfaces import Block, Course

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Run:
    """A training run as a strategy sees it: read where it stands, say what you want.

    Everything asked for holds until the strategy's next stage, when `apply` is called with a fresh slate.

    Attributes:
        stage: number of the strategy's stage, from 0.
        stage_start: optimizer steps done when the stage began.
        stage_end: optimizer steps done when it ends; None where nobody can know yet (a plateau).
        horizon: total steps and steps per epoch.
        blocks: the blocks of the encoder, from the embeddings up.
        head: the block of the task's head.
    """

    def __init__(
        self,
        *,
        strategy: str,
        touches: set[str],
        stage: int,
        span: tuple[int, int | None],
        horizon: Horizon,
        blocks: Blocks,
        trainer: Trainer,
        record: Callable[[str, dict[str, Any]], None],
        starting_weights: dict[int, Tensor],
    ) -> None:
        self.stage = stage
        self.stage_start, self.stage_end = span
        self.horizon = horizon
        self.blocks = Blocks(list(blocks)[:-1])
        self.head = blocks[len(blocks) - 1]
        self.trainer = trainer
        self.wishes = Wishes()
        self._strategy = strategy
        self._touches = touches
        self._record = record
        self._starting_weights = starting_weights
        self._notes: list[tuple[str, dict[str, Any]]] | None = []

    @property
    def all_blocks(self) -> Blocks:
        """The encoder's blocks and the head."""
        return Blocks([*self.blocks, self.head])

    def train_only(self, *blocks: Block | Iterable[Block]) -> None:
        """Train these blocks and freeze all others.

        A frozen block gets no gradient, no weight decay and no update, costs no backward time, and its
        dropout is off; its optimizer state is kept for when it is trained again. A weight that several
        blocks share is trained if any of them is. A parameter that was frozen before strategies (by the task, its
        encoder, or your own code) stays frozen.

        Args:
            blocks: blocks, or sequences of blocks.

        Raises:
            ValueError: no block at all is left to train.
        """
        self._allow("trainable", "train_only")
        chosen = each_once(blocks)
        if not chosen:
            raise ValueError(f"{self._strategy}: train_only without a block would leave nothing to train")
        self.wishes.trainable = chosen

    def freeze(self, *blocks: Block | Iterable[Block]) -> None:
        """Freeze these blocks and train all others."""
        frozen = {id(block) for block in each_once(blocks)}
        self.train_only([block for block in self.all_blocks if id(block) not in frozen])

    def train_parameters(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of the blocks that are trained, train these parameters alone.

        It goes together with `train_only`, also that of another strategy: what is trained is what both name. The
        dropout of a block is on while any of its parameters is trained.

        Args:
            parameters: of any blocks.
        """
        self._allow("parameters", "train_parameters")
        self.wishes.parameters = list(parameters)

    def scale_lr(self, blocks: Block | Iterable[Block], factor: float | Callable[[int], float]) -> None:
        """Multiply the rate of blocks, on top of the schedule and of what other strategies ask.

        Args:
            blocks: one block or several.
            factor: 0 or more, or a function from a block's depth (0 for the head, 1 for the highest block of
                the encoder) to it.
        """
        self._allow("lr", "scale_lr")
        for block in each_once([blocks]):
            value = factor(block.depth) if callable(factor) else factor
            self.wishes.factors.append(([block], _checked(value, self._strategy)))

    def anneal_lr(self, curve: Curve, blocks: Block | Iterable[Block] | None = None) -> None:
        """Multiply the rate by a factor that changes with every step of this stage.

        Args:
            curve: from optimizer steps since the stage began (0 for its first step) to a factor of 0 or more.
            blocks: all, unless given.
        """
        self._allow("lr", "anneal_lr")
        chosen = each_once([self.all_blocks if blocks is None else blocks])
        self.wishes.factors.append((chosen, lambda step: _checked(curve(step), self._strategy)))

    def weight_classes(self, weights: Tensor | Callable[[int], Tensor]) -> None:
        """Weigh the classes in the training loss.

        Args:
            weights: (C,) weights of 0 or more in the order of `class_names()`, or a function from steps since the stage
                began to them.
        """
        self._allow("class_weights", "weight_classes")
        self.wishes.class_weights = weights

    def wrap_loss(self, wrapper: LossWrapper) -> None:
        """Make something of the training loss of each micro-batch.

        Args:
            wrapper: takes a `TrainingPass`, whose `loss()` it calls once or several times, and gives the loss to
                train on. Other strategies may be nested within it or around it (`Strategy.nesting`).
        """
        self._allow("loss", "wrap_loss")
        self.wishes.loss = wrapper

    def edit_gradients(self, edit: Callable[[], None]) -> None:
        """Change the gradients of each optimizer step in place, once all micro-batches and ranks are in them.

        Args:
            edit: called before clipping; finds them as `parameter.grad` (None: the parameter is not trained).
        """
        self._allow("gradients", "edit_gradients")
        self.wishes.gradients = edit

    def set_course(self, course: Course) -> None:
        """Let the training data change from step to step, from the first to the last; for strategies of one stage.

        Args:
            course: functions of the optimizer steps taken, each of which the strategy declares in `touches`.
        """
        for part in course.parts:
            self._allow(part, "set_course")
        self.wishes.course = course

    def starting_weight(self, parameter: nn.Parameter) -> Tensor | None:
        """What a parameter was when training began, before any checkpoint was loaded.

        Only for strategies with `needs_starting_weights`.

        Returns:
            None for a parameter that was made for this training, of the head.
        """
        start = self._starting_weights.get(id(parameter))
        if start is not None and (start.device, start.dtype) != (parameter.device, parameter.dtype):
            start = self._starting_weights[id(parameter)] = start.to(parameter)
        return start

    def generator(self, what: str = "", device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers for the optimizer step under way: the same on all ranks, and after a resume.

        torch's own generators differ between ranks and micro-batches (`StepSeed`); use them for noise that may.

        Args:
            what: tells streams of numbers of one step apart.
            device: of the tensors to fill.
        """
        return seeded(
            self.trainer, f"{self._strategy}/{self.trainer.global_step}{what and '/' + what}", device
        )

    @property
    def step(self) -> int:
        """Optimizer steps since the stage began: 0 in its first step."""
        return self.trainer.global_step - self.stage_start

    def classes(self) -> Mapping[str, Classes]:
        """The classes by task, of one task alone under ""; see `bertlab.callbacks.classes`.

        Raises:
            ValueError: the data has no classes.
        """
        found = classes_of(self.trainer)
        if not found:
            data = type(getattr(self.trainer, "datamodule", None)).__name__
            raise ValueError(
                f"{self._strategy} needs classes, and {data} has none (is this regression?) or does not tell: use a "
                "data module with label_names and class_counts()"
            )
        return found

    def class_counts(self) -> Tensor:
        """(C,) int64 rows of each class in the training split; of several tasks, those of each one after another.

        Raises:
            ValueError: the data has no classes.
        """
        return flat_counts(self.classes())

    def class_names(self) -> tuple[str, ...]:
        """The names of the C classes in the order of their ids; of several tasks `<task>/<label>`."""
        return flat_names(self.classes())

    def note(self, what: str, **facts: Any) -> None:
        """Put an event of your own on the timeline.

        What `apply` notes is recorded when the stage begins, and not again when a resume replays it.
        """
        if self._notes is not None:
            self._notes.append((what, facts))
        else:
            self._record(what, facts)

    def settle(self) -> list[tuple[str, dict[str, Any]]]:
        """Called when `apply` has returned: hands over what it noted; later notes are recorded at once."""
        notes, self._notes = self._notes or [], None
        return notes

    def _allow(self, resource: str, method: str) -> None:
        if resource not in self._touches:
            raise ValueError(
                f"{self._strategy} calls run.{method} but does not declare it: "
                f"add {resource!r} to {self._strategy}.touches"
            )


def _checked(factor: float, strategy: str) -> float:
    if not 0 <= factor < float("inf"):
        raise ValueError(f"{strategy} asks for a rate factor of {factor}; 0 or more is accepted")
    return factor
