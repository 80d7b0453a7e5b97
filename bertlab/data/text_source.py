"""Everything between a `source:` and the checked, labelled, divided rows of its splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bertlab.data.checks import column_of
from bertlab.data.division import add_missing_splits, check_fractions, warn_of_overlap, without_duplicates
from bertlab.data.labels import Names, Problem, choose_label_names, class_ids, multi_hot, names_of, targets_of
from bertlab.data.readers import read_file
from bertlab.data.row_scores import numbers_of
from bertlab.data.rows import (
    Columns,
    TextRows,
    read_rows,
    strata,
    warn_of_absent_classes,
    without_empty,
)
from bertlab.data.tables import Split, load_splits

LabelNames = tuple[str, ...] | None


@dataclass(frozen=True)
class TextSource:
    """What the data module's arguments of the same names say; see `TextClassificationData`."""

    source: str | None
    files: Mapping[str, str] | None
    subset: str | None
    revision: str | None
    split_names: Mapping[str, str] | None
    columns: Columns
    problem: Problem
    label_separator: str
    fractions: Mapping[str, float]
    split_seed: int
    deduplicate: bool
    empty_texts: Literal["error", "drop"]

    def load(self, label_names: LabelNames) -> tuple[dict[str, TextRows], LabelNames]:
        """Read, check, label and divide.

        Args:
            label_names: the classes if they are known, else None.

        Returns:
            The rows of each split, with labels as numbers; and the classes (None for regression).

        Raises:
            ValueError: whatever is wrong with the data, see the modules that check it.
        """
        raw = self._tables()
        drop = self.empty_texts == "drop"
        splits = {name: read_rows(split, self.columns, allow_empty=drop) for name, split in raw.items()}
        # Labels become numbers before rows are divided: an error can name the row of the file.
        splits, label_names = self._with_labels(splits, label_names)
        if drop:
            splits = {name: without_empty(rows) for name, rows in splits.items()}
        if self.deduplicate:
            splits = without_duplicates(splits)
        else:
            warn_of_overlap(splits)
        splits = add_missing_splits(splits, self.fractions, strata, self.split_seed)
        if label_names is not None:
            warn_of_absent_classes(splits, label_names)
        return splits, label_names

    def unlabelled(self, path: str) -> TextRows:
        """The rows of a file to predict: the same columns but the label, and none of them without a text."""
        split = Split(read_file(Path(path).expanduser()), path)
        return read_rows(split, replace(self.columns, label=None))

    def training_column(self, name: str, rows: TextRows) -> npt.NDArray[np.float64]:
        """(n,) the numbers of a column beside training rows, read anew from the source.

        Args:
            name: of the column.
            rows: of the training split, as `load` gave them.

        Raises:
            ValueError: there is no such column, or it does not hold a finite number for each of the rows.
        """
        split = self._tables()["train"]
        values: list[Any] = column_of(split.table, name, "DataOrder.difficulty", split.where)
        assert rows.numbers is not None
        return numbers_of([values[row] for row in rows.numbers], rows.numbers.tolist(), name, split.where)

    def _tables(self) -> dict[str, Split]:
        return load_splits(self.source, self.files, self.subset, self.revision, self.split_names)

    def _with_labels(
        self, splits: Mapping[str, TextRows], label_names: LabelNames
    ) -> tuple[dict[str, TextRows], LabelNames]:
        if self.problem == "regression":
            numbers = {name: targets_of(rows.labels, rows.where) for name, rows in splits.items()}
            return {name: replace(rows, labels=numbers[name]) for name, rows in splits.items()}, None
        names = {name: self._names(rows) for name, rows in splits.items()}
        if "train" in splits:
            train = splits["train"]
            given = label_names if label_names is not None else train.class_names
            label_names = choose_label_names(names["train"], given, train.where)
        elif label_names is None:
            raise ValueError(
                "label_names: null, and there is no training split to take them from; give them."
            )
        encode: Any = multi_hot if self.problem == "multi_label" else class_ids
        encoded = {name: encode(names[name], label_names, rows.where) for name, rows in splits.items()}
        return {name: replace(rows, labels=encoded[name]) for name, rows in splits.items()}, label_names

    def _names(self, rows: TextRows) -> Names:
        assert self.problem != "regression"
        return names_of(rows.labels, self.problem, rows.where, self.label_separator, rows.class_names)


def check_options(
    fractions: Mapping[str, float],
    problem: Problem,
    label_names: Sequence[str] | None,
    resampling_power: float,
) -> None:
    """Refuse arguments that are out of range or clash, before anything is read.

    Raises:
        ValueError: names the arguments.
    """
    check_fractions(fractions)
    if problem == "regression" and label_names is not None:
        raise ValueError(
            f"label_names: {list(label_names)}, but problem: regression has no classes. Drop one."
        )
    if problem != "single_label" and resampling_power != 0.0:
        raise ValueError(
            f"resampling_power: {resampling_power} needs problem: single_label, but problem is {problem}."
        )
    if not 0.0 <= resampling_power <= 1.0:
        raise ValueError(f"resampling_power: {resampling_power} is not in [0, 1].")
