"""Tables as they come: their texts, or an error that names file, row and column."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertlab.corpus import table
from bertlab.corpus.table import Table


def texts(path: Path, limit: int = 1_000_000, **arguments: str) -> list[str]:
    return [document.text for document in Table(str(path), **arguments).documents(limit)]  # type: ignore[arg-type]


def test_a_column_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        '\ufefflabel,text\r\nham,"one, ""two""\r\nthree"\r\n\r\nspam,  \r\nham,four\r\n'.encode()
    )
    assert texts(tmp_path / "a.csv") == ['one, "two"\nthree', "four"]
    assert texts(tmp_path / "a.csv", text_column="label") == ["ham", "spam", "ham"]
    (tmp_path / "b.tsv").write_text('text\tlabel\nfive, six\tham\n"seven\teight"\tspam\n')
    assert texts(tmp_path / "b.tsv") == ["five, six", "seven\teight"]
    assert texts(tmp_path) == ['one, "two"\nthree', "four", "five, six", "seven\teight"]
    (tmp_path / "b.tsv").rename(tmp_path / "b.csv.txt")
    assert texts(tmp_path / "b.csv.txt", separator="\t") == ["five, six", "seven\teight"]
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(b"text\tlabel\nnine\tham\n"))
    assert texts(tmp_path / "c.tsv.gz") == ["nine"]


def test_a_long_text_comes_in_parts(tmp_path: Path) -> None:
    long = "word " * 60_000  # more than the csv module takes as a rule
    (tmp_path / "a.csv").write_text(f"text\n{long}\nshort\n")
    assert [len(text) for text in texts(tmp_path / "a.csv", limit=200_000)] == [199_999, 100_000, 5]
    parts = [document.part for document in Table(str(tmp_path / "a.csv")).documents(200_000)]
    assert parts == [0, 1, 0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", r"a\.csv: the file is empty"),
        ("\n\n", r"a\.csv: the file has nothing but blank lines"),
        ("body,label\none,ham\n", r"a\.csv: no column named text_column 'text'; it has: body, label\."),
        ("text,label,text\n", r"a\.csv: two columns named text_column 'text'; it has: text, label, text\."),
        (
            'label,text\nham,"one\ntwo"\n\nham,three, four\n',
            r"a\.csv: row 2 \(line 5\) has 3 cells where the first line names 2 columns \(label, text\)\. .* quoted",
        ),
        ("label,text\nham,one\nham\n", r"a\.csv: row 2 \(line 3\) has 1 cells .* 2 columns \(label, text\)"),
        ('text\none\n"two\nthree\n', r"a\.csv: line 4: unexpected end of data\. Quotes may be unbalanced"),
        ('text\n"one" two\n', r"a\.csv: line 2: .*\. Quotes may be unbalanced"),
        ("text\none\x00\n", r"a\.csv: byte 0x00 at offset 8: not a text file"),
    ],
)
def test_no_table(raw: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(raw)
    with pytest.raises(ValueError, match=message):
        texts(tmp_path / "a.csv")


def test_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"a\.csv: not UTF-8: byte 0xe9 at offset 8"):
        texts(tmp_path / "a.csv")
    assert texts(tmp_path / "a.csv", errors="replace") == ["caf\ufffd"]


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of 1,000 characters at most, which the csv module is told for the whole process."""
    before = csv.field_size_limit()
    monkeypatch.setattr(table, "LONGEST_CELL", 1000)
    yield
    csv.field_size_limit(before)


def test_what_does_not_end_does_not_fill_the_memory(tmp_path: Path, small_cells: None) -> None:
    (tmp_path / "a.csv").write_text("text\none\n" + "x" * 1000 + "\n")
    with pytest.raises(ValueError, match=r"a\.csv: line 3 has 500 characters or more: is it a table\?"):
        texts(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('text\n"' + "one\n" * 400)
    with pytest.raises(ValueError, match=r"a\.csv: line \d+: field larger than field limit \(1000\)"):
        texts(tmp_path / "a.csv")


@pytest.mark.parametrize("separator", ["", ", ", '"', "\n"])
def test_what_separates_nothing(separator: str) -> None:
    with pytest.raises(ValueError, match=r"separator: .* is not accepted: one character"):
        Table("a.csv", separator=separator)


def test_a_name_that_does_not_say_how_cells_are_separated(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text\none\n")
    with pytest.raises(
        ValueError, match=r"a\.txt: is it separated by commas .* ends in \.csv, \.tsv, .*`separator`"
    ):
        texts(tmp_path / "a.txt")
