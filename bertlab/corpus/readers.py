"""Where documents come from: text files in several formats, the hub, packaged prose. All are read lazily, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bertlab.corpus.document import Document
from bertlab.corpus.document_parts import of_pieces, parts_of, until_blank
from bertlab.corpus.packaged_prose import news, papers
from bertlab.corpus.reader import FileReader, Reader
from bertlab.corpus.text_stream import Errors, files_of, line_parts, lines
from bertlab.sources.catalogue import find
from bertlab.sources.json_record import json_record
from bertlab.sources.packaged import fetch

LONGEST_JSON = 100_000_000  # characters of a line of JSON at most: it has to fit in the memory


@dataclass(frozen=True)
class GoogleFormat(FileReader):
    """The format of google-research/bert: one sentence a line, a blank line ends a document, a file's end does not.

    Attributes:
        path: a file, folder or pattern, or a list of such.
        errors: what to do with bytes that are not UTF-8: `strict` or `replace`.
    """

    path: str | list[str]
    errors: Errors = "strict"

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`; a line that is longer than the limit becomes several sentences."""
        every = (line for path in files_of(self.path) for line in lines(path, self.errors, limit))
        return until_blank(every, limit, has_sentences=True)


@dataclass(frozen=True)
class PlainText(FileReader):
    """Running text.

    Attributes:
        path: a file, folder or pattern, or a list of such.
        document: what a document is: a whole `file`, a `paragraph` (blank lines stand between), or a `line`.
        errors: what to do with bytes that are not UTF-8: `strict` or `replace`.
    """

    path: str | list[str]
    document: Literal["file", "paragraph", "line"] = "file"
    errors: Errors = "strict"

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`."""
        for path in files_of(self.path):
            if self.document == "line":
                yield from of_pieces(line_parts(path, self.errors, limit))
            else:
                every = lines(path, self.errors, limit)
                yield from until_blank(every, limit, blank_ends=self.document == "paragraph")


@dataclass(frozen=True)
class JsonLines(FileReader):
    """JSON Lines, as most published corpora come (also packed: `.jsonl.gz`): an object a line.

    Attributes:
        path: a file, folder or pattern, or a list of such.
        text_key: the key of the text, which every line has; those where it is null or NaN are left out.
        errors: what to do with bytes that are not UTF-8: `strict` or `replace`.
    """

    path: str | list[str]
    text_key: str = "text"
    errors: Errors = "strict"

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`."""
        for path in files_of(self.path):
            for number, line in enumerate(lines(path, self.errors, LONGEST_JSON), start=1):
                if len(line) >= LONGEST_JSON // 2 and not line.rstrip().endswith("}"):
                    raise ValueError(
                        f"{path}: line {number} is longer than {LONGEST_JSON} characters: is it JSON Lines?"
                    )
                text = self._text(path, number, line) if line.strip() else None
                if text is not None:
                    yield from parts_of(text, limit)

    def _text(self, path: Path, number: int, line: str) -> str | None:
        try:
            record = json_record(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(record, dict) or self.text_key not in record:
            found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(
                f"{path}: line {number} has no string under text_key {self.text_key!r}; it has: {found}."
            )
        text = record[self.text_key]
        if not isinstance(text, str | None):
            raise ValueError(
                f"{path}: line {number} has no string under text_key {self.text_key!r} but {text!r:.80}. Accepted: a "
                "string; lines with null, or NaN, are left out."
            )
        return text


@dataclass(frozen=True)
class Parquet(FileReader):
    """A column of Parquet files.

    Attributes:
        path: a file, folder or pattern, or a list of such.
        text_column: the column of the text; rows without a value are left out.
    """

    path: str | list[str]
    text_column: str = "text"

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in files_of(self.path):
            try:
                with pq.ParquetFile(path) as file:
                    _check_column(path, file.schema_arrow, self.text_column)
                    batches = file.iter_batches(batch_size=64, columns=[self.text_column])
                    values = (value for batch in batches for value in batch.column(0))
                    for number, value in enumerate(values, start=1):
                        if value.is_valid:
                            yield from parts_of(self._text(path, number, value), limit)
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:  # the machine's
                    raise
                raise ValueError(f"{path}: cannot be read as Parquet: {error}") from error

    def _text(self, path: Path, number: int, value: Any) -> str:
        try:
            return value.as_py()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: row {number} is not UTF-8 in text_column {self.text_column!r} ({error.reason} at byte "
                f"{error.start}), as Parquet's strings have to be: write the file anew"
            ) from error


def _check_column(path: Path, schema: Any, column: str) -> None:
    import pyarrow as pa

    named = [field.type for field in schema if field.name == column]
    if len(named) > 1:
        raise ValueError(
            f"{path}: {len(named)} columns are named text_column {column!r}: rename all but one."
        )
    if not any(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in named):
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise ValueError(f"{path}: no column of strings named text_column {column!r}; it has: {found}.")


@dataclass(frozen=True)
class HubDataset(Reader):
    """A data set of the hub, streamed: nothing of it is kept but what the build needs.

    Attributes:
        path: its id, e.g. `wikimedia/wikipedia`; or whatever else `datasets.load_dataset` takes.
        name: its configuration, e.g. `20231101.en`.
        split: the split.
        text_column: the column of the text; rows without a value are left out.
        revision: commit or tag; without one, a later build may read other text, and one that was stopped may go on
            with other text, which cannot be noticed.
    """

    path: str
    name: str | None = None
    split: str = "train"
    text_column: str = "text"
    revision: str | None = None

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`."""
        return (document for document, _ in self.after(None, limit))

    def after(self, place: Any, limit: int) -> Iterator[tuple[Document, Any]]:
        """As `Reader.after`: of the hub's files, those before the last two that were read are not fetched again.

        A place is the number of a row, that of its parts that are done, and the state of `datasets` before the row.
        """
        import datasets

        rows = datasets.load_dataset(
            self.path, self.name, split=self.split, streaming=True, revision=self.revision
        )
        first, done, state = place or (0, 0, None)
        if state is not None:
            rows.load_state_dict(state)
        for number, row in enumerate(rows, start=first):
            text = row.get(self.text_column)
            if text is None and self.text_column in row:
                done, state = 0, rows.state_dict()
                continue
            if not isinstance(text, str):
                raise ValueError(
                    f"{self.path}: row {number} has no string in text_column {self.text_column!r}; it has: "
                    f"{', '.join(row)}."
                )
            for part, document in enumerate(islice(parts_of(text, limit), done, None), start=done + 1):
                yield document, (number, part, state)
            done, state = 0, rows.state_dict()

    def identity(self) -> list[dict[str, Any]]:
        """Id, configuration, split and revision as they were asked for."""
        return [{"hub": self.path, "name": self.name, "split": self.split, "revision": self.revision}]


@dataclass(frozen=True)
class Packaged(Reader):
    """Prose that comes through the package index.

    Attributes:
        source: `packaged:news` (2017 news, 12.5 M characters) or `packaged:papers` (250 papers, 6.6 M characters).
    """

    source: str = "packaged:news"

    def __post_init__(self) -> None:
        find(self.source, "prose")

    def documents(self, limit: int) -> Iterator[Document]:
        """As `Reader.documents`."""
        name, _ = find(self.source, "prose")
        for text in {"news": news, "papers": papers}[name](fetch(name)):
            yield from parts_of(text, limit)

    def identity(self) -> list[dict[str, Any]]:
        """The pinned wheel."""
        wheel = find(self.source, "prose")[1].wheel
        return [{"package": wheel.package, "version": wheel.version, "sha256": wheel.sha256}]
