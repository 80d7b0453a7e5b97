"""Asking: what a strategy may ask for in a stage, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks, each_once
from bertlab.callbacks.training_pass import LossWrapper
from bertlab.callbacks.wishes import Curve, Wishes
from bertlab.interfaces import Block, Course


class Asking:
    """Takes what a strategy wants for a stage, until it has said it all.

    Args:
        strategy: its name, for messages.
        touches: what it declares to change.
        blocks: of the whole task, the head last.

    Attributes:
        wishes: what it wants.
        head: the block of the task's head.
        blocks: the blocks of the encoder, from the embeddings up.
    """

    def __init__(self, strategy: str, touches: set[str], blocks: Blocks) -> None:
        self.blocks = Blocks(list(blocks)[:-1])
        self.head = blocks[len(blocks) - 1]
        self.wishes = Wishes()
        self._strategy, self._touches = strategy, touches
        self._has_asked = False

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
        self._allow("trainable", "freeze")
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

    def _allow(self, resource: str, method: str) -> None:
        """Refuse what the strategy does not declare, and what it asks for when it has said what holds.

        A resumed run calls `apply` alone, so that it would not have what was asked for elsewhere; nor would an event.
        """
        if self._has_asked:
            raise ValueError(
                f"{self._strategy} calls run.{method} when its apply(run) has returned: what is asked for then is on "
                "no timeline, and a resumed run has it not. Call it in apply, as a function of run.stage alone; what "
                "changes from step to step is a curve (run.anneal_lr, run.weight_classes), or a stage (`when`)"
            )
        if resource not in self._touches:
            raise ValueError(
                f"{self._strategy} calls run.{method} but does not declare it: "
                f"add {resource!r} to {self._strategy}.touches"
            )


def _checked(factor: float, strategy: str) -> float:
    if not 0 <= factor < float("inf"):
        raise ValueError(f"{strategy} asks for a rate factor of {factor}; 0 or more is accepted")
    return factor
