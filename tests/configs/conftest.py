"""Tiny stand-ins, in the same formats, for models and data that a test cannot download."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from transformers import BertConfig, BertModel

from bertlab.cli import main
from tests.tokenizers import write_tokenizer

CONFIGS = Path(__file__).parents[2] / "configs"

UNFREEZING = CONFIGS / "callbacks" / "staged_unfreezing.yaml"

WORDS = [
    "the", "a", "film", "was", "good", "bad", "dull", "fine", "call", "now",
    "win", "prize", "is", "it", "of", "oil", "wheat", "ships", "rose", "fell",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a BERT of six layers × 32, as the hub has them: config, safetensors, tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_bert")
    size = write_tokenizer(folder, WORDS)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tiny_store(in_tmp: Path, tiny_bert: str) -> str:
    """Sixty documents of six sentences in the vocabulary of the tiny BERT."""
    documents = [
        "\n".join(" ".join(WORDS[(d * 7 + s * 3 + w) % len(WORDS)] for w in range(9)) for s in range(6))
        for d in range(60)
    ]
    (in_tmp / "prose.txt").write_text("\n\n".join(documents) + "\n")
    corpus = {
        "name": "tiny",
        "documents": [
            {"class_path": "bertlab.corpus.readers.GoogleFormat", "init_args": {"path": "prose.txt"}}
        ],
        "vocabulary": {
            "class_path": "bertlab.corpus.vocabulary.GivenVocabulary",
            "init_args": {"source": tiny_bert},
        },
    }
    (in_tmp / "corpus.yaml").write_text(yaml.safe_dump(corpus))
    main(["corpus", "--config", "corpus.yaml"])
    return str(in_tmp / "corpora" / "tiny")


@pytest.fixture
def on_its_data(
    request: pytest.FixtureRequest, tiny_bert: str, text_folder: str, word_folder: str
) -> Callable[[Path], list[str]]:
    """Flags of a run, of the house's configs made tiny, on data that the strategy of a fragment can work with."""

    def flags(fragment: Path) -> list[str]:
        module, _, name = yaml.safe_load(fragment.read_text())["class_path"].rpartition(".")
        common = ["--trainer.callbacks=[]", f"--trainer.callbacks+={fragment}", "--trainer.accelerator=cpu"]
        common += ["--model.encoder.source", tiny_bert]
        strategy = getattr(import_module(module), name)
        if "trunk" in strategy.touches:  # it keeps what others freeze, for stages that last
            common += ["--trainer.callbacks.minimum_epochs=0", f"--trainer.callbacks+={UNFREEZING}"]
            common += ["--trainer.callbacks.plan=top_k", "--trainer.callbacks.top=1"]
        if "length" in strategy.touches:  # texts here have 6 to 10 tokens
            common += ["--trainer.callbacks.start_length=6"]
        if strategy.needs_tasks:
            sources = {"spam": text_folder, "sentiment": text_folder, "names": word_folder}
            data = [f"--data.tasks.{task}.source={source}" for task, source in sources.items()]
            return ["--config", str(CONFIGS / "finetune" / "multi_task.yaml"), *common, *data]
        if "mask_rate" not in strategy.touches:
            return [
                "--config",
                str(CONFIGS / "finetune" / "sms_spam.yaml"),
                *common,
                "--data.source",
                text_folder,
            ]
        store = request.getfixturevalue("tiny_store")
        data = [f"--data.store={store}", "--data.batch_size=8", "--data.validation_fraction=0.1"]
        return ["--config", str(CONFIGS / "pretrain" / "minilm_news.yaml"), *common, *data]

    return flags


def text(row: int) -> str:
    """A text of its own for each row: the digits in it keep texts different."""
    return " ".join(WORDS[(row * 7 + i) % len(WORDS)] for i in range(3 + row % 5)) + f" {row}"


GLUE = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "stsb": (["sentence1", "sentence2"], None),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"]),
}


def glue(subset: str | None) -> datasets.DatasetDict:
    """A task of GLUE with the hub's columns, features and splits, of few rows."""
    columns, names = GLUE[str(subset)]
    label = datasets.Value("float32") if names is None else datasets.ClassLabel(names=names)
    features = datasets.Features(
        {**{c: datasets.Value("string") for c in columns}, "label": label, "idx": datasets.Value("int32")}
    )

    def split(start: int, rows: int, labelled: bool) -> datasets.Dataset:
        ids = range(start, start + rows)
        known = [i % 11 / 2 for i in ids] if names is None else [i % len(names) for i in ids]
        data = {c: [text(i + 1000 * k) for i in ids] for k, c in enumerate(columns)}
        data |= {"label": known if labelled else [-1] * rows, "idx": list(ids)}
        return datasets.Dataset.from_dict(data, features=features)

    suffixes = ["_matched", "_mismatched"] if subset == "mnli" else [""]
    splits = {"train": split(0, 70, True)}
    for suffix in suffixes:
        splits |= {f"validation{suffix}": split(100, 20, True), f"test{suffix}": split(200, 20, False)}
    return datasets.DatasetDict(splits)


