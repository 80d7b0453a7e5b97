"""A training that goes on with other settings says which."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.cli import main
from bertlab.tracking import changed_settings as module
from bertlab.tracking.changed_settings import changed_settings
from tests.system.tiny_project import write_project

MIXOUT = "bertlab.callbacks.mixout.Mixout"
STAGED = "bertlab.callbacks.staged_unfreezing.StagedUnfreezing"


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_of_another_class_only_what_both_have_is_compared() -> None:
    before = {"model": {"loss": {"class_path": "a.Cross", "init_args": {"weight": 1, "smoothing": 0.1}}}}
    now = {"model": {"loss": {"class_path": "b.Focal", "init_args": {"gamma": 2, "weight": None}}}, "seed": 3}
    assert changed_settings(before, now) == {
        "model.loss.class_path": ("a.Cross", "b.Focal"),
        "model.loss.weight": (1, None),
    }


def test_plain_lists_are_values_and_classes_come_and_go() -> None:
    before = {"labels": ["a", "b"], "callbacks": [{"class_path": "x.A"}, {"class_path": "x.B"}]}
    assert changed_settings(before, {"labels": ["a"], "callbacks": [{"class_path": "x.B"}]}) == {
        "labels": (["a", "b"], ["a"]),
        "callbacks.A": ("there", ""),
    }


def test_a_resumed_run(in_tmp: Path, recwarn: pytest.WarningsRecorder) -> None:
    config = write_project(in_tmp, callbacks=[])
    fit = ["fit", "--config", str(config), "--checkpoints.every_steps", "2", "--run.version", "0"]
    staged = [f"--trainer.callbacks+={STAGED}", "--trainer.callbacks.spread_fraction"]
    main([*fit, *staged, "0.5", "--trainer.max_epochs", "1"])
    known = events(in_tmp)
    recwarn.clear()
    main([*fit, *staged, "0.5", "--trainer.max_epochs", "1", "--ckpt_path", "last"])
    assert [str(w.message) for w in recwarn if "other settings" in str(w.message)] == []
    assert events(in_tmp) == known

    more = [*staged, "0.9", f"--trainer.callbacks+={MIXOUT}", "--trainer.max_epochs", "2"]
    main([*fit, *more, "--ckpt_path", "last"])
    (message,) = [str(w.message) for w in recwarn if "other settings" in str(w.message)]
    assert "StagedUnfreezing.spread_fraction: 0.5 → 0.9" in message
    assert "trainer.callbacks.Mixout: (nothing) → there" in message
    assert "max_epochs" not in message  # a longer training is as one that was so long from the beginning


def events(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "runs/run/0/timeline.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
