"""The README's strategy, as a newcomer would copy it: it trains, resumes and shows up in the timeline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
import yaml

from tests.bits import assert_equal
from tests.system.test_kill import killed
from tests.system.tiny_project import bertlab, bertlab_from_scratch, write_project

README = Path(__file__).parents[2] / "README.md"


def test_the_strategy_of_the_readme(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "gradual.py").write_text(code.group(1))
    config = write_project(tmp_path, callbacks=[])
    own = [
        "fit",
        "--config",
        str(config),
        "--trainer.callbacks+=gradual.Gradual",
        "--trainer.callbacks.decay",
        "0.8",
    ]
    bertlab_from_scratch(tmp_path, *own, "--run.name", "whole")
    whole = tmp_path / "runs/whole/0"
    events = [json.loads(line) for line in (whole / "timeline.jsonl").open()]
    trained = [event["facts"]["blocks"] for event in events if event["what"] == "trainable"]
    assert [len(blocks) for blocks in trained] == [2, 3, 4]
    assert trained[0] == ["pooler", "head"]
    assert {event["strategy"] for event in events} == {"Gradual"}
    kept_config = yaml.safe_load((whole / "config.yaml").read_text())
    assert kept_config["trainer"]["callbacks"][-1]["class_path"] == "gradual.Gradual"

    # Killed in the middle of the second epoch, it goes on.
    own += ["--run.name", "killed", "--checkpoints.every_steps", "2"]
    assert killed(tmp_path, own, after_step=17, delay=0.0)
    bertlab(tmp_path, *own, "--ckpt_path", "last")
    runs = (tmp_path / "runs/killed/0", whole)
    kept = [torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in runs]
    assert_equal(kept[0], kept[1])
    assert (runs[0] / "timeline.jsonl").read_text() == (whole / "timeline.jsonl").read_text()
