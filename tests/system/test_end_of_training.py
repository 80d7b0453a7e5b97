"""A run that is killed while its training ends leaves, once resumed, what one that was never killed leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import Killed

from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.cli import main
from bertlab.tracking.checkpoint_io import read_checkpoint
from bertlab.tracking.checkpoints import Checkpoints
from tests.bits import assert_equal
from tests.system.tiny_project import STRATEGIES, write_project

#: Two strategies of which each is told that training ends; an average, which is what is kept.
CALLBACKS: list[dict[str, Any]] = [
    STRATEGIES[0],
    {
        "class_path": "bertlab.callbacks.lr_restarts.LrRestarts",
        "init_args": {"cycle_epochs": 0.5, "save_cycles": True},
    },
    {
        "class_path": "bertlab.callbacks.exponential_average.ExponentialAverage",
        "init_args": {"decay": 0.9, "start_step": 3},
    },
]


#: A method before whose call at the end of training the process dies.
PLACES: dict[str, tuple[type, str]] = {
    "before the last cycle is kept": (LrRestarts, "on_stage_end"),
    "before the last save": (Checkpoints, "save"),
}


def killing(method: Callable[..., None]) -> Callable[..., None]:
    def patched(self: Any, of: Any) -> None:
        if getattr(of, "trainer", of).fit_loop.done:
            raise Killed
        method(self, of)

    return patched


def test_killed_while_training_ends(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    config = write_project(in_tmp, callbacks=CALLBACKS, max_epochs=1)
    every = ("--run.test_after_fit=false", "--checkpoints.every_steps=9")
    main(["fit", "--config", str(config), *every, "--run.name=whole"])
    whole = in_tmp / "runs/whole/0"
    files = {path.name: read_checkpoint(path) for path in (whole / "checkpoints").iterdir()}
    assert sorted(files) == ["best.ckpt", "cycle-0.ckpt", "cycle-1.ckpt", "last.ckpt"]
    events = [json.loads(line) for line in (whole / "timeline.jsonl").read_text().splitlines()]
    kept = [event["facts"]["file"] for event in events if event["what"] == "snapshot"]
    assert kept == ["checkpoints/cycle-0.ckpt", "checkpoints/cycle-1.ckpt"]
    for number, (kind, name) in enumerate(PLACES.values()):
        command = ["fit", "--config", str(config), *every, f"--run.name=killed-{number}"]
        with monkeypatch.context() as patch:
            patch.setattr(kind, name, killing(getattr(kind, name)))
            with pytest.raises(Killed):
                main(command)
        main([*command, "--ckpt_path=last"])
        run = in_tmp / f"runs/killed-{number}/0"
        assert {path.name for path in (run / "checkpoints").iterdir()} == set(files)
        for file, content in files.items():
            assert_equal(read_checkpoint(run / "checkpoints" / file), content, file)
        for file in ("metrics.csv", "timeline.jsonl"):
            assert (run / file).read_text() == (whole / file).read_text(), file
