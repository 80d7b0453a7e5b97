"""The checked rows of a split: texts, labels as numbers and ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.data.checks import column_of, ids_of, texts_of
from bertlab.data.tables import Split


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read.

    Attributes:
        text: the text, or the first of a pair.
        pair: the second text of a pair, or None.
        label: the label or regression target, or None for unlabelled rows.
        identity: an id that predictions are written with, or None.
    """

    text: str
    pair: str | None
    label: str | None
    identity: str | None


@dataclass(frozen=True)
class TextRows:
    """The rows of a split.

    Attributes:
        texts: (n,) texts.
        pairs: (n,) second texts, or None.
        labels: (n,) raw label values, later (n,) classes, (n, C) multi-hot rows or (n,) targets; None without.
        ids: (n,) ids, or None.
        where: the file, for messages.
        class_names: names of integer labels where the source declares them.
        numbers: (n,) row of the table that each was read from; None: of no table.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: Any
    ids: list[Any] | None
    where: str
    class_names: list[str] | None = None
    numbers: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """n, the number of rows."""
        return len(self.texts)

    def keys(self) -> list[Hashable]:
        """What makes two rows the same text: the text, or both of a pair."""
        return list(self.texts) if self.pairs is None else list(zip(self.texts, self.pairs, strict=True))

    def take(self, rows: npt.NDArray[np.int64]) -> TextRows:
        """Some of the rows, in the order given."""
        chosen = rows.tolist()
        return TextRows(
            [self.texts[row] for row in chosen],
            None if self.pairs is None else [self.pairs[row] for row in chosen],
            None if self.labels is None else self.labels[rows],
            None if self.ids is None else [self.ids[row] for row in chosen],
            self.where,
            self.class_names,
            None if self.numbers is None else self.numbers[rows],
        )


def read_rows(split: Split, columns: Columns, allow_empty: bool = False) -> TextRows:
    """Take the columns out of a table and check them.

    Args:
        split: the table.
        columns: what to take.
        allow_empty: whether texts may be missing; see `without_empty`.

    Raises:
        ValueError: a column is missing, or holds empty texts or an id twice.
    """
    table, where = split.table, split.where
    return TextRows(
        texts_of(table, columns.text, "text_column", where, allow_empty),
        None
        if columns.pair is None
        else texts_of(table, columns.pair, "text_pair_column", where, allow_empty),
        None if columns.label is None else column_of(table, columns.label, "label_column", where),
        None if columns.identity is None else ids_of(table, columns.identity, where),
        where,
        split.class_names.get(columns.label or ""),
        np.arange(table.num_rows),
    )


def without_empty(rows: TextRows) -> TextRows:
    """Leave out rows with an empty text (or, of a pair, with one of two empty), and warn of them."""
    pairs = rows.texts if rows.pairs is None else rows.pairs
    full = [row for row, (text, pair) in enumerate(zip(rows.texts, pairs, strict=True)) if text and pair]
    if len(full) < len(rows):
        rank_zero_warn(
            f"{rows.where}: {len(rows) - len(full)} of {len(rows)} rows have no text and are dropped."
        )
    return rows.take(np.array(full, dtype=np.int64))


def strata(labels: npt.NDArray[Any]) -> list[Hashable]:
    """What is to be represented alike in all splits.

    The class; of multi-label rows the rarest label they have; of regression targets the tenth of the
    range of ranks that they fall into.
    """
    if labels.ndim == 2:
        order = np.argsort(labels.sum(axis=0), kind="stable")
        return [next((int(label) for label in order if row[label]), -1) for row in labels]
    if labels.dtype.kind == "f":
        ranks = np.searchsorted(np.sort(labels), labels)
        return (ranks * 10 // len(labels)).tolist()
    return labels.tolist()


def warn_of_absent_classes(splits: Mapping[str, TextRows], label_names: tuple[str, ...]) -> None:
    """Warn where a validation or test split has no row of a class; its metrics say nothing of it.

    Raises:
        ValueError: the training split has none (duplicates that were dropped may leave a class empty).
    """
    for name, rows in splits.items():
        labels = np.asarray(rows.labels)
        found = np.flatnonzero(labels.any(axis=0)) if labels.ndim == 2 else labels
        counts = Counter(found.tolist())
        absent = [label for position, label in enumerate(label_names) if not counts[position]]
        if absent and name == "train":
            raise ValueError(f"{rows.where}: no training row is left of the classes {', '.join(absent)}.")
        if absent:
            rank_zero_warn(f"The {name} split has no row of {', '.join(absent)} ({rows.where}).")
