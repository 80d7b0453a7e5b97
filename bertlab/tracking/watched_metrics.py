"""WatchedMetrics: whoever waits for a metric that no validation logs is told so before training."""

from __future__ import annotations

import difflib

from lightning.pytorch import Callback, LightningModule, Trainer

from bertlab.interfaces import NamesMetrics, NamesUnvalidatedTasks
from bertlab.tracking.watchers import OF_TRAINING, logs_what_it_names, watchers_of


class WatchedMetrics(Callback):
    """Refuses to train where checkpoints, strategies or schedules wait for a metric that will not come.

    Each of them would notice with the first validation, an epoch too late. What a validation logs is known before if
    the task names it (`bertlab.interfaces.NamesMetrics`; of several tasks it names those that have data to validate
    on) and nobody else logs anything. So nothing is refused beside a callback that is neither bertlab's nor Lightning's
    and is called in training, and nothing of a task of one's own that does not name its metrics; there the error comes
    with the first validation. Has to stand behind the strategies, which make their triggers in the same hook.

    That there is no validation at all, `AwaitedValidations` looks at.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare what is watched with what will be logged.

        Raises:
            ValueError: a metric will never be there; the message names who waits for it, and the metrics there are.
        """
        if not trainer.enable_validation or not logs_what_it_names(trainer, pl_module):
            return
        assert isinstance(pl_module, NamesMetrics)
        logged = sorted(pl_module.validation_metrics())
        unvalidated = pl_module.unvalidated_tasks() if isinstance(pl_module, NamesUnvalidatedTasks) else ()
        for watcher in watchers_of(trainer):
            waits_for, metric = watcher.says, watcher.metric
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
