"""Every strategy's fragment trains a real BERT through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bertlab.cli import main
from tests.configs.test_configs import CONFIGS, QUIET, name_of

FRAGMENTS = sorted(CONFIGS.glob("callbacks/**/*.yaml"))


@pytest.mark.parametrize("path", FRAGMENTS, ids=name_of)
def test_a_few_steps(path: Path, on_its_data: Callable[[Path], list[str]], in_tmp: Path) -> None:
    text = path.read_text()
    name = yaml.safe_load(text)["class_path"].rpartition(".")[2]
    main(["fit", *on_its_data(path), "--trainer.max_epochs=6", "--trainer.limit_train_batches=3", *QUIET])
    (run,) = in_tmp.glob("runs/*/0")
    events = [json.loads(line) for line in (run / "timeline.jsonl").open()]
    assert name in {event["strategy"] for event in events}
    waits = "until_plateau" in text  # which may not come
    assert waits or "undone" not in {event["what"] for event in events}
    assert (run / "checkpoints" / "best.ckpt").exists()
