"""trainer.max_time: a training that it stops goes on as if it had never been stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks.timer as lightning_timer
import pytest
import yaml
from lightning.pytorch import LightningModule

from bertlab.cli import main
from bertlab.cli_lightning import BertlabCLI
from bertlab.tracking.checkpoint_io import read_checkpoint
from bertlab.tracking.time_limit import TRAINED_SECONDS
from tests.bits import assert_equal

#: Two epochs of 12 micro-batches, each of which takes a second.
CONFIG: dict[str, Any] = {
    "model": {"class_path": "small.SmallTask"},
    "data": {"class_path": "small.SmallData"},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "clock.Clock"}, {"class_path": "small.Note"}],
    },
    "wandb": {"mode": "disabled"},
}


@pytest.fixture
def fit(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`bertlab fit` with a limit in seconds, and flags; returns the run directory."""
    monkeypatch.setattr(lightning_timer, "time", lightning_timer.time)  # put back, whatever the clock does
    Path("run.yaml").write_text(yaml.safe_dump(CONFIG))

    def run(name: str, seconds: int | None, *flags: str) -> Path:
        limit = [] if seconds is None else [f"--trainer.max_time=00:00:00:{seconds:02}"]
        main(["fit", "--config=run.yaml", f"--run.name={name}", *limit, *flags])
        return in_tmp / "runs" / name / "0"

    return run


def saved(run: Path, name: str = "last", *without: str) -> dict[str, Any]:
    content = read_checkpoint(run / f"checkpoints/{name}.ckpt")
    return {key: value for key, value in content.items() if key not in without}


BY_EPOCHS = ["--model.interval=epoch"]
TRAININGS: dict[str, tuple[list[str], list[int]]] = {
    "within an epoch": ([], [7]),
    "within an optimizer step": (["--trainer.accumulate_grad_batches=2"], [7]),
    "before the last batch of an epoch": (BY_EPOCHS, [11]),
    "at the end of an epoch": (BY_EPOCHS, [12]),
    "right after a validation": (["--trainer.val_check_interval=4"], [16]),
    "waiting for a metric": (["--model.scheduler=plateau", "--model.interval=epoch"], [5, 17]),
    "before the end": (["--trainer.max_steps=20"], [3, 4, 13, 19]),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_goes_on_as_if_never_stopped(name: str, fit: Callable[..., Path]) -> None:
    flags, stops = TRAININGS[name]
    flags = [*flags, "--run.test_after_fit=false"]
    whole = fit("whole", None, *flags)
    for number, seconds in enumerate(stops):
        resumed = ["--ckpt_path=last"] if number else []
        with pytest.warns(
            UserWarning, match=rf"^trainer\.max_time 00:00:00:{seconds:02}: training was stopped"
        ):
            run = fit("stopped", seconds, *flags, *resumed)
        accumulated = 2 if "optimizer step" in name else 1
        assert saved(run)["global_step"] == -(-seconds // accumulated)
    run = fit("stopped", None, *flags, "--ckpt_path=last")
    assert_equal(saved(run), saved(whole))
    for file in ("metrics.csv", "timeline.jsonl"):
        assert (run / file).read_text() == (whole / file).read_text(), file
    assert_equal(saved(run, "best", TRAINED_SECONDS), saved(whole, "best"))


def test_says_how_to_go_on_and_counts_the_time_of_all_runs(fit: Callable[..., Path]) -> None:
    with pytest.warns(
        UserWarning,
        match=r"^trainer\.max_time 00:00:00:03: training was stopped after 3 optimizer steps and 0:00:03, which counts "
        r"all runs .*; bertlab fit … --ckpt_path last, with a longer trainer\.max_time or none, goes on",
    ):
        run = fit("run", 3)
    before = saved(run)
    with pytest.warns(UserWarning, match="stopped after 3 optimizer steps and 0:00:03"):
        fit("run", 3, "--ckpt_path=last")
    assert_equal(saved(run), before)
    with pytest.warns(UserWarning, match="stopped after 5 optimizer steps and 0:00:05"):
        fit("run", 5, "--ckpt_path=last")


def test_an_epoch_that_is_cut_ends_once(fit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    def tell(what: str) -> Callable[[LightningModule], None]:
        return lambda task: told.append((what, task.trainer.global_step))

    for what in ("on_train_epoch_start", "on_train_epoch_end", "on_train_end"):
        monkeypatch.setattr(f"small.SmallTask.{what}", tell(what), raising=False)
    fit("run", 7)
    fit("run", 13, "--ckpt_path=last")
    epoch = [("on_train_epoch_start", 0), ("on_train_end", 7), ("on_train_epoch_end", 12)]
    assert told == [*epoch, ("on_train_epoch_start", 12), ("on_train_end", 13)]


@pytest.mark.parametrize("least", ["min_epochs=1", "min_steps=12"])
def test_does_not_stop_before_the_least_that_was_asked_for(least: str, fit: Callable[..., Path]) -> None:
    assert saved(fit("run", 3, f"--trainer.{least}"))["global_step"] == 12


def test_nothing_is_tested_before_the_first_validation(fit: Callable[..., Path]) -> None:
    with pytest.warns(
        UserWarning, match=r"^nothing is tested: there is no best checkpoint yet, .* trainer\.max_time"
    ):
        run = fit("run", 5)
    assert not (run / "results.json").exists()
    fit("run", None, "--ckpt_path=last")
    assert "test" in json.loads((run / "results.json").read_text())


def test_the_best_checkpoint_is_tested_if_there_is_one(fit: Callable[..., Path]) -> None:
    run = fit("run", 13)
    assert "test" in json.loads((run / "results.json").read_text())
    assert read_checkpoint(run / "checkpoints/best.ckpt")["global_step"] == 12


@pytest.mark.parametrize("flag", ["--trainer.limit_val_batches=0", "--trainer.enable_checkpointing=false"])
def test_where_no_best_checkpoint_can_come_the_weights_are_tested(
    flag: str, fit: Callable[..., Path]
) -> None:
    with pytest.warns(
        UserWarning, match="no best checkpoint, so the weights at the end of training are tested"
    ):
        run = fit("run", 5, flag)
    assert "test" in json.loads((run / "results.json").read_text())
    assert (run / "checkpoints").exists() == ("checkpointing" not in flag)


@pytest.mark.parametrize(
    "time",
    ["abc", "1:2", "00:12:00", "00:00:00:00", '{"hours": -1}', '{"fortnights": 1}', "999999999999:00:00:00"],
)
@pytest.mark.parametrize("verb", ["fit", "test"])
def test_what_is_no_time_is_refused_before_anything_is_loaded(
    verb: str,
    time: str,
    fit: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(BertlabCLI, "instantiate_classes", None)  # not to be called
    with pytest.raises(SystemExit) as end:
        main([verb, "--config=run.yaml", f"--trainer.max_time={time}"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert re.search(
        r"^bertlab: error: 'trainer\.max_time' is .*: accepted are DAYS:HH:MM:SS, such as 00:12:", error
    )
    assert "weeks, days, hours, minutes, seconds, such as {hours: 12}" in error
    assert not Path("runs").exists()


def test_the_file_that_names_a_bad_time_is_named(
    fit: Callable[..., Path], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("short.yaml").write_text("trainer: {max_time: soon}\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config=run.yaml", "--config=short.yaml"])
    assert "'trainer.max_time' is 'soon': accepted are" in (error := capsys.readouterr().err)
    assert "(in short.yaml)" in error


def test_a_time_by_units(fit: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match=r"stopped after 3 optimizer steps and 0:00:03"):
        fit("run", None, '--trainer.max_time={"seconds": 3}')
