"""The README's strategy, as a newcomer would copy it: it trains, resumes, keeps ranks equal and is on the timeline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.bits import assert_equal
from tests.system.test_kill import killed, state
from tests.system.tiny_project import (
    bertlab,
    bertlab_from_scratch,
    bertlab_on_two_ranks,
    write_project,
)

README = Path(__file__).parents[2] / "README.md"


def write_own(folder: Path) -> list[str]:
    """gradual.py, with the code of the README, beside a project; returns the command line of its fit."""
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    (folder / "gradual.py").write_text(code.group(1))
    config = write_project(folder, callbacks=[])
    own = ["--trainer.callbacks+=gradual.Gradual", "--trainer.callbacks.decay", "0.8"]
    return ["fit", "--config", str(config), *own, "--checkpoints.every_steps", "2"]


def test_the_strategy_of_the_readme(tmp_path: Path) -> None:
    own = write_own(tmp_path)
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
    own += ["--run.name", "killed"]
    assert killed(tmp_path, own, after_step=17, delay=0.0)
    bertlab(tmp_path, *own, "--ckpt_path", "last")
    run = tmp_path / "runs/killed/0"
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal(state(run, name), state(whole, name), name)
    for name in ("metrics.csv", "timeline.jsonl"):
        assert (run / name).read_text() == (whole / name).read_text(), name


def test_it_keeps_two_ranks_equal(tmp_path: Path) -> None:
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", "--run.version=0"]
    watched = "--trainer.callbacks+=same_on_both_ranks.SameOnBothRanks"
    bertlab_on_two_ranks(tmp_path, *write_own(tmp_path), watched, *ranks)
    run = tmp_path / "runs/run/0"
    events = [json.loads(line) for line in (run / "timeline.jsonl").open()]
    assert [len(event["facts"]["blocks"]) for event in events if event["what"] == "trainable"] == [2, 3, 4]
    reached = state(run)
    assert reached["global_step"] == 36
