"""Who waits for a metric: checkpoints, strategies, Lightning's callbacks, schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from bertlab.interfaces import HasTasks, NamesMetrics, WatchesMetrics
from bertlab.tracking.checkpoints import Checkpoints

#: Where classes come from that log nothing in a validation but what the task names.
OURS = {"bertlab", "lightning", "torch", "abc", "typing", "builtins"}
#: How the names begin of what training logs, which can be watched too, and is not known before.
OF_TRAINING = ("train/", "lr", "strategy/", "privacy/")
#: How the names begin of the methods of callbacks and strategies that could log a metric.
HOOKS = ("on_", "before_", "after_")


class Watcher(NamedTuple):
    """Somebody that waits for a metric.

    Attributes:
        says: who waits, as the beginning of a sentence that the metric goes on.
        metric: its key.
        by_choice: whether the configuration names the metric, rather than the task for all that are trained on it.
        in_validations: whether it looks at metrics when a validation has ended, and at no other time.
        without: what to do if it is not to wait, from a verb on.
    """

    says: str
    metric: str
    by_choice: bool
    in_validations: bool
    without: str


def watchers_of(trainer: Trainer) -> Iterator[Watcher]:
    """Who waits for which metric; strategies know when they have had their `on_fit_start`.

    Args:
        trainer: in a fit.
    """
    leave_out = "take it out of trainer.callbacks"
    for callback in callbacks_of(trainer):
        name = type(callback).__name__
        if isinstance(callback, Checkpoints):
            assert callback.monitor is not None  # since `setup`
            instead = "set checkpoints.monitor to null: last.ckpt is kept all the same"
            yield Watcher("checkpoints.monitor is", callback.monitor, callback.is_told_monitor, True, instead)
        elif isinstance(callback, WatchesMetrics):
            for metric in callback.watched_metrics():
                instead = f"let it go by time, or {leave_out}"
                yield Watcher(f"trainer.callbacks: {name} waits for", metric, True, True, instead)
        elif (
            isinstance(callback, EarlyStopping | ModelCheckpoint)
            and callback.monitor is not None
            and getattr(callback, "strict", True)
        ):
            yield Watcher(f"trainer.callbacks: {name}.monitor is", callback.monitor, True, False, leave_out)
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.strict and config.monitor is not None:
            says = f"model.init_args.schedule: {type(config.scheduler).__name__}.monitor is"
            yield Watcher(says, config.monitor, True, False, "take a schedule that waits for nothing")


def logs_what_it_names(trainer: Trainer, module: LightningModule) -> bool:
    """Whether a task names all that a validation logs, and nobody beside it can log anything.

    Args:
        trainer: whose callbacks may log.
        module: the task.
    """
    if not isinstance(module, NamesMetrics) or not _names_all(module):
        return False
    return not any(map(_may_log, callbacks_of(trainer)))


def callbacks_of(trainer: Trainer) -> list[Any]:
    """All of them."""
    return trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]


def _names_all(task: Any) -> bool:
    """Whether a task, and each of several in it, names all that it logs.

    A class that somebody has derived from one of ours may log more than ours names, unless it names it itself.
    """
    for kind in type(task).__mro__:
        if "validation_metrics" in vars(kind):
            return all(map(_names_all, task.tasks.values())) if isinstance(task, HasTasks) else True
        if _is_foreign(kind):
            return False
    return False


def _may_log(callback: Callback) -> bool:
    """Whether a callback has code in it that nobody here knows, at a place where it could log a metric."""
    foreign = filter(_is_foreign, type(callback).__mro__)
    return any(name.startswith(HOOKS) for kind in foreign for name in vars(kind))


def _is_foreign(kind: type) -> bool:
    return kind.__module__.partition(".")[0] not in OURS
