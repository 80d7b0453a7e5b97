"""The summary page: what is in a corpus, in numbers and a picture, in one file."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from bertlab.corpus.atomic_files import read_json
from bertlab.corpus.report import write_report
from bertlab.corpus.token_store import TokenStore
from tests.corpus.corpus_text import corpus, google_text, write_config
from tests.corpus.test_build import STEPS, texts

#: With a character that gets no piece: 16 others are more frequent.
ODD = "Ba ke 鱈 lo mi nu 鱈 ra."


class Page(HTMLParser):
    """The texts of a page, one after another, and where its pictures and whatever else come from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.pictures: list[str] = []
        self.others: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        sources = [value or "" for key, value in attrs if key in ("src", "href")]
        (self.pictures if tag == "img" else self.others).extend(sources)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []

    def card(self, label: str) -> str:
        """The number above its label."""
        return self.texts[self.texts.index(label) - 1]

    def row(self, label: str) -> str:
        """What stands behind a label."""
        return self.texts[self.texts.index(label) + 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 200 documents, 20 that come again, one of too few words, and an odd one."""
    folder = tmp_path_factory.mktemp("report")
    text = f"{google_text(200)}{ODD}\n\n{google_text(20)}Too short.\n"
    (folder / "text.txt").write_text(text, encoding="utf-8")
    vocabulary = {
        "class_path": "bertlab.corpus.vocabulary.TrainedVocabulary",
        "init_args": {"size": 120, "max_alphabet": 16},
    }
    corpus(write_config(folder, **STEPS, vocabulary=vocabulary))
    return folder / "small"


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_what_is_in_it(folder: Path, page: Page) -> None:
    store = TokenStore.open(folder)
    assert page.texts[0] == "Corpus small"
    assert any(re.fullmatch(r"222 documents of [\d,]+ characters were read\.", text) for text in page.texts)
    sizes = {"documents": 201, "sentences": 200 * 6 + 1, "words": 200 * 6 * 8 + len(ODD.split())}
    assert {label: page.card(label) for label in sizes} == {name: f"{n:,}" for name, n in sizes.items()}
    assert page.card("tokens") == f"{len(store.tokens):,}"
    assert int(page.card("characters").replace(",", "")) > len(google_text(200)) - 2 * 1201


def test_what_was_left_out(page: Page) -> None:
    assert page.row("duplicates: exact") == "20"
    assert page.row("rejected: too few words") == "1"
    assert "duplicates: near" not in page.texts, "there are none"


def test_the_vocabulary(folder: Path, page: Page) -> None:
    store = TokenStore.open(folder)
    assert page.row("pieces") == "120"
    assert page.row("unknown pieces") == f"2 ({2 / len(store.tokens):.4%} of the tokens)"
    assert page.row("tokens a word") == f"{len(store.tokens) / (200 * 48 + len(ODD.split())):.3f}"
    assert int(page.row("pieces that never occur")) == 120 - len(np.unique(store.tokens))
    counts = np.bincount(store.tokens)
    assert page.row(".") == f"{int(counts.max()):,}", "the most frequent piece ends a sentence"
    assert texts(store)[200][0].count("[UNK]") == 2


def test_the_picture_is_in_it(page: Page) -> None:
    assert page.others == [], "nothing comes from elsewhere"
    (picture,) = page.pictures
    kind, _, data = picture.partition(",")
    assert kind == "data:image/png;base64"
    pixels = imread(io.BytesIO(base64.b64decode(data)))[..., :3]
    height, width, _ = pixels.shape
    assert (height > 300, width > 1000) == (True, True)
    for half, color in ((pixels[:, : width // 2], "#3b6fb6"), (pixels[:, width // 2 :], "#b6653b")):
        bars = (np.abs(half - to_rgb(color)) < 0.01).all(axis=2)
        assert bars.mean() > 0.01, "bars of a histogram"


def test_names_and_pieces_are_text(folder: Path, tmp_path: Path) -> None:
    summary = read_json(folder / "summary.json")
    odd = {"name": "<i>mine</i>", "most_frequent_pieces": [["<b>", 3], ["&amp;", 2]]}
    write_report(tmp_path / "report.html", summary | odd)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.texts[0] == "Corpus <i>mine</i>"
    assert (page.row("<b>"), page.row("&amp;")) == ("3", "2")
