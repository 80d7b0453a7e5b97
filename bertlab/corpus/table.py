"""Documents out of tables: the texts of a task as they lie in its CSV or TSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertlab.corpus.document import Document
from bertlab.corpus.document_parts import parts_of
from bertlab.corpus.reader import FileReader
from bertlab.corpus.text_stream import Errors, files_of, lines
from bertlab.sources.csv_records import csv_records

SEPARATORS = {".csv": ",", ".tsv": "\t"}
LONGEST_CELL = 100_000_000  # characters at most, and of a line half of it: a row has to fit in the memory


@dataclass(frozen=True)
class Table(FileReader):
    """A column of CSV or TSV files (also packed: `.csv.gz`), whose first line names the columns: a document a row.

    As `TextClassificationData` and its like read such files, so that an encoder can be pretrained further on the
    training texts of its own task (Gururangan et al. 2020, arXiv:2004.10964, section 4). A cell in quotes may hold
    separators and line ends. A second column with text: the reader once more, in the same list.

    Attributes:
        path: a file, folder or pattern, or a list of such.
        text_column: the column of the text; rows with nothing in it are left out.
        separator: one character between cells; null: a comma in `.csv`, a tab in `.tsv`.
        errors: what to do with bytes that are not UTF-8: `strict` or `replace`.

    Raises:
        ValueError: the separator is not one character.
    """

    path: str | list[str]
    text_column: str = "text"
    separator: str | None = None
    errors: Errors = "strict"

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise ValueError(
                f"separator: {self.separator!r} is not accepted: one character, no quote and no line end; null: "
                "by the name of the file."
            )

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`.

        Raises:
            ValueError: no table, or a damaged one; the message names file, row and line, and the columns there are.
        """
        csv.field_size_limit(LONGEST_CELL)
        for path in files_of(self.path):
            for text in self._texts(path):
                yield from parts_of(text, limit)

    def _texts(self, path: Path) -> Iterator[str]:
        reader = csv.reader(_lines(path, self.errors), delimiter=self._separator_of(path), strict=True)
        rows = csv_records(reader, path)
        names = next(rows, None)
        if names is None:
            raise ValueError(f"{path}: the file has nothing but blank lines.")
        if names.count(self.text_column) != 1:
            found = "two columns" if self.text_column in names else "no column"
            raise ValueError(
                f"{path}: {found} named text_column {self.text_column!r}; it has: {', '.join(names)}."
            )
        column = names.index(self.text_column)
        for number, row in enumerate(rows, start=1):
            if len(row) != len(names):
                raise ValueError(
                    f"{path}: row {number} (line {reader.line_num}) has {len(row)} cells where the first line names "
                    f"{len(names)} columns ({', '.join(names)}). A text with the separator in it must be quoted."
                )
            yield row[column]

    def _separator_of(self, path: Path) -> str:
        if self.separator is not None:
            return self.separator
        known = [SEPARATORS[suffix] for suffix in path.suffixes[-2:] if suffix in SEPARATORS]
        if not known:
            raise ValueError(
                f"{path}: is it separated by commas or by tabs? Accepted: a name that ends in "
                f"{', '.join(SEPARATORS)}, maybe packed, or `separator`."
            )
        return known[-1]


def _lines(path: Path, errors: Errors) -> Iterator[str]:
    for number, line in enumerate(lines(path, errors, LONGEST_CELL), start=1):
        if len(line) >= LONGEST_CELL // 2:  # a longer one comes in pieces, of which the first has as much
            raise ValueError(
                f"{path}: line {number} has {LONGEST_CELL // 2} characters or more: is it a table?"
            )
        yield f"{line}\n"
