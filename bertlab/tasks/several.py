"""What is checked of several tasks in one: their names, their optimization, and whose error it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import nn

from bertlab.encoders.encoder import Encoder
from bertlab.interfaces import HasTasks, KnowsValidation
from bertlab.tasks.labelled_task import LabelledTask
from bertlab.tasks.text_task import TextTask

KEY = "model.init_args.tasks"


@contextmanager
def of_task(name: str) -> Generator[None]:
    """Say in a ValueError from within which task it is of."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"task {name!r} of {KEY} and data.init_args.tasks: {error}") from error


def check_names(names: Collection[str]) -> None:
    """Refuse names of tasks that cannot be part of the name of a metric and of a module.

    Raises:
        ValueError: there are fewer than two, or one of them is not fit.
    """
    if len(names) < 2:
        raise ValueError(
            f"{KEY} takes two tasks or more, got {list(names)}: for one, take the task itself as the model"
        )
    for name in names:
        if not re.fullmatch(r"\w[\w-]*", name) or hasattr(nn.ModuleDict, name):
            raise ValueError(
                f"{KEY} takes names of letters, digits, _ and - that are none of torch's own, got {name!r}"
            )


def check_same_names(names: Collection[str], of_data: Mapping[str, Any], training: bool) -> None:
    """Refuse data of tasks that the model does not have, and training without data of one that it has.

    Raises:
        ValueError: names the tasks and both keys.
    """
    unknown = [name for name in of_data if name not in names]
    if unknown:
        raise ValueError(
            f"data.init_args.tasks names {', '.join(unknown)}, and {KEY} has only {', '.join(names)}: they take the "
            "same names"
        )
    missing = [name for name in names if name not in of_data]
    if missing and training:
        raise ValueError(
            f"{KEY} names {', '.join(missing)}, and data.init_args.tasks has only {', '.join(of_data)}: a task without "
            "data would not be trained"
        )


def unvalidated(datamodule: Any) -> list[str]:
    """Names of the tasks whose data has no validation split.

    Args:
        datamodule: that of a trainer, set up; or None.
    """
    tasks = datamodule.tasks if isinstance(datamodule, HasTasks) else {}
    return [n for n, data in tasks.items() if isinstance(data, KnowsValidation) and not data.has_validation]


def check_optimization(name: str, task: TextTask) -> None:
    """Refuse settings of the optimization of one task: there is one optimizer, that of all.

    Raises:
        ValueError: one is not as it is where nothing is set; names its key.
    """
    defaults = {key: parameter.default for key, parameter in signature(type(task)).parameters.items()}
    differ = {
        "optimizer": _made(task.optimizer) != _made(defaults["optimizer"]),
        "schedule": task.schedule != defaults["schedule"],
        "weight_decay": task.weight_decay != defaults["weight_decay"],
        "layer_decay": task.layer_decay != defaults["layer_decay"],
    }
    for key in (key for key, differs in differ.items() if differs):
        raise ValueError(
            f"{KEY}.{name}.init_args.{key} would be without effect, as there is one for all tasks: set "
            f"model.init_args.{key}"
        )


def _made(optimizer: Callable[..., Any]) -> tuple[type, dict[str, Any]]:
    made = optimizer([nn.Parameter(torch.zeros(1, 1))])
    return type(made), made.defaults


def made_over(
    encoder: nn.Module, tasks: Mapping[str, Callable[[nn.Module], LabelledTask]]
) -> dict[str, LabelledTask]:
    """The tasks over the one encoder, which loses its pooler only where no task uses it."""
    made: dict[str, LabelledTask] = {}
    if isinstance(encoder, Encoder):
        encoder.shared = True
    for name, make in tasks.items():
        made[name] = make(encoder)
        check_optimization(name, made[name])
    if isinstance(encoder, Encoder):
        encoder.shared = False
        if not any(task.uses_pooler for task in made.values()):
            encoder.drop_pooler()
    return made
