"""From a label column to numbers: class ids, multi-hot rows or regression targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bertlab.data.checks import rows_named

Problem = Literal["single_label", "multi_label", "regression"]
Names = list[list[str]]  # of each row, the names of its labels: one, or with multi_label any number


def names_of(
    values: Sequence[Any],
    problem: Literal["single_label", "multi_label"],
    where: str,
    separator: str = ",",
    class_names: Sequence[str] | None = None,
) -> Names:
    """The label names of each row, as strings.

    Args:
        values: the label column: strings, whole numbers or booleans; with `multi_label` lists of them, or
            strings with `separator` between the labels (an empty string: no label).
        problem: what is expected.
        where: the file, for messages.
        separator: between the labels of a row.
        class_names: names of integer labels, where the source declares them.

    Raises:
        ValueError: a missing label, one that is not a name, or labels of more than one type.
    """
    rows: Names = []
    kinds: dict[type, tuple[int, Any]] = {}
    for row, value in enumerate(values):
        cell: list[Any] = [value]
        if problem == "multi_label" and not isinstance(value, int):
            cell = (
                value
                if isinstance(value, list)
                else [part.strip() for part in str(value or "").split(separator)]
            )
            cell = [label for label in cell if label != ""]
        for label in cell:
            if label is None or label == "" or (class_names is not None and label == -1):
                raise ValueError(f"{where}: there is no label in row {row + 1}.")
            if not isinstance(label, str | int):
                raise ValueError(
                    f"{where}: the label of row {row + 1} is {label!r}, a {type(label).__name__}. Accepted: names or "
                    "whole numbers; for fractions set problem: regression, for lists problem: multi_label."
                )
            kinds.setdefault(type(label), (row, label))
        rows.append(
            [class_names[x] if class_names is not None and isinstance(x, int) else str(x) for x in cell]
        )
    if len(kinds) > 1:
        seen = ", ".join(
            f"{kind.__name__} ({label!r} in row {row + 1})" for kind, (row, label) in kinds.items()
        )
        raise ValueError(f"{where}: labels are of more than one type: {seen}. Write them alike.")
    return rows


def class_ids(names: Names, label_names: Sequence[str], where: str) -> npt.NDArray[np.int64]:
    """(n,) the class of each row.

    Raises:
        ValueError: a label that is not in `label_names`.
    """
    _check_known(names, label_names, where)
    order = {name: position for position, name in enumerate(label_names)}
    return np.array([order[name] for (name,) in names], dtype=np.int64)


def multi_hot(names: Names, label_names: Sequence[str], where: str) -> npt.NDArray[np.float32]:
    """(n, C) 1 where a row has a label, else 0.

    Raises:
        ValueError: a label that is not in `label_names`.
    """
    _check_known(names, label_names, where)
    order = {name: position for position, name in enumerate(label_names)}
    hot = np.zeros((len(names), len(label_names)), dtype=np.float32)
    for row, labels in enumerate(names):
        hot[row, [order[name] for name in labels]] = 1.0
    return hot


def targets_of(values: Sequence[Any], where: str) -> npt.NDArray[np.float32]:
    """(n,) regression targets.

    Raises:
        ValueError: a value that is missing, not a number, or not finite.
    """
    numbers: list[float] = []
    for row, value in enumerate(values):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(
                f"{where}: the target of row {row + 1} is {value!r}; regression needs a finite number."
            )
        numbers.append(number)
    return np.array(numbers, dtype=np.float32)


def choose_label_names(names: Names, given: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """The classes in the order of their ids: those given, else those of the training split, sorted.

    Raises:
        ValueError: one class only, a given class without a training row, or names given twice.
    """
    found = {label for labels in names for label in labels}
    chosen = tuple(given) if given is not None else tuple(sorted(found))
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"label_names: a name occurs twice in {list(chosen)}.")
    _check_spaces(names, where)
    _check_known(names, chosen, where)
    absent = [name for name in chosen if name not in found]
    if absent:
        raise ValueError(
            f"label_names: {', '.join(absent)}: no training row of {where} has it. Labels found: "
            f"{', '.join(sorted(found))}."
        )
    if len(chosen) < 2:
        raise ValueError(
            f"{where}: every training row has the same label {list(chosen)}; two classes are needed."
        )
    return chosen


def _check_spaces(names: Names, where: str) -> None:
    """Refuse labels that only spaces tell apart: of 'spam' and 'spam ' a training would make two classes."""
    first: dict[str, tuple[str, int]] = {}
    for row, labels in enumerate(names):
        for label in labels:
            other, its_row = first.setdefault(label.strip(), (label, row))
            if other != label:
                raise ValueError(
                    f"{where}: the labels {other!r} (row {its_row + 1}) and {label!r} (row {row + 1}) differ by spaces "
                    "alone. Write them alike."
                )


def _check_known(names: Names, label_names: Sequence[str], where: str) -> None:
    accepted = set(label_names)
    wrong = [row for row, labels in enumerate(names) if not accepted.issuperset(labels)]
    if wrong:
        unknown = sorted({label for row in wrong for label in names[row]} - accepted)
        raise ValueError(
            f"{where}: unknown label {', '.join(map(repr, unknown[:5]))} in {rows_named(wrong)}. Accepted labels: "
            f"{', '.join(label_names)}."
        )
