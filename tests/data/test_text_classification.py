from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from bertlab.data.text_classification import TextClassificationData
from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.interfaces import HasClassCounts, TextBatch
from bertlab.samplers.micro_batch import MicroBatch
from bertlab.samplers.sorted_batches import SortedBatchSampler
from bertlab.samplers.token_budget import TokenBudgetSampler
from tests.data.test_resume import Model
from tests.ranks import on_two_ranks


def texts_of(data: TextClassificationData, batch: TextBatch) -> list[str]:
    return [
        data.tokenizer.decode(ids, skip_special_tokens=True)
        for ids in batch.input_ids.split(batch.lengths.tolist())
    ]


def test_a_csv_file_end_to_end(tokenizer_folder: str, texts_csv: Callable[..., Path]) -> None:
    data = TextClassificationData(tokenizer_folder, str(texts_csv(60)), batch_size=12)
    assert data.label_names is None
    assert data.num_labels is None
    data.prepare_data()
    data.setup("fit")
    assert isinstance(data, HasClassCounts)
    assert data.label_names == ("ham", "spam")
    assert data.num_labels == 2
    assert data.class_counts().tolist() == [32, 16]
    rows = data.splits("train")["train"]
    seen: list[int] = []
    for batch in data.train_dataloader():
        assert (batch.lengths.diff() <= 0).all()
        assert batch.input_ids.shape == batch.token_type_ids.shape == (int(batch.lengths.sum()),)
        assert texts_of(data, batch) == [rows.texts[row] for row in batch.index.tolist()]
        assert batch.labels is not None
        assert batch.labels.tolist() == rows.labels[batch.index].tolist()
        assert batch.step_labels is not None
        assert sorted(batch.step_labels.tolist()) == sorted(batch.labels.tolist())
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(48))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_formats_give_the_same_rows(tmp_path: Path, tokenizer_folder: str, suffix: str) -> None:
    rows = [{"text": f'say "hi", number {n}\nagain é', "label": "ab"[n % 2], "n": str(n)} for n in range(30)]
    path = tmp_path / f"train.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        separator = "," if suffix == "csv" else "\t"
        lines = [separator.join(["text", "label", "n"])]
        lines += [
            separator.join(['"' + row["text"].replace('"', '""') + '"', row["label"], row["n"]])
            for row in rows
        ]
        path.write_bytes("﻿".encode() + "\r\n".join(lines).encode())
    data = TextClassificationData(tokenizer_folder, str(tmp_path), validation_fraction=0, test_fraction=0)
    data.setup("fit")
    assert data.splits("train")["train"].texts == [row["text"] for row in rows]
    assert data.class_counts().tolist() == [15, 15]


def test_splits_by_file_names(tmp_path: Path, tokenizer_folder: str, texts_csv: Callable[..., Path]) -> None:
    for name, rows in (("train", 30), ("dev", 9), ("test", 12)):
        texts_csv(rows, f"{name}.csv")
    data = TextClassificationData(tokenizer_folder, str(tmp_path), batch_size=10)
    with pytest.warns(UserWarning, match="9 of its 9 texts are in the training split too"):
        data.setup("fit")
    data.setup("test")
    assert [len(rows) for rows in data.splits("test").values()] == [30, 9, 12]


