"""Read one file of texts into a table: csv, tsv, jsonl or parquet, with errors that name file, row and line."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.sources.csv_records import csv_records
from bertlab.sources.json_record import json_record

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


def read_file(path: Path) -> pa.Table:
    """The rows of a file; of csv and tsv all columns are strings, so "01" and "NA" stay what they are.

    Args:
        path: a file whose name ends in one of `FORMATS`; csv and tsv begin with a line of column names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another format, no rows, not UTF-8, or damaged; the message names the row.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Accepted: a file that ends in {', '.join(FORMATS)}.")
    if path.suffix not in FORMATS:
        raise ValueError(
            f"{path}: format {path.suffix or '(none)'} is not read. Accepted: {', '.join(FORMATS)}."
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty.")
    if path.suffix == ".parquet":
        table = _read_parquet(path)
    elif path.suffix == ".jsonl":
        table = _read_jsonl(path)
    else:
        table = _read_delimited(path, "\t" if path.suffix == ".tsv" else ",")
    if table.num_rows == 0:
        raise ValueError(f"{path}: the file has no rows, only columns {', '.join(table.column_names)}.")
    return table


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: cannot be read as Parquet: {error}") from error


def decode(path: Path) -> str:
    """The text of a file, which is UTF-8 with or without a byte order mark.

    Raises:
        ValueError: it is not UTF-8; the message names the line.
    """
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        charset = "utf16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin1"
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}, line {line}. Convert the "
            f"file, e.g. by iconv -f {charset} -t utf8."
        ) from None


def _read_delimited(path: Path, delimiter: str) -> pa.Table:
    # A text may be longer than the csv module's default limit of 131,072 characters for a field.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(decode(path), newline=""), delimiter=delimiter, strict=True)
    rows = csv_records(reader, path)
    names = next(rows, None)
    if names is None:
        raise ValueError(f"{path}: the file is empty: it has nothing but blank lines.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: columns named twice: {', '.join(repeated)}.")
    columns: list[list[str]] = [[] for _ in names]
    for number, record in enumerate(rows, start=1):
        if len(record) != len(names):
            raise ValueError(
                f"{path}: row {number} (line {reader.line_num}) has {len(record)} fields where the header has "
                f"{len(names)} ({', '.join(names)}). A text with the separator in it must be quoted."
            )
        for column, value in zip(columns, record, strict=True):
            column.append(value)
    return pa.table(
        {name: pa.array(column, pa.large_string()) for name, column in zip(names, columns, strict=True)}
    )


def _read_jsonl(path: Path) -> pa.Table:
    columns: dict[str, list[Any]] = {}
    rows = 0
    # Only \n ends a line: str.splitlines would also cut at characters that JSON strings may hold.
    for line_number, line in enumerate(decode(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json_record(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {line_number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}: line {line_number} is not a JSON object: {line[:80]}")
        for name in record:
            columns.setdefault(name, [None] * rows)
        rows += 1
        for name, column in columns.items():
            column.append(record.get(name))
    return pa.table({name: _json_column(path, name, values) for name, values in columns.items()})


def _json_column(path: Path, name: str, values: list[Any]) -> pa.Array:
    """An Arrow column of JSON values, which must be of one type (whole numbers and fractions count as one)."""
    first: dict[str, int] = {}
    for row, value in enumerate(values, start=1):
        if value is not None:
            kind = (
                "number"
                if isinstance(value, int | float) and not isinstance(value, bool)
                else type(value).__name__
            )
            first.setdefault(kind, row)
    if len(first) > 1:
        seen = ", ".join(f"{kind} (first in row {row}: {values[row - 1]!r})" for kind, row in first.items())
        raise ValueError(
            f"{path}: column {name} holds values of more than one type: {seen}. Write them alike."
        )
    try:
        return pa.array(values)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: column {name} cannot be read: {error}") from error
