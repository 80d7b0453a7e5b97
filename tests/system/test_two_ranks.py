"""Two processes over gloo do, with all strategies, what one process does with the same global batches."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.system.tiny_project import (
    STRATEGIES,
    bertlab,
    bertlab_from_scratch,
    bertlab_on_two_ranks,
    write_project,
    write_words_project,
)


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same_curves(one: Path, other: Path) -> None:
    """Every logged number, to rounding."""
    mine, theirs = table(one), table(other)
    assert len(mine) == len(theirs)
    assert mine[0].keys() == theirs[0].keys()
    assert sum(bool(row["train/loss"]) for row in mine) > 20
    for row, twin in zip(mine, theirs, strict=True):
        for key, value in row.items():
            if not value:
                assert twin[key] == "", key
            else:
                # Rates follow from the step alone; the rest is computed in another order.
                near = {"rel": 1e-6, "abs": 0.0} if key.startswith("lr/") else {"rel": 1e-4, "abs": 5e-5}
                assert float(twin[key]) == pytest.approx(float(value), **near), (key, row["step"])


#: As a user types it: Lightning starts the second process.
FLAGS = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
WATCHED = "same_on_both_ranks.SameOnBothRanks"
DDP = {"strategy": "ddp", "callbacks+": [{"class_path": WATCHED}]}
FSDP2 = {
    "strategy": {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {
            "data_parallel_size": 2,
            "tensor_parallel_size": 1,
            "save_distributed_checkpoint": False,
        },
    }
}


@pytest.mark.parametrize(
    ("ranks", "write"),
    [
        (FLAGS, write_project),
        (DDP | {"accumulate_grad_batches": 2}, write_project),
        (FSDP2, write_project),
        (DDP, write_words_project),
    ],
    ids=["ddp, started by flags", "ddp, two micro-batches a rank", "fsdp2", "ddp, tags of words"],
)
def test_two_ranks_are_one_rank(
    ranks: dict[str, Any] | list[str], write: Callable[..., Path], tmp_path: Path
) -> None:
    config = write(tmp_path)
    found = yaml.safe_load(config.read_text())
    # Each rank draws dropout masks of its own, so curves can be equal only without dropout.
    found["model"]["init_args"]["dropout"] = 0.0
    found["model"]["init_args"]["encoder"]["init_args"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    config.write_text(yaml.safe_dump(found, sort_keys=False))
    if ranks is FSDP2:
        found["trainer"]["callbacks"] = STRATEGIES[1:]  # it refuses to freeze
        # Adam divides by the size of a gradient, so where gradients are nothing but rounding it follows rounding.
        found["model"]["init_args"]["optimizer"] = {
            "class_path": "torch.optim.SGD",
            "init_args": {"lr": 0.05, "momentum": 0.5, "fused": False},
        }
        config.write_text(yaml.safe_dump(found, sort_keys=False))
    bertlab(tmp_path, "fit", "--config", str(config), "--run.name", "one")
    two = ["fit", "--config", str(config), "--run.name", "two"]
    if isinstance(ranks, list):
        bertlab_from_scratch(tmp_path, *two, *ranks, f"--trainer.callbacks+={WATCHED}")
    else:
        overlay = tmp_path / "two.yaml"
        overlay.write_text(yaml.safe_dump({"trainer": {"devices": 2} | ranks}))
        bertlab_on_two_ranks(tmp_path, *two, "--config", str(overlay), "--run.version", "0")
    one_run, two_run = tmp_path / "runs/one/0", tmp_path / "runs/two/0"
    assert [path.name for path in two_run.parent.iterdir()] == ["0"]
    assert_same_curves(one_run, two_run)
    events = [[json.loads(line) for line in (run / "timeline.jsonl").open()] for run in (one_run, two_run)]
    assert events[0] == events[1]
    assert len({event["strategy"] for event in events[0]}) == len(found["trainer"]["callbacks"])
    weights = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (one_run, two_run)
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=5e-5, msg=name)
