"""An epoch that is cut short ends between two optimizer steps, or training is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, Trainer

from bertlab.data.loader import check_limit
from bertlab.data.multi_task import MultiTaskData
from bertlab.data.pretraining import PretrainingData
from bertlab.data.text_classification import TextClassificationData
from tests.corpus.small_corpus import write_store


def trainer(**options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", max_epochs=1, logger=False, **quiet, **options)


@pytest.mark.parametrize(
    ("limit", "accumulate", "such_as"),
    [(1, 2, 2), (5, 3, 6), (13, 4, 12), (0.25, 4, 8), (0.99, 12, 24)],
)
def test_refused(limit: float, accumulate: int, such_as: int) -> None:
    """Of 24 micro-batches an epoch; 0.25 of them are 6, and 0.99 of them 23."""
    message = (
        rf"^trainer\.limit_train_batches: {limit} takes \d+ of the 24 micro-batches .*"
        rf"trainer\.accumulate_grad_batches {accumulate}: .*multiple of {accumulate}, such as {such_as}$"
    )
    with pytest.raises(ValueError, match=message):
        check_limit(trainer(limit_train_batches=limit, accumulate_grad_batches=accumulate), 24)


@pytest.mark.parametrize(
    ("limit", "accumulate"),
    [(6, 3), (25, 4), (1.0, 4), (0.5, 4), (0.26, 3), (0, 4), (5, 1), (0.3, 1)],
)
def test_accepted(limit: float, accumulate: int) -> None:
    check_limit(trainer(limit_train_batches=limit, accumulate_grad_batches=accumulate), 24)


def test_a_development_run_may_take_a_part_of_a_step() -> None:
    check_limit(trainer(fast_dev_run=1, accumulate_grad_batches=4), 24)


@pytest.mark.parametrize("kind", ["texts", "tasks", "pretraining"])
def test_every_data_module_refuses(kind: str, tokenizer_folder: str, texts_csv: Any, tmp_path: Path) -> None:
    texts = partial(TextClassificationData, source=str(texts_csv(60)), batch_size=12)
    data: LightningDataModule
    if kind == "pretraining":
        data = PretrainingData(str(write_store(tmp_path / "store", documents=12)), batch_size=10)
    elif kind == "tasks":
        data = MultiTaskData({"one": texts, "other": texts}, tokenizer_folder)
    else:
        data = texts(tokenizer_folder)
    data.trainer = trainer(accumulate_grad_batches=2)
    data.setup("fit")
    batches = len(data.train_dataloader())
    assert batches % 2 == 0
    assert batches > 2
    for limit in (batches - 1, (batches - 0.5) / batches):
        data.trainer = trainer(limit_train_batches=limit, accumulate_grad_batches=2)
        with pytest.raises(
            ValueError, match=rf"takes {batches - 1} of the {batches} micro-batches .*batches 2:"
        ):
            data.train_dataloader()
