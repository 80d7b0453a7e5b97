"""Long texts that a store holds as several documents: no example takes two parts of one for two texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bertlab.corpus.token_store import StoreError, TokenStore
from bertlab.data.pretraining import PretrainingData
from tests.corpus.corpus_text import corpus, document, write_config
from tests.corpus.small_corpus import write_store


def plain_text(folder: Path, files: dict[str, str], **changes: object) -> TokenStore:
    """The store of some files, each one text, in parts of about 1,000 characters."""
    (folder / "texts").mkdir(parents=True)
    for name, text in files.items():
        (folder / "texts" / name).write_text(text)
    reader = {"class_path": "bertlab.corpus.readers.PlainText", "init_args": {"path": str(folder / "texts")}}
    corpus(write_config(folder, documents=[reader], document_characters=1000, **changes))
    return TokenStore.open(folder / "small")


def long_text(number: int, sentences: int) -> str:
    return "\n".join(line for n in range(sentences // 6) for line in document(100 * number + n))


def test_a_store_knows_which_documents_are_of_one_text(tmp_path: Path) -> None:
    """Also over the end of a shard, and where the first part of a text is left out as a duplicate."""
    longest = long_text(1, 120)
    files = {"a.txt": long_text(0, 6), "b.txt": longest, "c.txt": long_text(2, 6), "d.txt": longest[:900]}
    store = plain_text(tmp_path / "all", files)
    assert store.document_texts is not None
    counts = np.unique(store.document_texts, return_counts=True)[1]
    assert counts.tolist() == [1, counts[1], 1, 1]
    assert counts[1] > 3
    assert (np.diff(store.document_texts) >= 0).all()
    exact = {"class_path": "bertlab.corpus.duplicate_search.DuplicateSearch"}
    files = {"a.txt": longest[:900], "b.txt": longest}
    found = plain_text(tmp_path / "without", files, duplicates=exact).document_texts
    assert found is not None
    assert found[0] != found[1]
    assert len(set(found[1:].tolist())) == 1


def test_a_store_without_divided_texts_is_as_it_was(tmp_path: Path) -> None:
    store = plain_text(tmp_path, {"a.txt": long_text(0, 6), "b.txt": long_text(1, 6)})
    assert store.document_texts is None
    assert not (store.folder / "document_texts.bin").exists()
    assert '"format": 2' in (store.folder / "meta.json").read_text()


def test_a_store_that_took_parts_for_texts_is_not_taken_for_a_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As earlier versions made them: without `document_texts.bin`."""
    store = plain_text(tmp_path, {"a.txt": long_text(0, 120), "b.txt": long_text(1, 6)})
    meta = json.loads((store.folder / "meta.json").read_text())
    meta["format"] = 2
    del meta["files"]["document_texts.bin"], meta["meta_sha256"]
    (store.folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(SystemExit):
        corpus(tmp_path / "corpus.yaml")
    assert "further parts of long texts for texts of their own" in capsys.readouterr().err


def test_one_long_text_has_no_other_document(tmp_path: Path) -> None:
    store = plain_text(tmp_path, {"a.txt": long_text(0, 120)})
    assert len(store.document_starts) > 4
    data = PretrainingData(str(store.folder), validation_fraction=0.0)
    with pytest.raises(ValueError, match=r"has 1 texts \(long ones are several documents\), of which 0"):
        _ = data.examples.documents
    alone = PretrainingData(str(store.folder), sentence_task="none", validation_fraction=0.0)
    assert len(alone.examples.documents["train"]) == len(store.document_starts) - 1


def test_a_text_is_held_out_whole(tmp_path: Path) -> None:
    of_text = [0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 5, 6]
    folder = write_store(tmp_path / "store", documents=12, of_text=of_text)
    for seed in range(8):
        documents = PretrainingData(str(folder), validation_fraction=0.3, split_seed=seed).examples.documents
        held, trained = ({of_text[n] for n in documents[split]} for split in ("validation", "train"))
        assert len(held) == 2
        assert not held & trained
        assert len(documents["train"]) + len(documents["validation"]) == 12


def test_a_store_whose_texts_are_missing_is_damaged(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", documents=4, of_text=[0, 0, 1, 2])
    (folder / "document_texts.bin").unlink()
    with pytest.raises(StoreError, match=r"document_texts\.bin: missing"):
        TokenStore.open(folder)
