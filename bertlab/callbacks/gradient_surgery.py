"""GradientSurgery: where the gradients of two tasks conflict, each loses what works against the other (PCGrad)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from lightning.pytorch import Trainer
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.losses.gradient_surgery import random_orders, surgery_weights
from bertlab.losses.task_gradients import TaskGradients
from bertlab.losses.with_gradients import gradients_of, with_gradients


class GradientSurgery(Strategy):
    """Projects conflicting gradients of tasks (PCGrad).

    Yu et al. 2020, arXiv:2001.06782, algorithm 1: in each optimizer step the gradient that a task has for the shared
    encoder loses its part along that of any other task with which its product is negative, the others taken in random
    order (the same on all ranks). Heads have a gradient of one task only and are left alone, as is what is frozen. It
    needs steps of several tasks: data.init_args.tasks_per_step of 2 or more; a step of two tasks of three projects
    those two. Deviation: the mean of the projected gradients is trained on, not their sum, as the loss is the mean of
    the tasks' losses.

    The gradients of a task are summed over all micro-batches and averaged over all ranks before they are projected,
    so neither changes what a step does. Where other strategies change the loss, it is the gradient of their loss, task
    by task, that is projected; those that change gradients see the projected ones.

    Costs for k tasks in a step: no further pass, and activations of one task at a time instead of k; memory for k
    copies of the encoder's trained weights, and two more while a step is taken; k² products of gradients; with several
    ranks k exchanges of gradients beside DDP's own.

    Raises:
        ValueError: the data has one task in a step.
    """

    touches: ClassVar[set[str]] = {"loss", "passes", "gradients"}
    nesting: ClassVar[int] = 50
    needs_tasks: ClassVar[bool] = True

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Refuse data whose steps are of one task each."""
        data: Any = getattr(trainer, "datamodule", None)
        if getattr(data, "tasks_per_step", None) == 1:
            raise ValueError(
                "GradientSurgery works on the gradients of several tasks in one step, and data.init_args.tasks_per_"
                "step is 1: set it to 2 or more, or leave GradientSurgery out of trainer.callbacks"
            )

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The encoder, which the tasks share."""
        return [parameter for block in blocks if block.depth > 0 for parameter in block.parameters()]

    def apply(self, run: Run) -> None:
        """Take the gradients of each task apart, and put them together at the end of the step."""
        shared = {id(parameter) for block in run.blocks for parameter in block.parameters()}
        share = 1 / run.trainer.accumulate_grad_batches
        taken = TaskGradients()

        def loss(training: TrainingPass) -> Tensor:
            value, parameters = training.loss(), training.parameters
            gradients = gradients_of(value, parameters)
            ours = [(p, g) for p, g in zip(parameters, gradients, strict=True) if id(p) in shared]
            if ours:
                taken.add(training.batch.task, [p for p, _ in ours], [g for _, g in ours], share)
            return with_gradients(value, parameters, gradients)

        run.wrap_loss(loss)
        run.edit_gradients(lambda: project(taken, run))


def project(taken: TaskGradients, run: Run) -> None:
    """Give the encoder the projected gradients of the step that is about to be taken.

    Args:
        taken: those of each task on this rank.
        run: the training run.
    """
    count = len(taken.tasks)
    if count < 2:
        taken.clear()
        return
    if run.trainer.world_size > 1:
        taken.exchange(lambda gradient: _mean_over_ranks(run.trainer, gradient))
    weights = surgery_weights(taken.products(), random_orders(count, run.generator()))
    taken.write(weights / count)


def _mean_over_ranks(trainer: Trainer, gradient: Tensor) -> Tensor:
    mean = trainer.strategy.reduce(gradient, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean
