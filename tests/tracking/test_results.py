"""What is printed at the end of a test: metrics, those of each type of entity apart."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bertlab.tracking.results import Results


def test_types_of_entities_have_a_table_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"f1": 0.5, "loss": 0.25, "precision_geo-loc": 0.75, "recall_geo-loc": 0.5, "f1_geo-loc": 0.6}
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        callback_metrics={f"test/{key}": torch.tensor(value) for key, value in metrics.items()},
        default_root_dir=str(tmp_path),
    )
    task: Any = torch.nn.Identity()
    Results().on_test_end(trainer, task)
    lines = [line.replace(" ", "") for line in capsys.readouterr().out.splitlines()]
    assert "│F1│0.5000│" in lines
    assert "│geo-loc│0.7500│0.5000│0.6000│" in lines
    assert sum("geo-loc" in line for line in lines) == 1
    kept = json.loads((tmp_path / "results.json").read_text())["test"]
    assert kept == {key: pytest.approx(value) for key, value in metrics.items()}
