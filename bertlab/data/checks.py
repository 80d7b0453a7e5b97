"""Checks of what a user's file holds: each error names the file, the rows and what is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

import pyarrow as pa

SHOWN = 10


def rows_named(rows: Sequence[int]) -> str:
    """Rows for a message, counted from 1 without the header.

    >>> rows_named([0, 4])
    'rows 1, 5'
    >>> rows_named(list(range(40)))
    'rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 30 more'
    """
    shown = ", ".join(str(row + 1) for row in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def column_of(table: pa.Table, name: str, key: str, where: str) -> list[Any]:
    """The values of a column, None where one is missing: null, or the NaN that pandas writes for it.

    Args:
        table: rows of a file.
        name: the column.
        key: the YAML key that chose it.
        where: the file.

    Raises:
        ValueError: there is no such column.
    """
    if name not in table.column_names:
        raise ValueError(
            f"{where}: no column {name!r} ({key}: {name}). The columns found are: {', '.join(table.column_names)}."
            f"{_what_may_be_meant(name, table.column_names)}"
        )
    values = table.column(name).to_pylist()
    return [None if isinstance(value, float) and isnan(value) else value for value in values]


def _what_may_be_meant(name: str, found: Sequence[str]) -> str:
    """A hint at what is easily overlooked in a header: spaces, case, another separator.

    >>> _what_may_be_meant("label", ["text", " Label"])
    " ' Label' differs from it by spaces or case alone."
    >>> _what_may_be_meant("text", ["text;label"])
    ' The header is one field with semicolons in it: .csv files are separated by commas, .tsv files by tabs.'
    >>> _what_may_be_meant("label", ["text"])
    ''
    """
    near = [column for column in found if column.strip().casefold() == name.strip().casefold()]
    if near:
        return f" {near[0]!r} differs from it by spaces or case alone."
    separators = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}
    inside = [word for sign, word in separators.items() if len(found) == 1 and sign in found[0]]
    if not inside:
        return ""
    return f" The header is one field with {inside[0]} in it: .csv files are separated by commas, .tsv files by tabs."


def texts_of(table: pa.Table, name: str, key: str, where: str, allow_empty: bool = False) -> list[str]:
    """The texts of a column: all of them strings, none missing or blank.

    Args:
        table: rows of a file.
        name: the column.
        key: the YAML key that chose it.
        where: the file.
        allow_empty: give an empty text for a missing or blank one instead of raising.

    Raises:
        ValueError: no such column; missing or blank texts; or not texts at all.
    """
    values: list[Any] = column_of(table, name, key, where)
    wrong = [row for row, value in enumerate(values) if not isinstance(value, str | None)]
    if wrong:
        raise ValueError(
            f"{where}: column {name!r} ({key}) must hold texts, but {rows_named(wrong)} hold "
            f"{type(values[wrong[0]]).__name__}s such as {values[wrong[0]]!r}."
        )
    missing = [row for row, value in enumerate(values) if value is None or not value.strip()]
    if missing and not allow_empty:
        raise ValueError(
            f"{where}: column {name!r} has no text in {rows_named(missing)}. Fill or delete them, or leave such "
            "training rows out by empty_texts: drop."
        )
    return [value if isinstance(value, str) and value.strip() else "" for value in values]


def ids_of(table: pa.Table, name: str, where: str) -> list[Any]:
    """The ids of a column, no two alike.

    Raises:
        ValueError: no such column, or an id that occurs twice or is missing.
    """
    values = column_of(table, name, "id_column", where)
    first: dict[Any, int] = {}
    for row, value in enumerate(values):
        if value is None:
            raise ValueError(f"{where}: column {name!r} has no id in row {row + 1}.")
        if value in first:
            raise ValueError(
                f"{where}: column {name!r} has the id {value!r} twice, in rows {first[value] + 1} and {row + 1}."
            )
        first[value] = row
    return values
