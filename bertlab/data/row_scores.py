"""Scores of rows from a table of the user's, which names rows by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertlab.data.checks import SHOWN, column_of, ids_of
from bertlab.data.readers import read_file


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
            f"{path!r} is no file of scores. Accepted: length, rarity, or a csv, tsv, jsonl or parquet file"
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
    try:
        found = np.array([float(scores[str(row)]) for row in ids])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: column 'score' has to hold numbers ({error})") from error
    if not np.isfinite(found).all():
        raise ValueError(f"{path}: column 'score' has to hold finite numbers")
    return found
