"""PredictionWriter: every row once, in order, from all ranks, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bertlab.prediction.writer import PredictionWriter, with_answers

TABLE = pa.table({"text": ["a", "b", "c"]})
SENTENCES = pa.table({"id": ["k", "l"], "words": [["Ann", "Lee", "sings"], ["Rome"]]})


def predict(folder: Path, batches: list[dict[str, Any]], problem: str = "single_label", **data: Any) -> Path:
    class Data:
        label_names = data.get("names", ("ham", "spam"))
        predict_source = data.get("source")

        def predict_table(self) -> pa.Table:
            return data.get("table", TABLE)

        def class_counts(self) -> torch.Tensor:
            return torch.ones(2)

    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=True, datamodule=Data())
    module: Any = SimpleNamespace(problem=problem)
    writer = PredictionWriter(folder)
    writer.on_predict_start(trainer, module)
    for i, batch in enumerate(batches):
        writer.on_predict_batch_end(trainer, module, batch, None, i)
    writer.on_predict_end(trainer, module)
    return folder


def batch(index: list[int], probabilities: list[list[float]]) -> dict[str, torch.Tensor]:
    return {"index": torch.tensor(index), "probabilities": torch.tensor(probabilities)}


def test_rows_come_in_order_and_once(tmp_path: Path) -> None:
    batches = [batch([2, 0], [[0.25, 0.75], [1.0, 0.0]]), batch([1, 0], [[0.5, 0.5], [1.0, 0.0]])]
    predict(tmp_path, batches, source="folder/my.texts.csv")
    assert pq.read_table(tmp_path / "my.texts.parquet").to_pydict() == {
        "text": ["a", "b", "c"],
        "predicted": ["ham", "ham", "spam"],
        "probability_ham": [1.0, 0.5, 0.25],
        "probability_spam": [0.0, 0.5, 0.75],
    }


def test_a_row_without_an_answer_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 of 3 rows got no prediction, the first of them row 1"):
        predict(tmp_path, [batch([2, 0], [[0.25, 0.75], [1.0, 0.0]])])
    assert list(tmp_path.iterdir()) == []


def test_regression(tmp_path: Path) -> None:
    answers = {"index": torch.tensor([1, 0, 2]), "values": torch.tensor([0.5, -1.0, 2.0])}
    predict(tmp_path, [answers], problem="regression", names=None)
    assert pq.read_table(tmp_path / "test.parquet").to_pydict() == {
        "text": ["a", "b", "c"],
        "predicted": [-1.0, 0.5, 2.0],
    }


WORDS = batch(
    [3, 0, 2, 1],
    [[0.5, 0.25, 0.125, 0.125], [0.0, 0.75, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.5, 0.0]],
)


def test_sentences_have_tags_and_entities(tmp_path: Path) -> None:
    names = ("O", "B-person", "I-person", "I-place")
    predict(tmp_path, [WORDS], problem="entities", names=names, table=SENTENCES, source="my.txt")
    table = pq.read_table(tmp_path / "my.parquet").to_pydict()
    assert table == {
        "id": ["k", "l"],
        "words": [["Ann", "Lee", "sings"], ["Rome"]],
        "tags": [["B-person", "I-person", "O"], ["O"]],
        "probabilities": [[0.75, 0.5, 1.0], [0.5]],
        "entities": [[{"type": "person", "start": 0, "end": 2, "text": "Ann Lee", "score": 0.625}], []],
    }


def test_tags_that_are_no_entities(tmp_path: Path) -> None:
    predict(tmp_path, [WORDS], problem="tags", names=("V", "N", "P", "X"), table=SENTENCES)
    table = pq.read_table(tmp_path / "test.parquet")
    assert table.column_names == ["id", "words", "tags", "probabilities"]
    assert table["tags"].to_pylist() == [["N", "P", "V"], ["V"]]


def test_a_word_without_an_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 of 4 words got no prediction, the first of them word 0"):
        predict(tmp_path, [batch([1, 2], [[1.0, 0.0]] * 2)], names=("O", "B-x"), table=SENTENCES)


def test_several_labels() -> None:
    table = with_answers(TABLE, torch.tensor([[0.9, 0.6], [0.1, 0.2], [0.5, 0.7]]), ["x", "y"], several=True)
    assert table["predicted"].to_pylist() == [["x", "y"], [], ["y"]]


def test_no_rows() -> None:
    table = with_answers(
        pa.table({"text": pa.array([], pa.string())}), torch.empty(0, 2), ["x", "y"], several=False
    )
    assert table.num_rows == 0
    assert table.column_names == ["text", "predicted", "probability_x", "probability_y"]


def test_data_module_that_does_not_know_its_rows(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(world_size=1, is_global_zero=True, datamodule=SimpleNamespace())
    module: Any = SimpleNamespace()
    with pytest.raises(TypeError, match=r"predict_table\(\), got SimpleNamespace"):
        PredictionWriter(tmp_path).on_predict_end(trainer, module)
