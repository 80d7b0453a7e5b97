"""The end of a training, met once more: by a run that was killed while it ended, or one that is trained longer."""

from __future__ import annotations

import json
import shutil
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


def snapshots(run: Path) -> list[tuple[int, str]]:
    """Step and file of each snapshot on the timeline of a run."""
    events = [json.loads(line) for line in (run / "timeline.jsonl").read_text().splitlines()]
    return [(event["step"], event["facts"]["file"]) for event in events if event["what"] == "snapshot"]


def kept(*cycles: int) -> list[tuple[int, str]]:
    """What is told of cycles of 6 steps that are kept."""
    return [(6 * (cycle + 1), f"checkpoints/cycle-{cycle}.ckpt") for cycle in cycles]


def test_a_cycle_that_ends_once_more_is_kept_once(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training ends its last cycle; one that goes on from there ends it again, before the next one begins."""
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    config = write_project(in_tmp, callbacks=[CALLBACKS[1]], max_epochs=1)
    command = ["fit", "--config", str(config), "--run.test_after_fit=false"]
    main(command)
    run, longer = in_tmp / "runs/run/0", [*command, "--trainer.max_epochs=2", "--ckpt_path"]
    assert snapshots(run) == kept(0, 1)
    last = str(shutil.copy(run / "checkpoints/last.ckpt", in_tmp / "ended.ckpt"))
    main([*longer, "last"])
    assert snapshots(run) == kept(0, 1, 2, 3)
    # Another run has no file of that cycle yet.
    main([*longer, last, "--run.name=other"])
    assert snapshots(in_tmp / "runs/other/0") == kept(1, 2, 3)
    assert read_checkpoint(in_tmp / "runs/other/0/checkpoints/cycle-1.ckpt")["global_step"] == 12


def test_a_cycle_that_was_cut_short_and_goes_on_is_kept_as_it_ends(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    settings = {**CALLBACKS[1], "init_args": {"cycle_steps": 8, "save_cycles": True}}
    config = write_project(in_tmp, callbacks=[settings], max_epochs=1)
    command = ["fit", "--config", str(config), "--run.test_after_fit=false"]
    main(command)
    main([*command, "--trainer.max_epochs=2", "--ckpt_path=last"])
    run = in_tmp / "runs/run/0"
    assert snapshots(run) == [
        (step, f"checkpoints/cycle-{cycle}.ckpt") for step, cycle in ((8, 0), (12, 1), (16, 1), (24, 2))
    ]
    assert read_checkpoint(run / "checkpoints/cycle-1.ckpt")["global_step"] == 16


def test_killed_while_training_ends(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    config = write_project(in_tmp, callbacks=CALLBACKS, max_epochs=1)
    every = ("--run.test_after_fit=false", "--checkpoints.every_steps=9")
    main(["fit", "--config", str(config), *every, "--run.name=whole"])
    whole = in_tmp / "runs/whole/0"
    files = {path.name: read_checkpoint(path) for path in (whole / "checkpoints").iterdir()}
    assert sorted(files) == ["best.ckpt", "cycle-0.ckpt", "cycle-1.ckpt", "last.ckpt"]
    assert snapshots(whole) == kept(0, 1)
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
