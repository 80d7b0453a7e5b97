"""The classes that strategies weigh: those of the task, or of several tasks one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.interfaces import HasClassCounts, HasTasks


@dataclass(frozen=True)
class Classes:
    """The classes of one task.

    Attributes:
        names: in the order of their ids.
        counts: (C,) int64 rows of each in the training split.
    """

    names: tuple[str, ...]
    counts: Tensor


def classes_of(trainer: Trainer) -> dict[str, Classes]:
    """The classes by task, as the data module knows them; of a task that is alone under "".

    A task without classes (a regression) is left out. Several tasks are in the order of the model's, in which it takes
    class weights.
    """
    data: Any = getattr(trainer, "datamodule", None)
    parts = {"": data}
    if isinstance(data, HasTasks):
        parts = {name: data.tasks[name] for name in _order(trainer, data.tasks)}
    return {
        name: Classes(tuple(part.label_names), part.class_counts())
        for name, part in parts.items()
        if isinstance(part, HasClassCounts) and part.label_names is not None
    }


def flat_names(classes: Mapping[str, Classes]) -> tuple[str, ...]:
    """The labels of all tasks, in order; of several `<task>/<label>`."""
    return tuple(f"{task}/{name}" if task else name for task, held in classes.items() for name in held.names)


def flat_counts(classes: Mapping[str, Classes]) -> Tensor:
    """(C,) int64 rows of each label of `flat_names`."""
    return torch.cat([held.counts for held in classes.values()])


def _order(trainer: Trainer, of_data: Mapping[str, Any]) -> list[str]:
    module: Any = trainer.lightning_module
    return [name for name in (module.tasks if isinstance(module, HasTasks) else of_data) if name in of_data]
