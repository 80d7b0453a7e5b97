"""The checked sentences of a split: lists of words, their tags and ids."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.data.checks import column_of, ids_of, rows_named
from bertlab.data.conll import LINE
from bertlab.data.tables import Split


@dataclass(frozen=True)
class WordColumns:
    """Names of the columns that are read.

    Attributes:
        words: lists of words.
        tags: lists of their tags, or None for unlabelled sentences.
        identity: an id that predictions are written with, or None.
    """

    words: str
    tags: str | None
    identity: str | None


@dataclass(frozen=True)
class WordRows:
    """The sentences of a split.

    Attributes:
        words: of each of the n sentences.
        labels: of each sentence its tags as in the file, later their classes; None without.
        ids: (n,) ids, or None.
        lines: (n,) line of the first word of each sentence in its file, or None where a sentence is a row.
        where: the file, for messages.
        class_names: names of integer tags where the source declares them.
    """

    words: list[list[str]]
    labels: list[list[Any]] | None
    ids: list[Any] | None
    lines: list[int] | None
    where: str
    class_names: list[str] | None = None

    def __len__(self) -> int:
        """n, the number of sentences."""
        return len(self.words)

    def keys(self) -> list[Hashable]:
        """What makes two sentences the same: their words."""
        return [tuple(sentence) for sentence in self.words]

    def take(self, rows: npt.NDArray[np.int64]) -> WordRows:
        """Some of the sentences, in the order given."""
        chosen = rows.tolist()
        return WordRows(
            [self.words[row] for row in chosen],
            None if self.labels is None else [self.labels[row] for row in chosen],
            None if self.ids is None else [self.ids[row] for row in chosen],
            None if self.lines is None else [self.lines[row] for row in chosen],
            self.where,
            self.class_names,
        )

    def place(self, row: int, word: int) -> str:
        """Where a word stands, for messages: counted from 1."""
        if self.lines is not None:
            return f"line {self.lines[row] + word} ({self.words[row][word]!r})"
        return f"row {row + 1}, word {word + 1} ({self.words[row][word]!r})"


def read_sentences(split: Split, columns: WordColumns, allow_empty: bool = False) -> WordRows:
    """Take the columns out of a table and check them.

    Args:
        split: the table.
        columns: what to take.
        allow_empty: whether a sentence may have no words; see `without_empty_sentences`.

    Raises:
        ValueError: a column is missing or does not hold lists, a word or tag is missing, a sentence is empty or has
            another number of tags than of words, or an id occurs twice.
    """
    table, where = split.table, split.where
    words = _lists(table, columns.words, "word_column", where, (str,))
    empty = [row for row, sentence in enumerate(words) if not sentence]
    if empty and not allow_empty:
        raise ValueError(
            f"{where}: column {columns.words!r} has no words in {rows_named(empty)}. Fill or delete them, or leave "
            "such training rows out by empty_sentences: drop."
        )
    tags = None
    if columns.tags is not None:
        tags = _lists(table, columns.tags, "tag_column", where, (str, int))
        for row, (sentence, its_tags) in enumerate(zip(words, tags, strict=True)):
            if len(sentence) != len(its_tags):
                raise ValueError(
                    f"{where}: row {row + 1} has {len(sentence)} words ({columns.words!r}) and {len(its_tags)} tags "
                    f"({columns.tags!r}). Every word needs one tag."
                )
    return WordRows(
        words,
        tags,
        None if columns.identity is None else ids_of(table, columns.identity, where),
        table.column(LINE).to_pylist() if LINE in table.column_names else None,
        where,
        split.class_names.get(columns.tags or ""),
    )


def without_empty_sentences(rows: WordRows) -> WordRows:
    """Leave out sentences without a word, and warn of them."""
    full = [row for row, sentence in enumerate(rows.words) if sentence]
    if len(full) < len(rows):
        rank_zero_warn(
            f"{rows.where}: {len(rows) - len(full)} of {len(rows)} rows have no words and are dropped."
        )
    return rows.take(np.array(full, dtype=np.int64))


def _lists(table: pa.Table, name: str, key: str, where: str, kinds: tuple[type, ...]) -> list[list[Any]]:
    """The lists of a column; an empty one where there is none."""
    values = column_of(table, name, key, where)
    values = [[] if value is None else value for value in values]
    accepted = " or ".join("texts" if kind is str else "whole numbers" for kind in kinds)
    for row, value in enumerate(values):
        if not isinstance(value, list):
            raise ValueError(
                f"{where}: column {name!r} ({key}) must hold lists, but row {row + 1} holds a "
                f"{type(value).__name__}: {str(value)[:40]!r}. A sentence is a list of words."
            )
        for place, item in enumerate(value):
            if item is None or (isinstance(item, float) and isnan(item)):
                raise ValueError(f"{where}: column {name!r}, row {row + 1}: number {place + 1} is missing.")
            if not isinstance(item, kinds) or isinstance(item, bool):
                raise ValueError(
                    f"{where}: column {name!r} ({key}) must hold lists of {accepted}, but row {row + 1} has "
                    f"{item!r} in it."
                )
    return values
