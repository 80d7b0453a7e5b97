"""FiniteLoss: stops training when the loss is no number any more."""

from __future__ import annotations

import math

from torch import Tensor


class NonFiniteLossError(ValueError):
    """The training loss is NaN or infinite."""


class FiniteLoss:
    """Checks each training loss without making a GPU wait.

    On the CPU a loss is checked before its backward pass. On other devices reading it would wait for the
    device, so a loss is read when the next one comes, by which time it has long been computed.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, int] | None = None

    def check(self, loss: Tensor, step: int) -> None:
        """Check this loss (on the CPU) or the one before (elsewhere).

        Args:
            loss: a scalar.
            step: optimizer steps taken before it.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        self.flush()
        self._pending = (loss.detach(), step)
        if loss.device.type == "cpu":
            self.flush()

    def flush(self) -> None:
        """Check the loss that still waits, if any."""
        if self._pending is None:
            return
        loss, step = self._pending
        self._pending = None
        value = float(loss)
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"the training loss is {value} at optimizer step {step}: lower the learning rate "
                "(model.init_args.optimizer), clip gradients (trainer.gradient_clip_val), or look for bad "
                "inputs; with trainer.precision 16-mixed, try bf16-mixed"
            )
