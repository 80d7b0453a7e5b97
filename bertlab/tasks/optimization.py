"""From blocks to the optimizer and scheduler that Lightning takes."""

from __future__ import annotations

import math

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import LambdaLR

from bertlab.interfaces import HasBlocks
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from bertlab.schedules.schedule import Schedule


def optimization(
    task: LightningModule,
    optimizer: OptimizerCallable,
    schedule: Schedule | LRSchedulerCallable,
    weight_decay: float | None,
    layer_decay: float,
) -> OptimizerLRScheduler:
    """What `configure_optimizers` returns.

    Args:
        task: with blocks, which must hold all its parameters.
        optimizer: takes the parameter groups.
        schedule: of the rate over the whole training, or a maker of any torch scheduler.
        weight_decay: of matrices; biases and normalisations have none. None: the optimizer's own.
        layer_decay: factor of the rate from one block to the one below.
    """
    assert isinstance(task, HasBlocks)
    groups = parameter_groups(task.blocks(), weight_decay, layer_decay, task)
    built = build_optimizer(optimizer, groups)
    if isinstance(schedule, Schedule):
        steps = total_steps(task.trainer)
        # Lightning counts on after the last step, hence the limit.
        scheduler = LambdaLR(built, lambda step: schedule(min(step / steps, 1.0)))
        return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
    scheduler = schedule(built)
    if isinstance(scheduler, ReduceLROnPlateau):
        of_training = scheduler.monitor.startswith("train/")
        epochs = 1 if of_training else task.trainer.check_val_every_n_epoch or 1
        return {
            "optimizer": built,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": "epoch",
                "frequency": epochs,  # after the epochs that end with a validation, whose metric is new
                "monitor": scheduler.monitor,
            },
        }
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def total_steps(trainer: Trainer) -> int:
    """Optimizer steps of the whole training.

    Raises:
        ValueError: training has no end, so that there is no progress for a schedule to follow.
    """
    steps = trainer.estimated_stepping_batches
    if not math.isfinite(steps) or steps < 1:
        raise ValueError(
            "model.init_args.schedule follows the progress of training, so training needs an end: set "
            f"trainer.max_epochs or trainer.max_steps (they are {trainer.max_epochs} and {trainer.max_steps})"
        )
    return int(steps)