PEOPLE = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]


def tags(row: int) -> list[int]:
    """A class for each word of `text(row)`: entities of one or two words, and words outside of any."""
    words = len(text(row).split())
    return [(0, 1 + 2 * (row % 4), 2 + 2 * (row % 4))[i % 3] for i in range(words)]


def conll2003(subset: str | None) -> datasets.DatasetDict:
    """CoNLL-2003 with the hub's columns, features and splits, of few rows."""
    assert subset is None
    strings, numbers = (
        datasets.List(datasets.Value("string")),
        datasets.List(datasets.ClassLabel(names=PEOPLE)),
    )
    features = datasets.Features({"id": datasets.Value("string"), "tokens": strings, "ner_tags": numbers})

    def split(start: int, rows: int) -> datasets.Dataset:
        ids = range(start, start + rows)
        data = {
            "id": [str(i) for i in ids],
            "tokens": [text(i).split() for i in ids],
            "ner_tags": [tags(i) for i in ids],
        }
        return datasets.Dataset.from_dict(data, features=features)

    return datasets.DatasetDict(train=split(0, 70), validation=split(100, 20), test=split(200, 20))


HUB = {"nyu-mll/glue": (glue, None), "eriktks/conll2003": (conll2003, "refs/convert/parquet")}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets.load_dataset` gives what the hub has, of few rows."""

    def load_dataset(source: str, subset: str | None, revision: str | None = None) -> datasets.DatasetDict:
        make, its_revision = HUB[source]
        assert revision == its_revision
        return make(subset)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@pytest.fixture
def word_folder(tmp_path: Path) -> str:
    """train.txt and test.txt with a word and its tag in a line, as packaged sets have them."""
    folder = tmp_path / "words"
    folder.mkdir()
    for name, start, rows in (("train", 0, 90), ("test", 100, 30)):
        sentences = [
            "".join(f"{word}\t{PEOPLE[tag]}\n" for word, tag in zip(text(i).split(), tags(i), strict=True))
            for i in range(start, start + rows)
        ]
        (folder / f"{name}.txt").write_text("\t\n".join(sentences))
    return str(folder)


@pytest.fixture
def text_folder(tmp_path: Path) -> str:
    """train.csv and test.csv with columns text and label: eight labels, as packaged sets have them."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, start, rows in (("train", 0, 90), ("test", 100, 30)):
        lines = [f"{text(i)},topic{i % 8}" for i in range(start, start + rows)]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return str(folder)


@pytest.fixture
def prose(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packaged news and papers, my_texts, a table and the hub's Wikipedia, in their formats but small."""

    def article(number: int) -> str:
        words = [f"{WORDS[(number * 7 + i) % len(WORDS)]}{number}x{i}" for i in range(12)]
        return " ".join(
            " ".join(words[4 * s : 4 * s + 4]).capitalize() + " and so it went on today." for s in range(3)
        )

    texts = [article(0), article(1), article(2), article(0)]  # the last one is there already
    table = io.StringIO()
    writer = csv.DictWriter(table, ["article_id", "title", "text"])
    writer.writeheader()
    writer.writerows({"article_id": n, "title": "A title", "text": text} for n, text in enumerate(texts))
    with zipfile.ZipFile(in_tmp / "NewsArticles.zip", "w") as archive:
        archive.writestr("NewsArticles.csv", table.getvalue())
    for folder in ("papers", "my_texts", "my_task"):
        (in_tmp / folder).mkdir()
    for number in range(3):
        body = [{"text": article(10 + number), "section": "Introduction"}]
        paper = json.dumps({"title": "A title", "pdf_parse": {"body_text": body}})
        (in_tmp / "papers" / f"{number}.json").write_text(paper)
    for number, text in enumerate(texts):
        (in_tmp / "my_texts" / f"{number}.txt").write_text(text)
    with (in_tmp / "my_task" / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *(("ham", text) for text in texts)])
    places = {"news": in_tmp / "NewsArticles.zip", "papers": in_tmp / "papers"}
    monkeypatch.setattr("bertlab.corpus.readers.fetch", places.__getitem__)
    rows = [{"id": str(number), "text": 5 * f"{text}\n"} for number, text in enumerate(texts[:3])]

    def load_dataset(path: str, name: str, split: str, streaming: bool, revision: str | None) -> Any:
        assert (path, name, split, streaming) == ("wikimedia/wikipedia", "20231101.en", "train", True)
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return in_tmp
