"""The records of a CSV or TSV file, for whoever reads tables or corpora."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def csv_records(reader: Any, path: Path) -> Iterator[list[str]]:
    """What a reader of the csv module gives, without blank lines.

    Args:
        reader: of `csv.reader`; strict, or damage is read as text.
        path: of the file, for errors.

    Raises:
        ValueError: a damaged file; the message names the line.
    """
    while True:
        try:
            record: list[str] = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}. Quotes may be unbalanced.") from error
        if record:  # the csv module gives an empty list for a blank line
            yield record
