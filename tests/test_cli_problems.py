"""Pairs of texts, several labels a text, and numbers, through the command line: scores are those of the answers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from tests.system.tiny_project import STRATEGIES, bertlab, write_project
from tests.tracking.offline_wandb import history

Rows = list[dict[str, Any]]
LABELS = ["greeting", "offer", "urgent"]
#: A fact of an event in W&B.
EVENT = re.compile("strategy/[^/]+/[^/]+/.")


@pytest.fixture
def project(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """run.yaml of the tiny project, whose texts are those of texts.csv; W&B as it is by default."""
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    monkeypatch.setenv("HOME", str(in_tmp / "home"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config = write_project(in_tmp, callbacks=[], max_epochs=2)
    content = yaml.safe_load(config.read_text())
    del content["wandb"]
    config.write_text(yaml.safe_dump(content))
    return config


def texts() -> list[str]:
    with Path("texts.csv").open() as file:
        return [row["text"] for row in csv.DictReader(file)]


def pairs() -> Rows:
    """Whether one of the two is spam; of every third pair that is denied, so that not all answers will be right."""
    with Path("texts.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        {
            "a": a["text"],
            "b": b["text"],
            "spam": "yes" if i % 3 and "spam" in (a["label"], b["label"]) else "no",
        }
        for i, (a, b) in enumerate(zip(rows[:120], rows[120:], strict=True))
    ]


def several() -> Rows:
    return [
        {"text": t, "label": [name for i, name in enumerate(LABELS) if len(t) % (i + 2) == 0]}
        for t in texts()
    ]


def numbers() -> Rows:
    return [{"text": t, "label": len(t) / 10} for t in texts()]


def check_pairs(scores: dict[str, Any], answers: Rows, rows: Rows) -> None:
    known = {(row["a"], row["b"]): row["spam"] for row in rows}
    true = [known[row["text"], row["text_pair"]] for row in answers]
    found = [row["predicted"] for row in answers]
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(true, found), abs=1e-6)
    assert scores["macro_f1"] == pytest.approx(f1_score(true, found, average="macro"), abs=1e-6)


def check_several(scores: dict[str, Any], answers: Rows, rows: Rows) -> None:
    known = {row["text"]: row["label"] for row in rows}
    true = [[name in known[row["text"]] for name in LABELS] for row in answers]
    found = [[name in row["predicted"] for name in LABELS] for row in answers]
    assert scores["micro_f1"] == pytest.approx(
        f1_score(true, found, average="micro", zero_division=0), abs=1e-6
    )
    for row in answers:
        assert row["predicted"] == [name for name in LABELS if row[f"probability_{name}"] > 0.5]


def check_numbers(scores: dict[str, Any], answers: Rows, rows: Rows) -> None:
    known = {row["text"]: row["label"] for row in rows}
    true, found = [known[row["text"]] for row in answers], [row["predicted"] for row in answers]
    assert scores["pearson"] == pytest.approx(pearsonr(true, found).statistic, abs=1e-4)
    error = sum((t - f) ** 2 for t, f in zip(true, found, strict=True)) / len(true)
    assert scores["mse"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize(
    ("write", "flags", "check"),
    [
        (
            pairs,
            [
                "--data.text_column=a",
                "--data.text_pair_column=b",
                "--data.label_column=spam",
                "--model.optimizer.lr=0.01",
                "--trainer.max_epochs=10",
            ],
            check_pairs,
        ),
        (
            several,
            [
                "--data.problem=multi_label",
                "--model.problem=multi_label",
                f"--trainer.callbacks={json.dumps(STRATEGIES[:3])}",
            ],
            check_several,
        ),
        (numbers, ["--data.problem=regression", "--model.problem=regression"], check_numbers),
    ],
    ids=["pairs", "multi_label", "regression"],
)
def test_fit_and_predict(
    write: Callable[[], Rows],
    flags: list[str],
    check: Callable[[dict[str, Any], Rows, Rows], None],
    project: Path,
    in_tmp: Path,
) -> None:
    rows = write()
    (in_tmp / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--config", str(project), "--data.source=my.jsonl", *flags]
    printed = bertlab(in_tmp, "fit", *common).stdout
    bertlab(in_tmp, "predict", *common, "--ckpt_path=best")
    run = in_tmp / "runs/run/0"
    scores = json.loads((run / "results.json").read_text())["test"]
    answers = pq.read_table(run / "predictions/test.parquet").to_pylist()
    assert len(answers) == round(len(rows) / 10)
    check(scores, answers, rows)
    if write is several:
        check_wandb(run)
    if write is pairs:
        check_printed(printed, answers, rows)
        check_own_file(common, run, answers)


def check_printed(printed: str, answers: Rows, rows: Rows) -> None:
    """The table at the end says, by names that a reader knows, what scikit-learn says of the answers."""
    known = {(row["a"], row["b"]): row["spam"] for row in rows}
    true = [known[row["text"], row["text_pair"]] for row in answers]
    found, likely = ([row[key] for row in answers] for key in ("predicted", "probability_yes"))
    assert len(set(found)) == 2, "answers that are all alike say little of their scores"
    of_yes: dict[str, Any] = {"pos_label": "yes"}
    expected = {
        "accuracy": accuracy_score(true, found),
        "macro F1": f1_score(true, found, average="macro"),
        "yes precision": precision_score(true, found, **of_yes),
        "yes recall": recall_score(true, found, **of_yes),
        "yes F1": f1_score(true, found, **of_yes),
        "yes average precision": average_precision_score(true, likely, **of_yes),
        "MCC": matthews_corrcoef(true, found),
        "calibration error": calibration_error(true, found, likely),
    }
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    table = {cells[0]: cells[1] for cells in lines if len(cells) == 2}
    assert list(table) == [*expected, "loss"]
    for name, value in expected.items():
        assert float(table[name]) == pytest.approx(value, abs=6e-5), name


def calibration_error(true: list[str], found: list[str], likely: list[float], bins: int = 15) -> float:
    """Guo et al. 2017, eq. 3: in bins of confidence, how far it is from the share of right answers."""
    confident = [max(p, 1 - p) for p in likely]
    right = [float(t == f) for t, f in zip(true, found, strict=True)]
    error = 0.0
    for place in range(bins):
        within = [i for i, c in enumerate(confident) if place < c * bins <= place + 1]
        error += abs(sum(right[i] - confident[i] for i in within)) / len(true)
    return error


def check_own_file(common: list[str], run: Path, answers: Rows) -> None:
    """A file without labels and with other columns beside, in another order: the same answers, row by row."""
    own = [{"n": i, "b": row["text_pair"], "a": row["text"]} for i, row in enumerate(reversed(answers))]
    with Path("own.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["n", "b", "a"])
        writer.writeheader()
        writer.writerows(own)
    bertlab(Path.cwd(), "predict", *common, "--ckpt_path=best", "--data.predict_source=own.csv")
    found = pq.read_table(run / "predictions/own.parquet").to_pylist()
    assert [(row["text"], row["text_pair"]) for row in found] == [(row["a"], row["b"]) for row in own]
    for row, same in zip(found, reversed(answers), strict=True):
        assert row["predicted"] == same["predicted"]
        assert row["probability_yes"] == pytest.approx(same["probability_yes"], abs=1e-6)


def check_wandb(run: Path) -> None:
    """A run of the command line that says nothing of W&B is kept offline: curves, and events as on its timeline."""
    (table,) = run.glob("wandb/offline-run-*/files/media/table/test/precision_recall*.json")
    content = json.loads(table.read_text())
    assert content["columns"] == ["class", "recall", "precision"]
    assert {row[0] for row in content["data"]} == set(LABELS)
    assert all(0 <= value <= 1 for row in content["data"] for value in row[1:])
    words = (
        "bertlab.tasks.sequence_classification.SequenceClassification",
        "lr/layer.0",
        "run-checkpoint",
    )
    # Strings are plain text in the offline files of W&B.
    kept = b"".join(path.read_bytes() for path in run.glob("wandb/offline-run-*/*.wandb"))
    assert [word for word in words if word.encode() not in kept] == []
    events = [json.loads(line) for line in (run / "timeline.jsonl").open()]
    assert {f"{event['strategy']}/{event['what']}" for event in events} >= {
        "StagedUnfreezing/stage",
        "StagedUnfreezing/trainable",
        "LrRestarts/restart",
        "CostWeightedLoss/class_weights",
    }
    # Metrics of strategies have a part less: the stage that each is in is logged with the loss of a step.
    told = [entry for entry in history(run) if any(EVENT.match(key) for key in entry)]
    told = [{key: value for key, value in entry.items() if key[0] != "_"} for entry in told]
    assert told == [entry_of(event) for event in events]


def entry_of(event: dict[str, Any]) -> dict[str, Any]:
    """What W&B has to hold of an event of the timeline: `strategy/<name>/<what>/<fact>`, and the step that it is of."""
    entry: dict[str, Any] = {"trainer/global_step": event["step"]}
    for fact, value in event["facts"].items():
        key = f"strategy/{event['strategy']}/{event['what']}/{fact}"
        if isinstance(value, dict):
            entry |= {f"{key}/{name}": inner for name, inner in value.items()}
        elif isinstance(value, list):
            entry[key] = " ".join(value)
        elif value is not None:
            entry[key] = value
    return entry
