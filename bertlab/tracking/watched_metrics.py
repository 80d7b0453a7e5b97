"""WatchedMetrics: whoever waits for a metric that no validation logs is told so before training."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from bertlab.interfaces import HasTasks, NamesMetrics, NamesUnvalidatedTasks, WatchesMetrics
from bertlab.tracking.checkpoints import Checkpoints

#: Where classes come from that log nothing in a validation but what the task names.
OURS = {"bertlab", "lightning", "torch", "abc", "typing", "builtins"}
#: How the names begin of what training logs, which can be watched too, and is not known before.
OF_TRAINING = ("train/", "lr", "strategy/", "privacy/")
#: How the names begin of the methods of callbacks and strategies that could log a metric.
HOOKS = ("on_", "before_", "after_")


class WatchedMetrics(Callback):
    """Refuses to train where checkpoints, strategies or schedules wait for a metric that will not come.

    Each of them would notice with the first validation, an epoch too late. What a validation logs is known before if
    the task names it (`bertlab.interfaces.NamesMetrics`; of several tasks it names those that have data to validate
    on) and nobody else logs anything. So nothing is refused beside a callback that is neither bertlab's nor Lightning's
    and is called in training, and nothing of a task of one's own that does not name its metrics; there the error comes
    with the first validation. Has to stand behind the strategies, which make their triggers in the same hook.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare what is watched with what will be logged.

        Raises:
            ValueError: a metric will never be there; the message names who waits for it, and the metrics there are.
        """
        if not trainer.enable_validation or not isinstance(pl_module, NamesMetrics):
            return
        if not _names_all(pl_module) or any(map(_may_log, _callbacks(trainer))):
            return
        logged = sorted(pl_module.validation_metrics())
        unvalidated = pl_module.unvalidated_tasks() if isinstance(pl_module, NamesUnvalidatedTasks) else ()
        for waits_for, metric in _watched(trainer):
            if metric in logged or metric.startswith(OF_TRAINING):
                continue
            for task in unvalidated:
                if metric.startswith(f"val/{task}/"):
                    raise ValueError(
                        f"{waits_for} {metric!r}, and the task {task!r} has no validation split "
                        f"(data.init_args.tasks.{task}): validation logs {', '.join(logged)}"
                    )
            near = difflib.get_close_matches(metric, logged, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"{waits_for} {metric!r}, which validation does not log{hint}: it logs {', '.join(logged)}"
            )


def _watched(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Who waits, as the beginning of a sentence, and for which metric."""
    for callback in _callbacks(trainer):
        name = type(callback).__name__
        if isinstance(callback, Checkpoints):
            assert callback.monitor is not None  # since `setup`
            yield "checkpoints.monitor is", callback.monitor
        elif isinstance(callback, WatchesMetrics):
            for metric in callback.watched_metrics():
                yield f"trainer.callbacks: {name} waits for", metric
        elif (
            isinstance(callback, EarlyStopping | ModelCheckpoint)
            and callback.monitor is not None
            and getattr(callback, "strict", True)
        ):
            yield f"trainer.callbacks: {name}.monitor is", callback.monitor
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.strict and config.monitor is not None:
            yield f"model.init_args.schedule: {type(config.scheduler).__name__}.monitor is", config.monitor


def _callbacks(trainer: Trainer) -> list[Any]:
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
