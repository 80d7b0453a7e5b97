"""Sentences with tags: read from every format, laid out in windows, each word once; exact where transformers is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, RobertaTokenizerFast

from bertlab.data.token_classification import TokenClassificationData
from bertlab.data.word_pieces import words_tokenizer
from bertlab.interfaces import HasClassCounts, WordBatch

Sentence = tuple[list[str], list[str]]


def sentences(count: int = 40, seed: int = 0) -> list[Sentence]:
    """Different ones of 1 to 9 words: a name after "call" is a person, of one or two words, a number a thing."""
    draw = np.random.default_rng(seed)
    found: list[Sentence] = []
    for number in range(count):
        words, tags = ["the", str(number)], ["O", "B-thing"]
        for _ in range(draw.integers(0, 3)):
            words += ["call", "film", "friend"][: draw.integers(2, 4)]
            tags += ["O", "B-person", "I-person"][: len(words) - len(tags)]
        found.append((words, tags))
    return found


def conll(rows: list[Sentence], separator: str = "\t") -> str:
    return "\n".join("".join(f"{w}{separator}{t}\n" for w, t in zip(*row, strict=True)) for row in rows)


@pytest.fixture
def tagged(tmp_path: Path) -> Callable[..., str]:
    """Writes a CoNLL file of the sentences above."""

    def write(count: int = 40, name: str = "tagged.txt", **options: Any) -> str:
        path = tmp_path / name
        path.write_text(conll(sentences(count), **options), encoding="utf-8")
        return str(path)

    return write


def built(tokenizer: str, source: str, **options: Any) -> TokenClassificationData:
    data = TokenClassificationData(
        tokenizer, source, **{"validation_fraction": 0, "test_fraction": 0} | options
    )
    data.setup("fit")
    return data


def words_in(data: TokenClassificationData, batch: WordBatch) -> list[str]:
    """What stands at the places of a batch."""
    return data.tokenizer.convert_ids_to_tokens(batch.input_ids[batch.places].tolist())


def test_a_conll_file_end_to_end(tokenizer_folder: str, tagged: Callable[..., str]) -> None:
    data = TokenClassificationData(tokenizer_folder, tagged(60), batch_size=12)
    assert (data.label_names, data.num_labels) == (None, None)
    data.prepare_data()
    data.setup("fit")
    assert isinstance(data, HasClassCounts)
    names = ("O", "B-person", "I-person", "B-thing", "I-thing")
    assert (data.label_names, data.num_labels) == (names, 5)
    rows = data.splits("train")["train"]
    flat = [
        (word, label)
        for s, labels in zip(rows.words, rows.labels, strict=True)
        for word, label in zip(s, labels, strict=True)
    ]
    assert data.class_counts().tolist() == [sum(label == c for _, label in flat) for c in range(5)]
    assert data.class_counts()[4] == 0, "a tag of the scheme that no word has"
    seen: list[int] = []
    for batch in data.train_dataloader():
        assert isinstance(batch, WordBatch)
        assert batch.labels is not None
        assert batch.step_labels is not None
        assert (batch.places.diff() > 0).all()
        for token, number, label, sentence in zip(
            words_in(data, batch),
            batch.words.tolist(),
            batch.labels.tolist(),
            batch.sentences.tolist(),
            strict=True,
        ):
            word, its_label = flat[number]
            assert word.startswith(token)
            assert label == its_label
            assert word in rows.words[sentence]
        assert sorted(batch.step_labels.tolist()) == sorted(batch.labels.tolist())
        seen += batch.words.tolist()
    assert sorted(seen) == list(range(len(flat)))
    assert {name: len(split) for name, split in data.splits("train").items()} == {
        "train": 48,
        "validation": 6,
        "test": 6,
    }


def written(folder: Path, kind: str) -> tuple[str, dict[str, Any]]:
    """The sentences in a format, and the options that read it."""
    rows = sentences()
    if kind in ("tab", "space", "wide"):
        text = conll(rows, " " if kind == "space" else "\t")
        if kind == "wide":  # as CoNLL-2003 has it: four columns, tags of entities last
            lines = [f"{w}  NN  I-NP  {t}\r\n" for s in rows for w, t in [*zip(*s, strict=True), ("", "")]]
            text = "-DOCSTART- -X- -X- O\n\n" + "".join(
                line if line.strip().split()[0] != "NN" else "\n" for line in lines
            )
        (folder / "train.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
        return str(folder), {}
    table = [{"tokens": words, "ner": tags, "key": n} for n, (words, tags) in enumerate(rows)]
    if kind == "jsonl":
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        pq.write_table(pa.Table.from_pylist(table), folder / "train.parquet")
    return str(folder), {"word_column": "tokens", "tag_column": "ner", "id_column": "key"}


@pytest.mark.parametrize("kind", ["tab", "space", "wide", "jsonl", "parquet"])
def test_formats_give_the_same_sentences(tmp_path: Path, tokenizer_folder: str, kind: str) -> None:
    source, options = written(tmp_path, kind)
    data = built(tokenizer_folder, source, **options)
    rows = data.splits("train")["train"]
    assert data.label_names is not None
    tags = [[data.label_names[label] for label in labels] for labels in rows.labels]
    assert list(zip(rows.words, tags, strict=True)) == sentences()
    assert rows.ids == (list(range(40)) if "id_column" in options else None)


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("bio", ["B-x", "I-x", "O", "B-x"], ["B-x", "I-x", "O", "B-x"]),
        ("iob1", ["I-x", "I-x", "O", "I-x"], ["B-x", "I-x", "O", "B-x"]),
        ("iob1", ["I-x", "B-x", "I-x", "I-y"], ["B-x", "B-x", "I-x", "B-y"]),
        ("iobes", ["B-x", "E-x", "O", "S-x"], ["B-x", "E-x", "O", "S-x"]),
        ("none", ["DET", "NOUN", "B-", "I-x"], ["DET", "NOUN", "B-", "I-x"]),
    ],
)
def test_schemes(
    tmp_path: Path, tokenizer_folder: str, scheme: Any, tags: list[str], expected: list[str]
) -> None:
    path = tmp_path / "x.conll"
    path.write_text(conll([(["a", "film", "is", "good"], tags)]))
    data = built(tokenizer_folder, str(path), scheme=scheme)
    assert data.label_names is not None
    assert [data.label_names[label] for label in data.splits("train")["train"].labels[0]] == expected
    assert set(data.label_names) >= set(expected)
    if scheme == "iobes":
        assert data.label_names == ("O", "B-x", "I-x", "E-x", "S-x")


def test_long_sentences_lose_no_word(tmp_path: Path, tokenizer_folder: str) -> None:
    words = [str(n) for n in range(100, 160)]  # three pieces each
    tags = ["B-x" if n % 7 == 0 else "O" for n in range(60)]
    path = tmp_path / "long.txt"
    path.write_text(conll([(words, tags), (["good"], ["O"])]))
    data = built(
        tokenizer_folder, str(path), max_length=24, window_context=6, batch_size=1, evaluation_max_tokens=64
    )
    dataset = data.dataset("train")
    assert len(dataset) > 9
    assert dataset.lengths.max() <= 24
    batches = [dataset.batch(np.array([row])) for row in range(len(dataset))]
    assert [number for batch in batches for number in batch.words.tolist()] == list(range(61))
    assert [label for batch in batches for label in batch.labels.tolist()] == data.splits("train")[
        "train"
    ].labels[0] + [0]
    assert batches[-1].sentences.tolist() == [1]
    for batch in batches[:-1]:
        assert words_in(data, batch) == ["1"] * len(batch.words)
        ids = data.tokenizer.convert_ids_to_tokens(batch.input_ids.tolist())
        assert (ids[0], ids[-1]) == ("[CLS]", "[SEP]")
        spoken = "".join(ids[1:-1]).replace("##", "")
        assert spoken in "".join(words), "neighbours stand around the words as context"
    assert batches[1].places[0] == 7, (
        "six pieces of context and [CLS] before the first word of the second window"
    )
    with pytest.raises(
        ValueError, match=r"window_context: 11 is not accepted.* a window of 22 pieces .* 0 to 10"
    ):
        built(tokenizer_folder, str(path), max_length=24, window_context=11)
    with pytest.raises(ValueError, match=r"max_length: 513 is not accepted: this tokenizer takes 3 to 512"):
        built(tokenizer_folder, str(path), max_length=513)


def test_a_sentence_longer_than_the_model_takes_is_nothing_to_warn_of(
    tmp_path: Path, tokenizer_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "long.txt"
    path.write_text(conll([([str(n) for n in range(300, 500)], ["O"] * 199 + ["B-x"])]))
    logger = logging.getLogger("transformers")  # it does not propagate
    logger.addHandler(caplog.handler)
    data = built(tokenizer_folder, str(path))
    logger.removeHandler(caplog.handler)
    assert data.dataset("train").lengths.sum() > 512
    assert not caplog.records


def test_words_of_which_nothing_is_left_have_a_tag_too(tmp_path: Path, tokenizer_folder: str) -> None:
    words = ["\u200d", "good", "\x07", "\u00a0", "film", "", "9" * 90]
    rows = [
        {"words": words, "tags": ["O", "B-x", "O", "O", "I-x", "O", "B-x"]},
        {"words": ["bad"], "tags": ["O"]},
    ]
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    nothing = r"makes nothing of 4 words \(empty, or control characters\); each is read as \[UNK\]"
    cut = r"1 words have more than 30 pieces, of which the rest is not read \(max_length 32\)"
    with pytest.warns(UserWarning, match=nothing), pytest.warns(UserWarning, match=cut):
        data = built(tokenizer_folder, str(path), max_length=32, window_context=4)
    dataset = data.dataset("train")
    found = {}
    for row in range(len(dataset)):
        batch = dataset.batch(np.array([row]))
        found |= dict(zip(batch.words.tolist(), words_in(data, batch), strict=True))
    assert [found[number] for number in range(8)] == [
        "[UNK]",
        "good",
        "[UNK]",
        "[UNK]",
        "film",
        "[UNK]",
        "9",
        "bad",
    ]
    again = built(tokenizer_folder, str(path), max_length=32, window_context=4)
    assert np.array_equal(again.dataset("train").input_ids, dataset.input_ids), "the same from the cache"


def test_labels_at_all_pieces_are_for_training_only(tmp_path: Path, tokenizer_folder: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(conll([(["good", "123", "film"], ["O", "B-x", "O"]), (["45"], ["B-x"])]))
    data = built(tokenizer_folder, str(path), label_pieces="all", batch_size=2)
    (batch,) = data.train_dataloader()
    tokens = data.tokenizer.convert_ids_to_tokens(batch.input_ids[batch.places].tolist())
    assert tokens == ["good", "1", "##2", "##3", "film", "4", "##5"]
    assert batch.labels.tolist() == [0, 1, 1, 1, 0, 1, 1]
    assert sorted(batch.step_labels.tolist()) == [0, 0, 1, 1, 1, 1, 1]
    evaluated = data.dataset("train").batch(np.array([0, 1]))
    assert evaluated.labels is not None
    assert evaluated.labels.tolist() == [0, 1, 0, 1]
    assert data.class_counts().tolist() == [2, 2, 0], "words are counted, not pieces"


def test_word_pieces_are_those_of_transformers(tokenizer_folder: str, tagged: Callable[..., str]) -> None:
    data = built(tokenizer_folder, tagged(), batch_size=40)
    rows = data.splits("train")["train"]
    theirs = AutoTokenizer.from_pretrained(tokenizer_folder)(rows.words, is_split_into_words=True)
    dataset = data.dataset("train")
    for row in range(len(rows)):
        batch = dataset.batch(np.array([row]))
        assert batch.input_ids.tolist() == theirs["input_ids"][row]
        ids = theirs.word_ids(row)
        assert batch.places.tolist() == [ids.index(word) for word in range(len(rows.words[row]))]


def test_byte_level_tokenizers_read_words_within_a_sentence(
    tmp_path: Path, tagged: Callable[..., str]
) -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    plain = RobertaTokenizerFast(
        vocab=str(tmp_path / "vocab.json"), merges=str(tmp_path / "merges.txt"), model_max_length=128
    )
    plain.save_pretrained(tmp_path / "roberta")
    (tmp_path / "roberta" / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    data = built(str(tmp_path / "roberta"), tagged())
    batch = data.dataset("train").batch(np.array([0]))
    tokens = data.tokenizer.convert_ids_to_tokens(batch.input_ids.tolist())
    assert tokens == ["<s>", "Ġ", "t", "h", "e", "Ġ", "0", *tokens[7:]]
    data.tokenizer.save_pretrained(tmp_path / "again")
    again = words_tokenizer(AutoTokenizer.from_pretrained(tmp_path / "again"))
    assert again([["the", "0"]], is_split_into_words=True)["input_ids"][0][:7] == batch.input_ids[:7].tolist()


def test_hub_names_and_columns(tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the format of CoNLL-2003: lists of integer labels that a feature names."""
    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )

    def split(rows: list[list[int]]) -> datasets.Dataset:
        words = [[f"{number}" for number in range(len(tags))] for tags in rows]
        return datasets.Dataset.from_dict({"tokens": words, "ner_tags": rows}, features=features)

    asked: list[Any] = []

    def load_dataset(path: str, name: str | None, revision: str | None) -> datasets.DatasetDict:
        asked.append((path, name, revision))
        return datasets.DatasetDict(
            train=split([[0, 1], [1, 2, 0]]), validation=split([[3, 4]]), test=split([[0, -1]])
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options: dict[str, Any] = {
        "word_column": "tokens",
        "tag_column": "ner_tags",
        "revision": "refs/convert/parquet",
    }
    names_of_splits = {"train": "train", "validation": "validation", "test": "validation"}
    data = built(tokenizer_folder, "eriktks/conll2003", **options, split_names=names_of_splits)
    assert asked == [("eriktks/conll2003", None, "refs/convert/parquet")]
    assert data.label_names == tuple(names)
    assert data.splits("train")["train"].labels == [[0, 1], [1, 2, 0]]
    with pytest.raises(
        ValueError, match=r"eriktks/conll2003 \(test\): there is no tag in row 1, word 2 \('1'\)"
    ):
        built(tokenizer_folder, "eriktks/conll2003", **options)


def test_prediction_of_an_unlabelled_file_needs_nothing_else(tmp_path: Path, tokenizer_folder: str) -> None:
    rows = [words for words, _ in sentences(9)]
    (tmp_path / "mine.txt").write_text("\n\n".join("\n".join(words) for words in rows))
    table = [{"key": f"k{n}", "words": words} for n, words in enumerate(rows)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    for name, options in (("mine.txt", {}), ("mine.jsonl", {"id_column": "key"})):
        data = TokenClassificationData(
            tokenizer_folder,
            "/no/such/file.txt",
            predict_source=str(tmp_path / name),
            evaluation_max_tokens=30,
            **options,
        )
        data.setup("predict")
        batches = list(data.predict_dataloader())
        assert len(batches) > 1
        numbers = sorted(number for batch in batches for number in batch.words.tolist())
        assert numbers == list(range(sum(map(len, rows))))
        assert all(batch.labels is None and batch.step_labels is None for batch in batches)
        expected = {"words": rows} if not options else {"id": [f"k{n}" for n in range(9)], "words": rows}
        assert data.predict_table().to_pydict() == expected


def test_splits_share_no_sentence_and_types_are_divided(tmp_path: Path, tokenizer_folder: str) -> None:
    rows = sentences(60)
    path = tmp_path / "twice.txt"
    path.write_text(conll([*rows, *rows[:20]]))
    data = TokenClassificationData(tokenizer_folder, str(path), deduplicate=True)
    data.setup("fit")
    splits = data.splits("train")
    assert {name: len(split) for name, split in splits.items()} == {"train": 48, "validation": 6, "test": 6}
    keys = list(chain.from_iterable(split.keys() for split in splits.values()))
    assert len(set(keys)) == len(keys) == 60
    assert all(any(1 in labels for labels in split.labels) for split in splits.values()), "each has a person"
    other = TokenClassificationData(tokenizer_folder, str(path), deduplicate=True, split_seed=1)
    other.setup("fit")
    assert other.splits("train")["test"].words != splits["test"].words


def test_labels_of_a_checkpoint_come_first(tokenizer_folder: str, tagged: Callable[..., str]) -> None:
    data = TokenClassificationData(tokenizer_folder, tagged())
    data.label_names = ["B-person", "I-person", "O", "B-thing", "I-thing", "B-other", "I-other"]
    data.setup("test")
    assert data.splits("test")["test"].labels[0][:2] == [2, 3]
    with pytest.raises(RuntimeError, match="come too late"):
        data.label_names = ["O", "B-person"]


@pytest.mark.packaged
def test_tweets_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BERTLAB_CACHE")
    data = TokenClassificationData("packaged:minilm_l6_v2", "packaged:tweets_ner", deduplicate=True)
    data.prepare_data()
    data.setup("fit")
    splits = data.splits("train")
    assert sum(map(len, splits.values())) == 2295
    assert data.num_labels == 21
    assert (data.class_counts() > 0).all()
    assert data.label_names is not None
    for split in splits.values():
        kinds = {data.label_names[label][2:] for labels in split.labels for label in labels}
        assert len(kinds - {""}) == 10, "every type is in every split"
    batch = next(iter(data.train_dataloader()))
    assert batch.size == 32
    assert torch.equal(batch.words.sort().values, batch.words.unique())
