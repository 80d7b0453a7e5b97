"""Every data fragment is accepted by the class it names; packaged ones are read for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from bertlab.data.pretraining import PretrainingData
from bertlab.data.text_classification import TextClassificationData
from bertlab.data.token_classification import TokenClassificationData
from tests.corpus.small_corpus import write_store

ALL = sorted((Path(__file__).parents[2] / "configs" / "data").rglob("*.yaml"))
PRETRAINING = [path for path in ALL if path.stem.startswith("pretraining")]
TAGGED = [path for path in ALL if "TokenClassificationData" in path.read_text(encoding="utf-8")]
FRAGMENTS = [path for path in ALL if path not in PRETRAINING and path not in TAGGED]


def of_fragment(path: Path, kind: type = TextClassificationData, **more: Any) -> Any:
    parser = ArgumentParser()
    parser.add_subclass_arguments(kind, "data")
    fragment = yaml.safe_load(path.read_text(encoding="utf-8"))
    fragment["init_args"] |= more
    return parser.instantiate_classes(parser.parse_object({"data": fragment})).data


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
def test_fragment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 40
    given = yaml.safe_load(text)["init_args"]
    data = of_fragment(path, tokenizer="unused")
    columns = data.text_source.columns
    assert (data.text_source.source, columns.text) == (given["source"], given.get("text_column", "text"))


@pytest.mark.parametrize("path", TAGGED, ids=lambda path: path.stem)
def test_fragment_of_tagged_sentences(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    given = yaml.safe_load(text)["init_args"]
    source = of_fragment(path, TokenClassificationData, tokenizer="unused").word_source
    assert (source.source, source.columns.words) == (given["source"], given.get("word_column", "words"))


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_pretraining_fragment(path: Path, tmp_path: Path) -> None:
    """Each gives training and validation batches, of another store of the same kind."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    fragment = yaml.safe_load(text)
    assert fragment["init_args"].pop("store").startswith("corpora/")
    fragment["init_args"]["store"] = str(write_store(tmp_path / "store", documents=60))
    parser = ArgumentParser()
    parser.add_subclass_arguments(PretrainingData, "data")
    data = parser.instantiate_classes(parser.parse_object({"data": fragment})).data
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = next(iter(loader))
        assert (batch.lengths.max() <= data.phases[0].length, batch.step_masked > 0) == (True, True)


@pytest.mark.packaged
@pytest.mark.parametrize(
    "path", [p for p in FRAGMENTS if "packaged:" in p.read_text()], ids=lambda path: path.stem
)
def test_packaged_fragment(
    path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bertlab.data import text_classification
    from bertlab.data.tokenised_texts import TokenisedTexts

    monkeypatch.delenv("BERTLAB_CACHE")
    monkeypatch.setattr(text_classification, "tokenise", lambda *_: TokenisedTexts)  # its own tests tokenise
    data = of_fragment(path, tokenizer=tokenizer_folder)
    data.setup("fit")
    splits = data.splits("train")
    assert {"train", "validation", "test"} == set(splits)
    total = sum(len(rows) for rows in splits.values())
    assert len(splits["validation"]) / (total - len(splits["test"])) == pytest.approx(0.1, abs=0.02)
    texts = {name: set(rows.texts) for name, rows in splits.items()}
    assert not texts["train"] & texts["validation"], "no text in two splits"
    if data.text_source.deduplicate:
        assert not texts["train"] & texts["test"]
