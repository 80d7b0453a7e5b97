"""Every strategy's fragment trains a real BERT through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bertlab.cli import main
from tests.configs.test_configs import CONFIGS, QUIET, name_of, run_for

FRAGMENTS = sorted(CONFIGS.glob("callbacks/**/*.yaml"))


@pytest.mark.parametrize("path", FRAGMENTS, ids=name_of)
def test_a_few_steps(path: Path, tiny_bert: str, text_folder: str, word_folder: str, in_tmp: Path) -> None:
    name = yaml.safe_load(path.read_text())["class_path"].rpartition(".")[2]
    config, data = run_for(path, text_folder, word_folder)
    own = ["--config", str(config), "--trainer.callbacks=[]", f"--trainer.callbacks+={path}"]
    tiny = ["--model.encoder.source", tiny_bert, *data]
    length = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu"]
    main(["fit", *own, *tiny, *length, *QUIET])
    run = in_tmp / "runs" / config.stem / "0"
    events = [json.loads(line) for line in (run / "timeline.jsonl").open()]
    assert {event["strategy"] for event in events} == {name}
    assert (run / "results.json").exists()
