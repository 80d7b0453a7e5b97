"""The Fisher information of parameters, from the training data of a run that has not begun yet."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from bertlab.callbacks.random_state import RandomState
from bertlab.losses.with_gradients import gradients_of


def fisher_information(
    trainer: Trainer, parameters: Sequence[nn.Parameter], steps: int | None = None
) -> tuple[list[Tensor], int]:
    """The mean square of the gradient of each number over optimizer steps of the training data.

    Of the task's own loss, without dropout, at the weights as they are; nothing of the run is changed. The gradient is
    that of a whole optimizer step, so it is the same for any number of micro-batches and ranks.

    Args:
        trainer: about to train, with a data module.
        parameters: of its task, frozen or not.
        steps: optimizer steps to look at; None: one epoch.

    Returns:
        One tensor for each parameter, of its shape, the same on all ranks; and the number of steps.

    Raises:
        ValueError: there is no data module.
    """
    totals = zeros_beside(parameters)
    count = sum(add_squares(totals, trainer, parameters, steps))
    return [total / count for total in totals], count


def add_squares(
    totals: Sequence[Tensor], trainer: Trainer, parameters: Sequence[nn.Parameter], steps: int | None
) -> Generator[int]:
    """Add the square of the gradient of each number, step by step, each of which gives 1; see `fisher_information`."""
    with _still(trainer.lightning_module, parameters):
        for micro_batches in islice(_steps(trainer), steps):
            for total, gradient in zip(totals, _gradient(trainer, parameters, micro_batches), strict=True):
                total.addcmul_(gradient, gradient)
            yield 1


def zeros_beside(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Of the shape of each parameter, in float32 or wider, for sums over many steps: in bfloat16 256 + 1 is 256."""
    return [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]


def _gradient(
    trainer: Trainer, parameters: Sequence[nn.Parameter], micro_batches: Sequence[Any]
) -> list[Tensor]:
    """Of one optimizer step: the mean over its micro-batches and ranks, as training takes it."""
    module: Any = trainer.lightning_module
    sums = zeros_beside(parameters)
    for batch in micro_batches:
        on_device = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        with trainer.precision_plugin.train_step_context():
            # The class's: strategies may have put a loss of their own in its place on the instance.
            loss = type(module).training_loss(module, on_device)
        for total, gradient in zip(sums, gradients_of(loss, parameters), strict=True):
            if gradient is not None:
                total.add_(gradient, alpha=1 / trainer.accumulate_grad_batches)
    return [trainer.strategy.reduce(total, reduce_op="mean") for total in sums]


def _steps(trainer: Trainer) -> Iterator[list[Any]]:
    """The micro-batches of one epoch on this rank, by optimizer steps, of a loader beside that of training."""
    data: Any = getattr(trainer, "datamodule", None)
    if data is None:
        raise ValueError(
            "the Fisher information is that of the training data of a data module, and there is none"
        )
    batches = islice(data.train_dataloader(), int(trainer.num_training_batches))
    while step := list(islice(batches, trainer.accumulate_grad_batches)):
        yield step


@contextmanager
def _still(module: LightningModule, parameters: Sequence[nn.Parameter]) -> Generator[None]:
    """Evaluation mode, and gradients for the parameters, as long as the context lasts; no random number is used up."""
    modes = [(inner, inner.training) for inner in module.modules()]
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    state = RandomState(module.device)
    module.eval()
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for inner, mode in modes:
            inner.training = mode
        for parameter in frozen:
            parameter.requires_grad_(False)
        state.restore()
