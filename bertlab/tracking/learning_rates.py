"""LearningRates: the rate that each block really gets."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LearningRates(Callback):
    """Logs `lr/<block>`: the scheduler's rate times the factor of the strategies, for the step about to be taken.

    One key a block, though a block has a group with and one without weight decay: their rates are the same. A
    group that names no block is logged as `lr/group-<index>`. Has to stand after the strategies in the list of
    callbacks, which set their factors in the same hook.
    """

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log, if the step will be logged."""
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if batch_idx % trainer.accumulate_grad_batches or not trainer.loggers or not every:
            return
        if (trainer.global_step + 1) % every == 0:
            pl_module.log_dict(
                effective_rates(trainer.optimizers), on_step=True, on_epoch=False, batch_size=1
            )


def effective_rates(optimizers: list[Any]) -> dict[str, float]:
    """The rate of each block.

    Args:
        optimizers: their groups carry `lr`, `block` (a name) and, once a strategy has acted, `strategy_factor`.
    """
    rates: dict[str, float] = {}
    for optimizer in optimizers:
        for index, group in enumerate(optimizer.param_groups):
            key = f"lr/{group.get('block', f'group-{index}')}"
            rates[key] = float(group["lr"]) * float(group.get("strategy_factor", 1.0))
    return rates
