"""What a checkpoint or a data module says of its task, and whether another task may take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

TASK, PROBLEM, LABEL_NAMES = "bertlab_task", "bertlab_problem", "bertlab_label_names"
#: Present in the checkpoint of an encoder with adapters: their settings.
ADAPTERS = "bertlab_adapters"


def describe(checkpoint: dict[str, Any], task: str, problem: str, label_names: Sequence[str] | None) -> None:
    """Write into a checkpoint which task it is of, in plain values."""
    checkpoint[TASK] = task
    checkpoint[PROBLEM] = problem
    checkpoint[LABEL_NAMES] = None if label_names is None else list(label_names)


def check_is_of(checkpoint: Mapping[str, Any], task: str) -> None:
    """Refuse a checkpoint of another task.

    Args:
        checkpoint: as loaded.
        task: class name of the model's task.

    Raises:
        ValueError: it is one, or of no task of bertlab.
    """
    if TASK not in checkpoint:
        raise ValueError(f"the checkpoint is not of a bertlab task: it has no {TASK!r}, the model is {task}")
    if checkpoint[TASK] != task:
        raise ValueError(f"the checkpoint is of the task {checkpoint[TASK]}, the model is {task}")


def check_task(
    checkpoint: Mapping[str, Any],
    task: str,
    problem: str,
    label_names: Sequence[str] | None,
    problem_key: str = "problem",
) -> tuple[str, ...] | None:
    """Refuse a checkpoint of another task, another problem or other labels.

    Args:
        checkpoint: as loaded.
        task: class name of the model's task.
        problem: of the model.
        label_names: of the model; None: not known yet.
        problem_key: the model's key for its problem.

    Returns:
        The label names of the checkpoint.

    Raises:
        ValueError: it is one; the message names what the checkpoint has and what the model has.
    """
    check_is_of(checkpoint, task)
    if checkpoint[PROBLEM] != problem:
        raise ValueError(
            f"the checkpoint is of the {problem_key} {checkpoint[PROBLEM]!r}, model.init_args.{problem_key} is "
            f"{problem!r}"
        )
    kept = checkpoint[LABEL_NAMES]
    if label_names is not None and kept != list(label_names):
        raise ValueError(
            f"the checkpoint was trained on the labels {kept}, in this order; the labels here are "
            f"{list(label_names)}"
        )
    return None if kept is None else tuple(kept)


def check_problem(datamodule: Any, problem: str) -> None:
    """Refuse data that is read for another problem than the model is for.

    Args:
        datamodule: one that says its `problem`; others are not checked.
        problem: of the model.

    Raises:
        ValueError: they differ.
    """
    of_data = getattr(datamodule, "problem", problem)
    if of_data != problem:
        raise ValueError(
            f"data.init_args.problem is {of_data!r}, model.init_args.problem is {problem!r}: they must be the same"
        )


def check_shapes(checkpoint: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse weights that do not fit.

    Args:
        checkpoint: with its `state_dict`; one without (sharded over files) is left to torch to check.
        state: of the model.

    Raises:
        ValueError: names or shapes differ; the message names the first five that do, with both shapes.
    """
    weights = checkpoint.get("state_dict")
    if not weights:
        return
    differences = [
        f"{name} is {_shape(weights, name)} in the checkpoint and {_shape(state, name)} in the model"
        for name in [*state, *(name for name in weights if name not in state)]
        if _shape(weights, name) != _shape(state, name)
    ]
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ValueError(
            "the checkpoint is of another encoder or head (model.init_args.encoder): "
            f"{'; '.join(differences[:5])}{more}"
        )


def _shape(weights: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(weights[name].shape)) if name in weights else "missing"
