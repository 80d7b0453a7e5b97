"""TimeLimit: trainer.max_time ends a training between two optimizer steps, from where it can go on."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.tracking.checkpoints import Checkpoints

#: Under which a checkpoint keeps the seconds of training before it.
TRAINED_SECONDS = "bertlab_trained_seconds"
#: What a `trainer.max_time` is made of, the largest first.
UNITS = ("weeks", "days", "hours", "minutes", "seconds")


class TimeLimit(Timer):
    """Stops a training whose time is up, in the place of Lightning's `Timer`.

    That ends the epoch: within an optimizer step, with a validation that nobody asked for, and with counters that say
    that the epoch was completed, so that a resume trains on other batches. Here last.ckpt is saved before the next
    step, as at any other time, and training is left from there: a run that goes on ends as one that was never stopped.
    What strategies do at the end of training comes after that save, and is done again at the real end; an epoch that is
    not over has no end (`on_train_epoch_end`).

    As with `Timer`, the clock starts with training (no test, no sanity check), and a resumed run goes on from the time
    that its checkpoint knows; it stops no training before `trainer.min_epochs` and `trainer.min_steps`. The clock of
    rank 0 counts for all. It is looked at between two steps, so that each run has one at least.

    Has to stand behind `Checkpoints` and before all other callbacks: nothing of the next step may have been done.

    Args:
        max_time: `trainer.max_time`; see `duration_of`.
        checkpoints: what saves; None: nothing does.

    Attributes:
        stopped: whether it has stopped the fit.
    """

    def __init__(
        self, max_time: str | timedelta | dict[str, int], checkpoints: Checkpoints | None = None
    ) -> None:
        super().__init__(duration_of(max_time), interval="epoch", verbose=False)
        self.stopped = False
        self._max_time, self._checkpoints = max_time, checkpoints

    def on_fit_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Nothing yet: a resumed run does not know its steps before it trains."""
        self.stopped = False

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save and leave the epoch, if time is up.

        Raises:
            StopIteration: Lightning's loop over batches ends by it.
        """
        if batch_idx % trainer.accumulate_grad_batches or trainer.global_step == 0 or not _may_stop(trainer):
            return
        left = self.time_remaining()
        assert left is not None
        if not trainer.strategy.broadcast(left <= 0):
            return
        if self._checkpoints is not None:
            self._checkpoints.save(trainer)
        self.stopped = True
        raise StopIteration

    def on_train_epoch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Leave the training, before anybody takes the epoch for a whole one.

        Raises:
            StopIteration: Lightning's loop over epochs ends by it.
        """
        if self.stopped:
            raise StopIteration

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that training is not over, and how it goes on."""
        if not self.stopped:
            return
        spent = timedelta(seconds=int(self.time_elapsed()))
        go_on = (
            "no checkpoint was kept (trainer.enable_checkpointing)"
            if self._checkpoints is None
            else "bertlab fit … --ckpt_path last, with a longer trainer.max_time or none, goes on from there"
        )
        rank_zero_warn(
            f"trainer.max_time {self._max_time}: training was stopped after {trainer.global_step} optimizer steps and "
            f"{spent}, which counts all runs that it was resumed in; {go_on}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what Lightning keeps of a callback it misses in a run without that callback."""
        return {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the time."""
        checkpoint[TRAINED_SECONDS] = self.time_elapsed()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from the time that a checkpoint knows; one of a run without a limit knows none."""
        if trainer.state.fn == "fit":
            self.load_state_dict({"time_elapsed": {"train": checkpoint.get(TRAINED_SECONDS, 0.0)}})


def duration_of(max_time: str | timedelta | dict[str, int]) -> timedelta:
    """How long training may last.

    Args:
        max_time: `trainer.max_time`: `days:hours:minutes:seconds`, all but the first of two digits; or a number for
            each of some `UNITS`.

    Raises:
        ValueError: it is neither, or no time at all; the message names the key and what is accepted.

    Examples:
        >>> duration_of("01:00:30:00") == duration_of({"days": 1, "minutes": 30}) == timedelta(minutes=1470)
        True
    """
    found = max_time if isinstance(max_time, timedelta) else _read(max_time)
    if found is None or found <= timedelta(0):
        raise ValueError(
            f"'trainer.max_time' is {max_time!r}: accepted are DAYS:HH:MM:SS, such as 00:12:00:00 for twelve hours, "
            f"and numbers of {', '.join(UNITS)}, such as {{hours: 12}}, that come to more than nothing"
        )
    return found


def _read(max_time: str | dict[str, int]) -> timedelta | None:
    """None: it is no duration, or one that Python has no number for."""
    if isinstance(max_time, str):
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", max_time.strip())
        max_time = {} if match is None else dict(zip(UNITS[1:], map(int, match.groups()), strict=True))
    try:
        return timedelta(**max_time) if max_time.keys() <= set(UNITS) else None
    except OverflowError:
        return None


def stopped_by_time(trainer: Trainer) -> bool:
    """Whether the last fit of a trainer was stopped by `trainer.max_time`."""
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    return any(isinstance(callback, TimeLimit) and callback.stopped for callback in callbacks)


def _may_stop(trainer: Trainer) -> bool:
    """Whether training has been as long as it has to be at least."""
    epochs, steps = trainer.min_epochs or 0, trainer.min_steps or 0
    return trainer.current_epoch >= epochs and trainer.global_step >= steps
