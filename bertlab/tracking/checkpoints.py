"""Checkpoints: best.ckpt and last.ckpt, from which a run goes on as if nothing had happened."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from bertlab.interfaces import TRAINED_WEIGHTS
from bertlab.tracking.cut_epoch import begin_next_epoch, leave_epoch_open
from bertlab.tracking.stopped_early import stay_stopped
from bertlab.tracking.validation_times import check_validation_times


@runtime_checkable
class _Rewinds(Protocol):
    """A logger whose file has to follow when training goes back to a checkpoint."""

    def rewind(self, step: int) -> None: ...


class Checkpoints(Checkpoint):
    """Keeps the state of the run in checkpoints/last.ckpt, and that of its best validation in best.ckpt.

    Both are written between two optimizer steps only, when everything that belongs to the step before has been
    done (validation, schedulers, logging, strategies' view of the metrics) and nothing of the next one. From
    there Lightning resumes exactly. A checkpoint saved at the end of a batch or of a validation, as
    ModelCheckpoint does it, loses what comes after: the row of metrics of the step, a validation that was due, a
    step of ReduceLROnPlateau, or the end of the epoch. So best.ckpt is written a moment after the validation
    that was best, with the same weights: a validation inside an optimizer step is refused. A kill between the two
    files is made good when training goes on from last.ckpt, which knows that it is the best.

    The end of training is saved by `FinalCheckpoint`.

    Args:
        monitor: validation metric that says which is best; if not given, what the task names (its `monitor`),
            or `val/loss`.
        mode: whether more ("max") or less ("min") of it is better; if not given, what the task says.
        every_steps: save last.ckpt each time that so many optimizer steps have been done in an epoch; it is
            also saved before the first step of an epoch. Steps, 1 or more. Where the model is sharded (FSDP2), the
            first step of all has been done when it is saved first.

    Raises:
        ValueError: `every_steps` is below 1.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        every_steps: int = 500,
    ) -> None:
        if every_steps < 1:
            raise ValueError(f"checkpoints.every_steps takes 1 or more, got {every_steps}")
        self.monitor, self.mode, self.every_steps = monitor, mode, every_steps
        self.is_told_monitor = monitor is not None  # else it is the one that any run of the task has
        self.best_score: float | None = None
        self.best_step: int | None = None
        self._folder: Path | None = None
        self._best_is_due = False
        self._validated: dict[str, Any] | None = None

    @property
    def best_model_path(self) -> str:
        """best.ckpt, or "" while there is none (the attribute that Lightning asks a checkpoint callback for)."""
        path = self._path("best")
        return str(path) if path is not None and path.exists() else ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learn where to write and what to watch."""
        self._folder = Path(trainer.default_root_dir) / "checkpoints"
        if stage == "fit" and trainer.is_global_zero:
            for part in self._folder.glob(".*.part"):  # of a save that a kill has cut off
                part.unlink()
        monitor, mode = _watched_by(pl_module)
        self.monitor = self.monitor or monitor
        if self.monitor == monitor:
            self.mode = self.mode or mode

    def state_dict(self) -> dict[str, Any]:
        """The best score so far and the step it was reached at."""
        return {"best_score": self.best_score, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let an epoch that training has ended in go on when training does, whoever saves."""
        leave_epoch_open(trainer, checkpoint)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the run's files to where they were when the checkpoint was saved, if training goes on from it.

        Loggers drop what came later; best.ckpt is made, if a kill came between last.ckpt and it. Training goes on from
        the trained weights, also where the strategy that averaged them has been taken out, and stays stopped where it
        was stopped early.
        """
        if trainer.state.fn != "fit":
            return
        if TRAINED_WEIGHTS in checkpoint:
            pl_module.load_state_dict(checkpoint[TRAINED_WEIGHTS], strict=pl_module.strict_loading)
        # A checkpoint of weights alone has none, which Lightning refuses by name.
        loops = checkpoint.get("loops")
        self._validated = loops and loops["fit_loop"]["epoch_loop.val_loop.batch_progress"]
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, _Rewinds):
                    logger.rewind(checkpoint["global_step"])
            self._link_if_best(trainer, checkpoint)
        stay_stopped(trainer, checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a metric of which nobody says what is better, and validations inside optimizer steps.

        Now is known how many batches there are; a metric that will not come was refused before (`WatchedMetrics`).
        """
        if self.mode is None:
            raise ValueError(
                f"checkpoints.monitor {self.monitor!r} needs checkpoints.mode: min or max; "
                f"{_watched_by(pl_module)[0]!r}, which the task is watched by, needs none"
            )
        check_validation_times(trainer)
        begin_next_epoch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the checkpoint as best to come, if the validation was the best so far."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        score = self._score(trainer)
        if self._is_better(score):
            self.best_score, self.best_step = score, trainer.global_step
            self._best_is_due = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time to, before anything of the next optimizer step happens."""
        settle_counters(trainer)
        if self._validated is not None:
            # A resume counts the validation before it once more, unless an epoch begins, which counts from nothing.
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            progress.load_state_dict(self._validated)
            if batch_idx == 0:
                progress.total.reset()
            self._validated = None
        if batch_idx % trainer.accumulate_grad_batches:
            return
        steps = batch_idx // trainer.accumulate_grad_batches
        is_time = steps % self.every_steps == 0 and not _would_step(trainer)
        if is_time or self._best_is_due:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write last.ckpt, and best.ckpt if it is due: the same state, so the same file.

        Args:
            trainer: between two optimizer steps, or at the end of training.
        """
        last, best = self._path("last"), self._path("best")
        if trainer.fast_dev_run or last is None or best is None:  # pyright: ignore[reportAttributeAccessIssue]
            return
        trainer.save_checkpoint(last, weights_only=False)
        if self._best_is_due:
            if trainer.is_global_zero:
                _link(last, best)
            self._best_is_due = False
        trainer.strategy.barrier("checkpoints")

    def _score(self, trainer: Trainer) -> float:
        """The monitored metric: that of rank 0 on all ranks, which must decide alike."""
        assert self.monitor is not None
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise ValueError(
                f"checkpoints.monitor is {self.monitor!r}, which the validation did not log; it logged "
                f"{', '.join(sorted(key for key in metrics if key.startswith('val/'))) or 'nothing'}"
            )
        value: Tensor = metrics[self.monitor]
        return trainer.strategy.broadcast(float(value))

    def _is_better(self, score: float) -> bool:
        if math.isnan(score):
            return False
        if self.best_score is None:
            return True
        return score > self.best_score if self.mode == "max" else score < self.best_score

    def _link_if_best(self, trainer: Trainer, checkpoint: dict[str, Any]) -> None:
        """Make best.ckpt, if this run's last.ckpt says that it is the best: a kill may have come before it was.

        Nothing that comes later would: no score is better than the one that last.ckpt remembers.
        """
        last, best = self._path("last"), self._path("best")
        if last is None or best is None or Path(str(trainer.ckpt_path)).resolve() != last.resolve():
            return
        if checkpoint["callbacks"].get(self.state_key, {}).get("best_step") == checkpoint["global_step"]:
            _link(last, best)

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{name}.ckpt"


