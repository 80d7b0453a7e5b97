"""A store that is not whole, not known or not of this tokenizer is refused by name."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertlab.corpus.token_store import StoreError, TokenStore
from tests.corpus.corpus_text import corpus, google_text, write_config


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    (folder / "text.txt").write_text(google_text(12))
    corpus(write_config(folder))
    return folder / "small"


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "store"))


def change_meta(store: Path, **changes: Any) -> None:
    """As an older or newer bertlab would have written it, which need not know of a sum of meta.json."""
    meta = json.loads((store / "meta.json").read_text())
    meta.pop("meta_sha256", None)
    (store / "meta.json").write_text(json.dumps({**meta, **changes}))


def test_is_read_only_flat_and_pickled_as_its_folder(store: Path) -> None:
    opened = TokenStore.open(store)
    assert type(opened.tokens) is np.ndarray
    assert not opened.tokens.flags.writeable
    assert (len(opened.sentence_starts), len(opened.document_starts)) == (73, 13)
    assert (np.diff(opened.sentence_starts) > 0).all()
    assert (np.diff(opened.document_starts) > 0).all()
    data = pickle.dumps(opened)
    assert len(data) < 500
    assert np.array_equal(pickle.loads(data).tokens, opened.tokens)


@pytest.mark.parametrize(
    "name",
    ["tokens.bin", "sentence_starts.bin", "document_starts.bin", "document_words.bin", "tokenizer/vocab.txt"],
)
def test_damage_is_found_and_named(name: str, store: Path) -> None:
    path = store / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=rf"{name}: sha256 .* The store is damaged"):
        TokenStore.open(store)
    path.write_bytes(raw[:-1])
    with pytest.raises(StoreError, match=rf"{name}: {len(raw) - 1} bytes, expected {len(raw)}"):
        TokenStore.open(store, checksums="never")
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name}: missing"):
        TokenStore.open(store)


def test_checksums_are_read_once_for_each_state(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    from bertlab.corpus import token_store

    sha256 = token_store.file_sha256
    monkeypatch.setattr(token_store, "file_sha256", lambda path: (read.append(path.name), sha256(path))[1])
    TokenStore.open(store)
    first = len(read)
    assert first == len(json.loads((store / "meta.json").read_text())["files"])
    TokenStore.open(store)
    assert len(read) == first
    TokenStore.open(store, checksums="always")
    assert len(read) == 2 * first


def test_a_newer_store_is_refused_by_name(store: Path) -> None:
    change_meta(store, format=99, bertlab="7.0")
    with pytest.raises(StoreError, match=r"of format 99, made by a newer bertlab \(7\.0\)"):
        TokenStore.open(store)


@pytest.mark.parametrize(
    "changes", [{"counts": {}}, {"format": "x"}, {"files": None}, {"dtype": "<f4"}, {"vocabulary_size": None}]
)
def test_damaged_meta(changes: dict[str, Any], store: Path) -> None:
    change_meta(store, **changes)
    with pytest.raises(StoreError, match=r"meta\.json: damaged"):
        TokenStore.open(store)
    (store / "meta.json").write_text("{")
    with pytest.raises(StoreError, match=r"meta\.json: damaged"):
        TokenStore.open(store)


def test_no_change_of_meta_goes_unnoticed(store: Path) -> None:
    """Of a bit of any byte: never another store."""
    path = store / "meta.json"
    raw, whole = path.read_bytes(), TokenStore.open(store)
    refused: list[str] = []
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        try:
            opened = TokenStore.open(store, checksums="never")
        except StoreError as error:
            refused.append(str(error))
        else:  # of the name of the sum
            for name in ("vocabulary_size", "tokenizer_hash", "content_hash", "settings"):
                assert getattr(opened, name) == getattr(whole, name), (place, name)
    assert all(error.startswith(f"{path}: ") for error in refused)
    assert len(refused) > 0.9 * len(raw)


def test_a_store_of_the_first_format_has_no_words(store: Path) -> None:
    assert TokenStore.open(store).document_words is not None
    meta = json.loads((store / "meta.json").read_text())
    del meta["files"]["document_words.bin"]
    change_meta(store, files=meta["files"], format=1)
    (store / "document_words.bin").unlink()
    opened = TokenStore.open(store)
    assert opened.document_words is None
    assert len(opened.document_starts) == 13
    change_meta(store, format=2)
    with pytest.raises(StoreError, match=r"meta\.json: damaged"):
        TokenStore.open(store)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such token store"):
        TokenStore.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="is not a token store"):
        TokenStore.open(tmp_path)


def test_only_its_own_tokenizer_fits(store: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    opened = TokenStore.open(store)
    tokenizer = AutoTokenizer.from_pretrained(opened.tokenizer_folder)
    assert opened.difference(tokenizer) == ""
    assert opened.difference(Tokenizer.from_file(str(opened.tokenizer_folder / "tokenizer.json"))) == ""
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    definition["normalizer"]["lowercase"] = False
    other = Tokenizer.from_str(json.dumps(definition))
    assert opened.difference(other).startswith("of the same text it makes")
    tokenizer.add_tokens(["newword"])
    assert opened.difference(tokenizer) == "it has 300 pieces, the given one 301"
    with pytest.raises(TypeError, match="a str is not accepted"):
        opened.difference("bert-base-uncased")
