"""What strategies cost is measured of every file that a text classifier can be trained with."""

from __future__ import annotations

import csv
import random
import shutil
from itertools import count
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from bertlab.corpus.token_store import TOKENIZER
from experiments.cost_of_strategies import measured, run
from experiments.results import read_rows
from experiments.strategies import page
from experiments.study import load_study, run_study
from tests.corpus.small_corpus import write_store


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The quick study, of a BERT of six layers × 16."""
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))
    tokenizer = write_store(tmp_path / "store") / TOKENIZER
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(str(tokenizer))),
        hidden_size=16,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tmp_path / "model")
    shutil.copytree(tokenizer, tmp_path / "model", dirs_exist_ok=True)
    return {**load_study(run.FOLDER, quick=True), "source": str(tmp_path / "model")}


def write_texts(folder: Path, *rows: int) -> str:
    """As `experiments.texts.write_splits`: texts of 10 to 60 words of the store's pieces, one in four spam."""
    generator = random.Random(0)
    folder.mkdir(exist_ok=True)
    words = [f"{one}{other}" for one in "ab" for other in ascii_lowercase]
    for name, number in zip(("train", "validation", "test"), rows, strict=True):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for row in range(number):
                text = " ".join(generator.choices(words, k=generator.randint(10, 60)))
                writer.writerow([text, "ham" if row % 4 else "spam"])
    return str(folder)


#: Those that ask something of the data, one whose stages have to last, and those of other trainings.
FEW = (
    *("batch_size_warmup", "data_order", "frozen_trunk_cache", "private_training", "sequence_length_warmup"),
    *("gradient_surgery", "mask_rate_schedule"),
)


@pytest.mark.parametrize("some", [FEW, pytest.param(None, marks=pytest.mark.slow, id="all")])
def test_every_file_gets_a_row(
    some: tuple[str, ...] | None, study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [path for path in run.FRAGMENTS if some is None or path.stem in some]
    monkeypatch.setattr(run, "FRAGMENTS", files)
    monkeypatch.setattr(run, "in_its_own_process", measured.training)
    monkeypatch.setattr(
        run, "write_splits", lambda folder, *rows: write_texts(tmp_path / folder.name, *rows[:3])
    )
    monkeypatch.setattr(run, "token_store", lambda _: tmp_path / "store")
    peaks = count(1.0)  # many trainings in one process do not grow it
    monkeypatch.setattr(measured, "peak_mib", lambda: next(peaks))
    output, names = tmp_path / "quick", [path.stem for path in files]
    run_study(study, run.runs(study), output, fresh=False)
    rows = read_rows(output / "results.csv")
    assert [(row["training"], row["system"]) for row in rows] == [
        *(("classification", name) for name in ("none", *(n for n in names if n not in study["trainings"]))),
        *(("two_tasks", name) for name in ("none", "gradient_surgery")),
        *(("pretraining", name) for name in ("none", "mask_rate_schedule")),
    ]
    undone = {row["system"] for row in rows if row["undone"]}
    assert undone <= {"staged_unfreezing_by_hand"}  # whose plateau may not come
    assert all(row["step_seconds"] > 0 and row["last_step_seconds"] > 0 for row in rows)
    run.report(output)
    report = (output / "results.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in report for name in names)
    shown = page.page(dict.fromkeys([*names, "a_loss"], "what it does"), read_rows(page.SCORES), [], rows)
    assert [cells[0] for cells in shown[1:] if cells[-2:] == ["–", "–"]] == ["`a_loss`"]
