"""Read a file of the CoNLL shared tasks: a word and its tags in a line, a blank line between sentences."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from bertlab.data.readers import decode

#: column of the number of a sentence's first line in its file, for messages. No file has a column of this name.
LINE = "CoNLL line"
DOCUMENT = "-DOCSTART-"


def read_conll(
    path: Path,
    word: int = 0,
    tag: int | None = -1,
    names: tuple[str, str] = ("words", "tags"),
) -> pa.Table:
    """The sentences of a file.

    Columns are divided by tabs, or where a line has none by spaces. Lines that begin with -DOCSTART- are left out.

    Args:
        path: of a text in UTF-8.
        word: column of the word, counted from 0, or from the last one by −1.
        tag: column of its tag; None: the file has none, or none that is wanted.
        names: of the two columns of the table, which hold lists of strings.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty or not UTF-8, has too few columns in a line, or not in every line as many.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    words: list[list[str]] = []
    tags: list[list[str]] = []
    lines: list[int] = []
    first: tuple[int, int] | None = None  # line and number of columns of the first word
    begin = True
    # Only \n ends a line, and only spaces and tabs are blank: a word may be a character that Python takes for either.
    for number, line in enumerate(decode(path).split("\n"), start=1):
        fields = _fields(line)
        if fields is None or fields[0].startswith(DOCUMENT):
            begin = True
            continue
        first = first or (number, len(fields))
        _check(path, number, fields, word, tag, first)
        if begin:
            words.append([])
            tags.append([])
            lines.append(number)
            begin = False
        words[-1].append(fields[word])
        if tag is not None:
            tags[-1].append(fields[tag])
    if not words:
        raise ValueError(f"{path}: the file is empty: it has no line with a word.")
    strings = pa.list_(pa.string())
    columns = {names[0]: pa.array(words, strings)}
    if tag is not None:
        columns[names[1]] = pa.array(tags, strings)
    return pa.table(columns | {LINE: pa.array(lines, pa.int64())})


def _fields(line: str) -> list[str] | None:
    """The columns of a line; None of a blank one."""
    line = line.removesuffix("\r")
    if not line.strip(" \t"):
        return None
    return line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))


def _check(
    path: Path, number: int, fields: list[str], word: int, tag: int | None, first: tuple[int, int]
) -> None:
    keys = {"conll_word": word} | ({} if tag is None else {"conll_tag": tag})
    count = len(fields)
    for key, column in keys.items():
        if not -count <= column < count:
            raise ValueError(
                f"{path}: line {number} has {count} column{'s' if count > 1 else ''} ({' '.join(fields)!r}), but {key} "
                f"is {column}, counted from 0. Columns are divided by tabs or spaces."
            )
    if tag is not None and word % count == tag % count:
        raise ValueError(
            f"{path}: line {number} has {count} column{'s' if count > 1 else ''} ({' '.join(fields)!r}): conll_word "
            f"{word} and conll_tag {tag} are the same one. A word and a tag are needed, divided by a tab or a space."
        )
    if count != first[1]:
        raise ValueError(
            f"{path}: line {number} has {count} columns ({' '.join(fields)!r}), line {first[0]} has {first[1]}: every "
            "line needs as many. A word with a space in it needs tabs between the columns."
        )
