"""A training that was ended within an epoch goes on with the rest of that epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from bertlab.cli import main
from bertlab.tracking.checkpoint_io import read_checkpoint
from tests.bits import assert_equal
from tests.tracking.test_time_limit import CONFIG

STOP = """--trainer.callbacks+={class_path: lightning.pytorch.callbacks.EarlyStopping,
    init_args: {monitor: val/loss, stopping_threshold: 100.0}}"""
ALWAYS = ["--run.test_after_fit=false"]


@pytest.fixture
def fit(in_tmp: Path) -> Callable[..., Path]:
    """`bertlab fit` with flags; returns the run directory."""
    config = {**CONFIG, "trainer": {**CONFIG["trainer"], "callbacks": [{"class_path": "small.Note"}]}}
    Path("run.yaml").write_text(yaml.safe_dump(config))

    def run(name: str, *flags: str) -> Path:
        main(["fit", "--config=run.yaml", f"--run.name={name}", *ALWAYS, *flags])
        return in_tmp / "runs" / name / "0"

    return run


def last(run: Path) -> dict[str, Any]:
    return read_checkpoint(run / "checkpoints/last.ckpt")


def assert_same(run: Path, whole: Path) -> None:
    assert_equal(last(run), last(whole))
    for file in ("metrics.csv", "timeline.jsonl"):
        assert (run / file).read_text() == (whole / file).read_text(), file


#: Flags of all, of the run that ends early, and of the one that goes on; the optimizer step at which it ended.
ENDS: dict[str, tuple[list[str], list[str], list[str], int]] = {
    "early stopping": (["--trainer.val_check_interval=4"], [STOP], [], 4),
    "early stopping, accumulated": (
        ["--trainer.val_check_interval=8", "--trainer.accumulate_grad_batches=4"],
        [STOP],
        [],
        2,
    ),
    "max_steps": ([], ["--trainer.max_steps=5"], ["--trainer.max_steps=20"], 5),
    "max_steps, then by epochs": ([], ["--trainer.max_steps=17"], [], 17),
    "max_steps, accumulated": (
        ["--trainer.accumulate_grad_batches=2", "--model.interval=epoch"],
        ["--trainer.max_steps=5"],
        [],
        5,
    ),
    "max_steps, the last of an epoch": ([], ["--trainer.max_steps=12"], ["--trainer.max_steps=20"], 12),
}


@pytest.mark.parametrize("name", ENDS)
def test_goes_on_within_the_epoch(name: str, fit: Callable[..., Path]) -> None:
    flags, ending, going_on, step = ENDS[name]
    whole = fit("whole", *flags, *going_on)
    run = fit("run", *flags, *ending)
    assert last(run)["global_step"] == step
    fit("run", *flags, *going_on, "--ckpt_path=last")
    assert_same(run, whole)


class TellsToStop(Callback):
    """As anybody may, at any time: with the seventh micro-batch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        trainer.should_stop = trainer.fit_loop.total_batch_idx == 6


def test_a_step_that_was_stopped_within_is_taken_again(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--trainer.accumulate_grad_batches=2"]
    whole = last(fit("whole", *flags))
    with monkeypatch.context() as patch:
        patch.setattr("small.Note.on_train_batch_end", TellsToStop.on_train_batch_end)
        assert last(fit("run", *flags))["global_step"] == 3
    run = last(fit("run", *flags, "--ckpt_path=last"))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "SmallData"):
        assert_equal(run[key], whole[key], key)


def test_an_epoch_that_the_task_has_ended_stays_ended(
    fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip(task: LightningModule, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 7 else None

    monkeypatch.setattr("small.SmallTask.on_train_batch_start", skip, raising=False)
    content = last(fit("run", "--trainer.max_epochs=1"))
    assert (content["epoch"], content["global_step"]) == (1, 7)
    assert content["loops"]["fit_loop"]["epoch_progress"]["total"]["completed"] == 1
