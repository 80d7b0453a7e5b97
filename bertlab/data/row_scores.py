"""Scores of rows: from a table of the user's, which names rows by their ids, or from a column beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertlab.data.checks import SHOWN, column_of, ids_of, rows_named
from bertlab.data.readers import read_file

#: Before the name of a column beside the rows, where the path of a table could stand.
COLUMN = "column:"


def read_scores(path: str, ids: Sequence[Any] | None) -> npt.NDArray[np.float64]:
    """(n,) the score of each row; the table may have other rows too.

    Args:
        path: of a csv, tsv, jsonl or parquet file with columns `id` and `score`.
        ids: (n,) of the rows; None: they have none.

    Raises:
        ValueError: no ids; no such file or columns; a row without a score, or one that is no finite number.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(
            f"{path!r} is no file of scores. Accepted: length, rarity, column:<name>, or a csv, tsv, jsonl or parquet "
            "file"
        )
    if ids is None:
        raise ValueError(
            f"{path}: scores are found by the ids of the rows, and these have none: set data.init_args.id_column"
        )
    table = read_file(file)
    values = column_of(table, "score", "scores", path)
    scores = dict(zip(map(str, ids_of(table, "id", path)), values, strict=True))
    if missing := [row for row in map(str, ids) if row not in scores]:
        raise ValueError(
            f"{path}: {len(missing)} of {len(ids)} training rows have no score, such as {', '.join(missing[:SHOWN])}"
        )
    return numbers_of([scores[str(row)] for row in ids], None, "score", path)


def numbers_of(
    values: Sequence[Any], rows: Sequence[int] | None, column: str, where: str
) -> npt.NDArray[np.float64]:
    """(n,) the values as numbers.

    Args:
        values: (n,) of a column.
        rows: (n,) of the file that they stand in, for messages; None: not known.
        column: its name.
        where: the file.

    Raises:
        ValueError: one is missing, or is no finite number; names the column, and the rows.
    """
    found = np.array([_number(value) for value in values], dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(found))
    if len(wrong):
        named = "" if rows is None else f" in {rows_named([rows[row] for row in wrong.tolist()])}"
        raise ValueError(
            f"{where}: column {column!r} has to hold finite numbers, and holds {values[int(wrong[0])]!r}{named}"
        )
    return found


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
