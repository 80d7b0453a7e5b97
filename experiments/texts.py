"""The texts that all systems work on: drawn once from the splits of a data module, as files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bertlab.data.rows import TextRows
from bertlab.data.text_classification import TextClassificationData


def sms_spam() -> TextClassificationData:
    """The SMS Spam collection, with its usual division."""
    return TextClassificationData(
        tokenizer="packaged:minilm_l6_v2", source="packaged:sms_spam", deduplicate=True
    )


def write_splits(
    folder: Path,
    train_rows: int,
    validation_rows: int,
    test_rows: int | None,
    data: TextClassificationData | None = None,
) -> str:
    """Write train.csv, validation.csv and test.csv.

    Args:
        folder: of the files.
        train_rows: drawn from the training split.
        validation_rows: drawn from the validation split.
        test_rows: drawn from the test split; if there are more, from all splits together (where only the speed
            of prediction counts). None: the test split.
        data: where the rows come from; `sms_spam()`.

    Returns:
        The folder, as a data source.

    Raises:
        ValueError: there are not so many rows.
    """
    data = data or sms_spam()
    splits = data.splits("test")
    names = data.label_names
    assert names is not None
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    pairs_of = {name: _pairs(rows) for name, rows in splits.items()}
    everything = [pair for pairs in pairs_of.values() for pair in pairs]
    test_rows = test_rows or len(pairs_of["test"])
    tested = pairs_of["test"] if test_rows <= len(pairs_of["test"]) else everything
    parts = {
        "train": _draw(pairs_of["train"], train_rows, generator),
        "validation": _draw(pairs_of["validation"], validation_rows, generator),
        "test": _draw(tested, test_rows, generator),
    }
    for split, pairs in parts.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows((text, names[label]) for text, label in pairs)
    return str(folder)


def _pairs(rows: TextRows) -> list[tuple[str, int]]:
    return list(zip(rows.texts, np.asarray(rows.labels).tolist(), strict=True))


def _draw(pairs: list[tuple[str, int]], number: int, generator: np.random.Generator) -> list[tuple[str, int]]:
    if number > len(pairs):
        raise ValueError(f"{number} rows wanted, there are {len(pairs)}")
    return [pairs[row] for row in generator.permutation(len(pairs))[:number].tolist()]
