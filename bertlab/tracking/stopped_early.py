"""A training that EarlyStopping has stopped stays stopped when it is resumed."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_warn


def stay_stopped(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Stop a trainer again that was stopped when the checkpoint was saved.

    Lightning keeps why EarlyStopping has stopped a training, and not that it is stopped: killed after its end, in the
    test of the best checkpoint, the run would train on. Training does go on where the callback has been taken out, or
    watches another metric; a limit of time looks after itself (`bertlab.tracking.time_limit`).

    Args:
        trainer: in a fit that goes on from the checkpoint.
        checkpoint: of a whole training state.
    """
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    for callback in callbacks:
        if not isinstance(callback, EarlyStopping):
            continue
        state = checkpoint["callbacks"].get(callback.state_key, {})
        if (
            state.get("stopping_reason", EarlyStoppingReason.NOT_STOPPED.value)
            == EarlyStoppingReason.NOT_STOPPED.value
        ):
            continue
        trainer.should_stop = True
        rank_zero_warn(
            f"training was stopped early by step {checkpoint['global_step']} (trainer.callbacks: "
            f"{type(callback).__name__}, monitor {callback.monitor!r}) and stays stopped; to train on, take that out"
        )
