"""The metrics of several tasks as those of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class TaskMetrics(NamedTuple):
    """What an evaluation found of one task.

    Attributes:
        found: metrics of the task alone, by their names without the split; `loss` is among them.
        watched: which of them the task alone would be watched by.
        mode: whether less or more of it is better.
    """

    found: Mapping[str, Tensor]
    watched: str
    mode: Literal["min", "max"]


def joined_metrics(tasks: Mapping[str, TaskMetrics], split: str) -> dict[str, Tensor]:
    """All of them under the names of their tasks, the mean of the losses, and that of the watched metrics.

    Args:
        tasks: one or more by their names.
        split: "val" or "test".

    Examples:
        >>> a = TaskMetrics({"loss": torch.tensor(1.0), "macro_f1": torch.tensor(0.75)}, "macro_f1", "max")
        >>> b = TaskMetrics({"loss": torch.tensor(0.5)}, "loss", "min")
        >>> joined = joined_metrics({"topic": a, "stars": b}, "val")
        >>> {name: value.item() for name, value in joined.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'val/topic/loss': 1.0, 'val/topic/macro_f1': 0.75, 'val/stars/loss': 0.5,
         'val/loss': 0.75, 'val/mean_score': 0.125}
    """
    metrics = {
        f"{split}/{name}/{key}": value for name, task in tasks.items() for key, value in task.found.items()
    }
    scores = [task.found[task.watched] * (1 if task.mode == "max" else -1) for task in tasks.values()]
    metrics[f"{split}/loss"] = torch.stack([task.found["loss"] for task in tasks.values()]).mean()
    metrics[f"{split}/mean_score"] = torch.stack(scores).mean()
    return metrics
