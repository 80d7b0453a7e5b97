"""A training with all strategies that trainer.max_time stops, and that goes on, ends as one that was never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks.timer as lightning_timer
import pytest

from bertlab.cli import main
from bertlab.tracking.checkpoint_io import read_checkpoint
from bertlab.tracking.time_limit import TRAINED_SECONDS
from tests.bits import assert_equal
from tests.system.test_end_of_training import CALLBACKS
from tests.system.tiny_project import bertlab_on_two_ranks, write_project

CLOCK: dict[str, Any] = {"class_path": "clock.Clock", "init_args": {"ahead": 3}}


def checkpoints(run: Path) -> dict[str, Any]:
    found = {path.name: read_checkpoint(path) for path in sorted((run / "checkpoints").iterdir())}
    for content in found.values():
        content.pop(TRAINED_SECONDS, None)
    return found


def assert_same(run: Path, whole: Path) -> None:
    assert_equal(checkpoints(run), checkpoints(whole))
    for file in ("metrics.csv", "timeline.jsonl"):
        assert (run / file).read_text() == (whole / file).read_text(), file


def test_strategies_and_trackers(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stop comes within an optimizer step and before any validation, with Weights & Biases and a bar."""
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    monkeypatch.setattr(lightning_timer, "time", lightning_timer.time)
    config = write_project(
        in_tmp, callbacks=[*CALLBACKS, CLOCK], max_epochs=2, accumulate_grad_batches=2, num_sanity_val_steps=0
    )
    fit = ["fit", f"--config={config}"]
    main([*fit, "--run.name=whole"])
    resumed = ["--run.name=run", "--ckpt_path=last"]
    shown = ["--wandb.mode=offline", "--trainer.enable_progress_bar=true"]
    with pytest.warns(UserWarning, match="nothing is tested"):
        main([*fit, "--run.name=run", "--trainer.max_time=00:00:00:05", *shown])
    run = in_tmp / "runs/run/0"
    assert checkpoints(run)["last.ckpt"]["global_step"] == 3
    with pytest.warns(UserWarning, match="training was stopped after 9 optimizer steps"):
        main([*fit, *resumed, "--trainer.max_time=00:00:00:18"])
    main([*fit, *resumed])
    assert_same(run, in_tmp / "runs/whole/0")
    assert (run / "results.json").read_text() == (in_tmp / "runs/whole/0/results.json").read_text()


def test_two_ranks_stop_together(tmp_path: Path) -> None:
    """Though the time of rank 1 is up earlier."""
    config = write_project(tmp_path, callbacks=[CALLBACKS[0], CLOCK], max_epochs=1, strategy="ddp", devices=2)
    bertlab_on_two_ranks(
        tmp_path, "fit", f"--config={config}", "--run.version=0", "--trainer.max_time=00:00:00:04"
    )
    last = checkpoints(tmp_path / "runs/run/0")["last.ckpt"]
    assert last["global_step"] == 4
    assert last["loops"]["fit_loop"]["epoch_progress"]["total"]["completed"] == 0
