"""The division of checked rows into splits: duplicates out, missing splits made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.data.splits import first_occurrences, split_rows


class Divisible(Protocol):
    """Rows that can be told apart: a frozen dataclass such as `bertlab.data.rows.TextRows`."""

    @property
    def labels(self) -> Any:
        """(n,) or (n, C) labels, or a list of n, each hashable or a list."""
        ...

    @property
    def where(self) -> str:
        """The file, for messages."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def keys(self) -> list[Hashable]:
        """What makes two rows the same."""
        ...

    def take(self, rows: npt.NDArray[np.int64]) -> Self:
        """Some of the rows, in the order given."""
        ...


R = TypeVar("R", bound=Divisible)


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Refuse shares of the training rows for other splits that are out of range.

    Raises:
        ValueError: names the argument.
    """
    for name, share in fractions.items():
        if not 0.0 <= share < 1.0:
            raise ValueError(f"{name}_fraction: {share} is not in [0, 1).")
    if sum(fractions.values()) >= 1.0:
        raise ValueError(f"validation_fraction, test_fraction: {dict(fractions)} leave no row for training.")


def without_duplicates(splits: Mapping[str, R]) -> dict[str, R]:
    """Each text once: of equal ones in a split the first; of equal ones in two, that of the later split.

    `test` is never shortened by another split, so that scores on a published test split stay comparable.
    """
    taken: set[Hashable] = set()
    kept: dict[str, R] = {}
    for name in ("test", "validation", "train"):
        if name not in splits:
            continue
        rows = splits[name]
        keys = rows.keys()
        first = first_occurrences(keys)
        _warn_of_conflicts(rows, keys)
        kept[name] = rows.take(
            np.array([row for row in first.tolist() if keys[row] not in taken], dtype=np.int64)
        )
        taken.update(keys)
    return {name: kept[name] for name in splits}


def _warn_of_conflicts(rows: Divisible, keys: list[Hashable]) -> None:
    labels: dict[Hashable, set[Any]] = {}
    values = rows.labels if isinstance(rows.labels, list) else np.asarray(rows.labels).tolist()
    for key, label in zip(keys, values, strict=True):
        labels.setdefault(key, set()).add(tuple(label) if isinstance(label, list) else label)
    conflicts = [key for key, seen in labels.items() if len(seen) > 1]
    if conflicts:
        rank_zero_warn(
            f"{rows.where}: {len(conflicts)} texts occur more than once with different labels; deduplicate keeps the "
            f"first label. One of them: {_shown(conflicts[0])!r}."
        )


def _shown(key: Hashable) -> str:
    """The beginning of a text, a pair, or a list of words."""
    return (" ".join(map(str, key)) if isinstance(key, tuple) else str(key))[:80]


def warn_of_overlap(splits: Mapping[str, Divisible]) -> None:
    """Warn where a text of the training split is in another split too."""
    if "train" not in splits:
        return
    train = set(splits["train"].keys())
    for name, rows in splits.items():
        keys = rows.keys() if name != "train" else []
        shared = sum(key in train for key in keys)
        if shared:
            rank_zero_warn(
                f"{rows.where}: {shared} of its {len(rows)} texts are in the training split too "
                f"({splits['train'].where}). deduplicate: true takes them out of the training split."
            )


def add_missing_splits(
    splits: Mapping[str, R],
    fractions: Mapping[str, float],
    stratum_of: Callable[[Any], list[Hashable]],
    seed: int,
) -> dict[str, R]:
    """Make validation and test splits that the source lacks out of the training split.

    Args:
        splits: those that the source has.
        fractions: share of the training rows for `validation` and `test`; 0 makes none.
        stratum_of: from the labels of a split to what is to be divided alike.
        seed: of the division.
    """
    wanted = {name: share for name, share in fractions.items() if name not in splits and share > 0}
    if not wanted or "train" not in splits:
        return dict(splits)
    train = splits["train"]
    divided = split_rows(train.keys(), stratum_of(train.labels), wanted, seed)
    made = {
        name: replace(cast(Any, train.take(rows)), where=f"{train.where}, {name} split")
        for name, rows in divided.items()
    }
    empty = [name for name, rows in made.items() if len(rows) == 0]
    if empty:
        different, made_of = len(set(train.keys())), " and a ".join(empty)
        raise ValueError(
            f"{train.where}: {different} different texts are too few to make a {made_of} split of them (fractions "
            f"{dict(wanted)}). Give files for the splits, or set the fraction to 0."
        )
    return dict(splits) | made