def test_pairs(tmp_path: Path, tokenizer_folder: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b,label\n" + "".join(f"good film {n},bad money,{n % 2}\n" for n in range(20)))
    data = TextClassificationData(
        tokenizer_folder, str(path), text_column="a", text_pair_column="b", batch_size=4, max_length=7
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.token_type_ids[: int(batch.lengths[0])].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert data.dataset("train").truncated == 16
    assert data.label_names == ("0", "1")
    data.setup("predict")
    assert data.predict_table().column_names == ["text", "text_pair"]


@pytest.mark.parametrize("as_lists", [True, False])
def test_many_labels(tmp_path: Path, tokenizer_folder: str, as_lists: bool) -> None:
    sets = [["x"], ["y", "x"], [], ["z"]] * 10
    rows = [
        {"text": f"text {n}", "label": labels if as_lists else "; ".join(labels)}
        for n, labels in enumerate(sets)
    ]
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = TextClassificationData(
        tokenizer_folder,
        str(path),
        problem="multi_label",
        label_separator=";",
        test_fraction=0,
        validation_fraction=0,
    )
    data.setup("fit")
    assert data.label_names == ("x", "y", "z")
    assert data.class_counts().tolist() == [20, 10, 10]
    batch = next(iter(data.train_dataloader()))
    assert batch.labels is not None
    assert batch.step_labels is not None
    assert batch.labels.shape[1] == 3
    assert batch.labels.dtype == batch.step_labels.dtype == torch.float32


def test_regression(tmp_path: Path, tokenizer_folder: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{n / 4}\n" for n in range(40)))
    data = TextClassificationData(tokenizer_folder, str(path), problem="regression")
    data.setup("fit")
    assert data.label_names is None
    assert data.num_labels == 1
    batch = next(iter(data.val_dataloader()))
    assert batch.labels is not None
    assert batch.labels.dtype == torch.float32
    with pytest.raises(ValueError, match="problem: regression has no classes to count"):
        data.class_counts()


def test_given_label_order_is_kept_and_a_checkpoint_sets_it(
    tokenizer_folder: str, texts_csv: Callable[..., Path]
) -> None:
    source = str(texts_csv(60))
    explicit = TextClassificationData(tokenizer_folder, source, label_names=["spam", "ham"])
    explicit.setup("fit")
    assert explicit.label_names == ("spam", "ham")
    assert explicit.class_counts().tolist() == [16, 32]
    from_checkpoint = TextClassificationData(tokenizer_folder, source)
    from_checkpoint.label_names = ["spam", "ham"]
    from_checkpoint.setup("test")
    assert from_checkpoint.dataset("test").labels is not None
    assert (
        explicit.splits("test")["test"].labels.tolist()
        == from_checkpoint.splits("test")["test"].labels.tolist()
    )
    explicit.label_names = ("spam", "ham")  # no change, no error
    with pytest.raises(RuntimeError, match=r"label_names \('ham', 'spam'\) come too late"):
        explicit.label_names = ["ham", "spam"]


def test_hub_class_names_and_chosen_splits(tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the format of GLUE: integer labels named by a feature, and a test split without labels."""
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["unacceptable", "acceptable"]),
            "idx": datasets.Value("int32"),
        }
    )

    def split(labels: list[int]) -> datasets.Dataset:
        texts = [f"{labels[0]} sentence {n}" for n in range(len(labels))]
        return datasets.Dataset.from_dict(
            {"sentence": texts, "label": labels, "idx": list(range(len(labels)))}, features=features
        )

    asked: list[Any] = []

    def load_dataset(path: str, name: str | None, revision: str | None) -> datasets.DatasetDict:
        asked.append((path, name, revision))
        return datasets.DatasetDict(
            train=split([0, 1] * 20), validation=split([1, 0] * 5), test=split([-1] * 6)
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    options: dict[str, Any] = {
        "source": "nyu-mll/glue",
        "subset": "cola",
        "text_column": "sentence",
        "revision": "v1",
    }
    names = {"train": "train", "validation": "validation", "test": "validation"}
    data = TextClassificationData(tokenizer_folder, **options, split_names=names)
    data.setup("fit")
    data.setup("test")
    assert asked == [("nyu-mll/glue", "cola", "v1")]
    assert data.label_names == ("unacceptable", "acceptable")
    assert len(data.dataset("test")) == len(data.dataset("validation")) == 10
    with pytest.raises(ValueError, match=r"nyu-mll/glue \(test\): there is no label in row 1"):
        TextClassificationData(tokenizer_folder, **options).setup("fit")
    with pytest.raises(ValueError, match=r"has no split dev; it has train, validation, test"):
        TextClassificationData(tokenizer_folder, **options, split_names={**names, "test": "dev"}).setup("fit")


def test_prediction_of_an_unlabelled_file_needs_nothing_else(tmp_path: Path, tokenizer_folder: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("key,text\n" + "".join(f"k{n},{'good ' * (n + 1)}\n" for n in range(9)))
    options: dict[str, Any] = {
        "source": "/no/such/file.csv",
        "predict_source": str(path),
        "evaluation_max_tokens": 20,
    }
    data = TextClassificationData(tokenizer_folder, **options)
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert sorted(row for batch in batches for row in batch.index.tolist()) == list(range(9))
    assert all(batch.labels is None and batch.step_labels is None for batch in batches)
    assert data.predict_table().column("text").to_pylist()[2] == "good good good "
    with_ids = TextClassificationData(tokenizer_folder, **options, id_column="key")
    assert with_ids.predict_table().to_pydict() == {"id": [f"k{n}" for n in range(9)]}


def test_a_text_of_a_megabyte(tmp_path: Path, tokenizer_folder: str) -> None:
    path = tmp_path / "long.csv"
    long = "spam " * 200_000
    path.write_text(
        "text,label\n" + "".join(f"{n} {long if n == 3 else 'x'},{'ab'[n % 2]}\n" for n in range(12))
    )
    data = TextClassificationData(
        tokenizer_folder, str(path), max_length=16, validation_fraction=0, test_fraction=0, batch_size=4
    )
    started = time.perf_counter()
    with pytest.warns(UserWarning, match=r"long\.csv: 1 of 12 texts were cut to max_length 16 tokens"):
        data.setup("fit")
    assert time.perf_counter() - started < 30
    lengths = data.dataset("train").lengths.tolist()
    assert lengths[3] == 16
    assert max(lengths[:3] + lengths[4:]) <= 5


def test_tokenised_once_cached_by_content(
    tokenizer_folder: str, texts_csv: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = texts_csv(60)
    calls: list[Any] = []
    original = datasets.Dataset.map
    monkeypatch.setattr(
        datasets.Dataset, "map", lambda self, *a, **k: calls.append(1) or original(self, *a, **k)
    )

    def lengths(**options: Any) -> list[int]:
        data = TextClassificationData(tokenizer_folder, str(source), validation_fraction=0, **options)
        data.setup("fit")
        return data.dataset("train").lengths.tolist()

    first = lengths()
    assert lengths(batch_size=4, seed=9) == first
    assert len(calls) == 1
    assert max(lengths(max_length=5)) == 5
    assert len(calls) == 2, "another max_length is another content"
    source.write_text(source.read_text().replace("hello", "hello hello"))
    assert lengths() != first
    assert len(calls) == 3


def test_packing_is_what_an_arrow_row_holds() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 50)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(0, 99, offsets[-1]).astype(np.int32)
    dataset = TokenisedTexts(ids, offsets, (ids % 2).astype(np.int8), 0, np.arange(50))
    batch = dataset[MicroBatch(np.array([7, 3, 49, 0]), np.arange(10), 4)]
    parts = batch.input_ids.split(batch.lengths.tolist())
    for row, part in zip(batch.index.tolist(), parts, strict=True):
        assert part.tolist() == ids[offsets[row] : offsets[row + 1]].tolist()
    assert batch.token_type_ids.tolist() == [x % 2 for x in batch.input_ids.tolist()]
    assert batch.micro_batches == 4
    assert batch.step_labels is not None
    assert batch.step_labels.tolist() == list(range(10))


def test_batches_draw_nothing_from_the_training_generator(
    tokenizer_folder: str, texts_csv: Callable[..., Path]
) -> None:
    data = TextClassificationData(tokenizer_folder, str(texts_csv(60)), num_workers=1)
    data.setup("fit")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_resampling_evens_out_the_classes(tokenizer_folder: str, texts_csv: Callable[..., Path]) -> None:
    data = TextClassificationData(tokenizer_folder, str(texts_csv(60)), resampling_power=1.0)
    data.setup("fit")
    labels = torch.cat([batch.labels for batch in data.train_dataloader()])
    assert labels.bincount().tolist() == [24, 24]
    assert data.class_counts().tolist() == [32, 16], "counted before resampling"


@pytest.mark.parametrize("option", ["overfit_batches", "accumulation"])
def test_trainer_options_that_break_the_plan(
    tokenizer_folder: str, texts_csv: Callable[..., Path], option: str
) -> None:
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    extra: dict[str, Any] = {"overfit_batches": 2}
    if option == "accumulation":
        extra = {"callbacks": [GradientAccumulationScheduler({0: 2})]}
    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, **extra)
    with pytest.raises(
        ValueError, match=r"trainer\.(overfit_batches: 2|callbacks: GradientAccumulationScheduler)"
    ):
        trainer.fit(Model(), TextClassificationData(tokenizer_folder, str(texts_csv(60))))


def _fit_and_predict(tokenizer: str, source: str, folder: str) -> dict[str, Any]:
    class Predicts(Model):
        def predict_step(self, batch: TextBatch) -> list[int]:
            return batch.index.tolist()

    data = TextClassificationData(tokenizer, source, batch_size=12, evaluation_max_tokens=32)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        num_sanity_val_steps=0,
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    model = Predicts()
    trainer.fit(model, data)
    loaders: list[DataLoader[Any]] = [trainer.train_dataloader, trainer.val_dataloaders]  # type: ignore[list-item]
    predicted = trainer.predict(model, data)
    return {
        "samplers": [type(loader.sampler).__name__ for loader in loaders],
        "seen": model.seen,
        "validated": model.validated,
        "predicted": [row for batch in predicted or [] for row in batch],
    }


def test_two_ranks_keep_the_samplers_and_share_the_steps(
    tmp_path: Path, tokenizer_folder: str, texts_csv: Callable[..., Path]
) -> None:
    """Lightning replaces a sampler that is no DistributedSampler (Lightning #1995)."""
    source = str(texts_csv(60))
    ranks = on_two_ranks(_fit_and_predict, tmp_path, tokenizer_folder, source, str(tmp_path))
    for rank in ranks:
        assert rank["samplers"] == [TokenBudgetSampler.__name__, SortedBatchSampler.__name__]
    alone = TextClassificationData(tokenizer_folder, source, batch_size=12)
    alone.setup("fit")
    sampler = alone.train_dataloader().sampler
    assert isinstance(sampler, TokenBudgetSampler)
    expected = [set(step.tolist()) for epoch in range(2) for step in sampler.steps(epoch)]
    for step, rows in enumerate(expected):
        shared = [row for rank in ranks for at, *part in rank["seen"] if at == step for row in part]
        assert len(shared) == len(rows)
        assert set(shared) == rows
    for key, times in (("validated", 2), ("predicted", 1)):
        assert sorted(row for rank in ranks for row in rank[key]) == sorted([*range(6)] * times)
        assert all(rank[key] for rank in ranks)


@pytest.mark.packaged
def test_sms_spam_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BERTLAB_CACHE")
    data = TextClassificationData("packaged:minilm_l6_v2", "packaged:sms_spam", deduplicate=True)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert {name: len(data.dataset(name)) for name in ("train", "validation", "test")} == {
        "train": 4128,
        "validation": 516,
        "test": 516,
    }
    assert data.class_counts().tolist() == [3614, 514]
    assert 24 < data.dataset("train").lengths.mean() < 26
    batch = next(iter(data.train_dataloader()))
    assert batch.size == 32
