"""A project in a folder, a plan of it and a fit of it, to hold one against the other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from bertlab.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
RUN = "run.yaml"
QUIET = (
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--wandb.mode=disabled",
)
FACTS = "--trainer.callbacks+=step_facts.StepFacts"
UNTIMED = "--plan.timed_steps=0"


def strategy(name: str, **arguments: Any) -> dict[str, Any]:
    """A strategy of bertlab as a configuration names it."""
    module = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    return {"class_path": f"bertlab.callbacks.{module}.{name}", "init_args": arguments}


def write_run(
    encoder: str, source: str, strategies: list[dict[str, Any]] | None = None, **changes: Any
) -> list[str]:
    """Write run.yaml, of 12 steps an epoch and 3 epochs, into the working directory; returns flags.

    Args:
        encoder: folder of it.
        source: a CSV of texts with labels.
        strategies: configurations of callbacks.
        changes: of `model` and `data` (their init_args) and `trainer`.
    """
    config = {
        "model": {
            "class_path": "bertlab.tasks.sequence_classification.SequenceClassification",
            "init_args": {
                "encoder": {
                    "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
                    "init_args": {"source": encoder},
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
                **changes.get("model", {}),
            },
        },
        "data": {
            "class_path": "bertlab.data.text_classification.TextClassificationData",
            "init_args": {"source": source, "batch_size": 16, **changes.get("data", {})},
        },
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "callbacks": strategies or [],
            **changes.get("trainer", {}),
        },
        "run": {"test_after_fit": False},
    }
    Path(RUN).write_text(yaml.safe_dump(config, sort_keys=False))
    return ["--config", RUN]


def plan(*flags: str) -> list[dict[str, str]]:
    """`bertlab plan`: the rows of plan.csv of the newest plan."""
    main(["plan", *flags, *QUIET])
    folders = sorted(Path("runs").glob("*/plans/*/plan.csv"), key=lambda path: path.stat().st_mtime_ns)
    with folders[-1].open() as file:
        return list(csv.DictReader(file))


def fit(*flags: str) -> tuple[list[dict[str, Any]], list[int]]:
    """`bertlab fit`: what held in each optimizer step, and the steps taken before each validation."""
    seen = Path("steps.jsonl")
    seen.unlink(missing_ok=True)
    main(["fit", *flags, *QUIET, FACTS])
    lines = [json.loads(line) for line in seen.read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    return steps, [line["validation_after"] for line in lines if "validation_after" in line]


def held(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Rows of plan.csv in the form of what `fit` saw."""
    found: list[dict[str, Any]] = []
    for row in rows:
        weights = [value for key, value in row.items() if key.startswith("class_weight/")]
        found.append(
            {
                "step": int(row["step"]),
                "epoch": int(row["epoch"]),
                "lr": {k.removeprefix("lr/"): float(v) for k, v in row.items() if k.startswith("lr/")},
                "trained": {
                    k.removeprefix("trained/"): float(v) for k, v in row.items() if k.startswith("trained/")
                },
                "parameters": int(row["parameters"]),
                "class_weights": [float(weight) for weight in weights] if any(weights) else None,
                "stages": {
                    k.removeprefix("stage/"): int(v) for k, v in row.items() if k.startswith("stage/")
                },
                "sequences": int(row["data/sequences"]),
                "tokens": int(row["data/tokens"]),
            }
        )
    return found


def assert_plan_is_fit(rows: list[dict[str, str]], steps: list[dict[str, Any]]) -> None:
    """What the plan says of each step is what the fit did in it."""
    assert len(rows) == len(steps)
    for planned, seen in zip(held(rows), steps, strict=True):
        assert planned == {key: seen[key] for key in planned}, f"step {seen['step']}"


def validations(rows: list[dict[str, str]]) -> list[int]:
    """Steps taken before each validation, as the plan says."""
    return [int(row["step"]) + 1 for row in rows if row["validates"] == "1"]