def _watched_by(module: LightningModule) -> tuple[str, Literal["min", "max"]]:
    """The metric that a task is watched by, and which of it is better."""
    return getattr(module, "monitor", ("val/loss", "min"))


def settle_counters(trainer: Trainer) -> None:
    """Set right what a resume between two steps leaves wrong in Lightning's loops; else everything is right already.

    - `_batches_that_stepped`, the step that metrics are logged with, counts up once at a restart, since Lightning
      takes a checkpoint to be saved before it was counted up.
    - The total of batches made ready, by which `check_val_every_n_epoch=None` validates, keeps the batch that was
      ready when the checkpoint was saved.
    - The fit loop believes that it restarts until its epoch ends, and then skips the step of a scheduler that
      waits for a metric.
    """
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    epoch._batches_that_stepped = trainer.global_step  # pyright: ignore[reportPrivateUsage]
    epoch.batch_progress.total.ready = epoch.batch_progress.total.processed + 1  # pyright: ignore
    fit._restarting = False  # pyright: ignore[reportPrivateUsage]


def _would_step(trainer: Trainer) -> bool:
    """Whether saving would change the training: it is sharded, and no optimizer step has been done.

    Of an optimizer without state torch (`get_optimizer_state_dict`) has it make a step of no gradient at a rate of 0
    first. Weights stay, but Adam counts that step, so that its corrections of bias are those of one step later.
    """
    return trainer.global_step == 0 and isinstance(trainer.strategy, ModelParallelStrategy)


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, at once; a copy where the file system has no links.

    Checkpoints are replaced, never written into, so the two names do not stay tied to each other.
    """
    if target.exists() and target.samefile(source):  # between two names of one file a rename does nothing
        return
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
