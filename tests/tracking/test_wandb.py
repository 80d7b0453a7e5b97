"""Weights & Biases: offline, quiet, and never in the way."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch import Trainer
from small import Note, SmallData, SmallTask

from bertlab.tracking.checkpoints import Checkpoints
from bertlab.tracking.evaluation_plots import EvaluationPlots, precision_recall
from bertlab.tracking.final_checkpoint import FinalCheckpoint
from bertlab.tracking.learning_rates import LearningRates
from bertlab.tracking.wandb_mode import mode_of
from bertlab.tracking.wandb_settings import WandbSettings
from bertlab.tracking.wandb_tracking import WandbTracking


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key anywhere."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


def records(directory: Path) -> bytes:
    """Everything in the offline files of a run directory; keys and strings in it are plain text."""
    wandb.teardown()  # waits for its service, which writes the files and may still be at it when a run is finished
    files = list(directory.glob("wandb/offline-run-*/*.wandb"))
    assert files
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.filterwarnings("error:Weights & Biases does not work")
def test_a_fit_and_a_test_are_kept_offline(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "small" / "0"
    logger = WandbTracking(directory, WandbSettings())
    logger.log_hyperparams({"model": {"class_path": "small.SmallTask"}})
    keeper = Checkpoints()
    trainer = Trainer(
        default_root_dir=directory,
        max_epochs=1,
        logger=logger,
        callbacks=[keeper, Note(), LearningRates(), EvaluationPlots(), FinalCheckpoint(keeper)],
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    data = SmallData()
    trainer.fit(SmallTask(), datamodule=data)
    trainer.test(SmallTask(), datamodule=data, verbose=False)
    logger.close()
    kept = records(directory)
    for word in (
        b"lr/head",
        b"train/loss",
        b"val/loss",
        b"test/accuracy",
        b"strategy/Note/said/text",
        b"small.SmallTask",
        b"small-checkpoint",
        b"confusion_matrix",
        b"trainer/global_step",
    ):
        assert word in kept, word
    tables = list(directory.glob("wandb/offline-run-*/files/media/table/*/*confusion_matrix*.json"))
    assert {table.parent.name for table in tables} == {"val", "test"}


def test_everything_is_logged_against_optimizer_steps(tmp_path: Path) -> None:
    """Not against W&B's own count of calls, which drifts: of a plot, an event and two loggers it makes four steps."""
    logger, seen = WandbTracking(tmp_path / "small" / "0", WandbSettings()), []
    logger._run = SimpleNamespace(log=lambda entries, **options: seen.append((entries, options)))  # type: ignore[reportPrivateUsage]
    logger.log_metrics({"train/loss": 0.5}, step=7)
    logger.record_event(7, 1, "S", "restart", {"cycle": 1, "blocks": ["a", "b"], "of": {"x": 2}})
    logger.log_metrics({"val/loss": 0.25}, step=9)
    step = "trainer/global_step"
    event = {"strategy/S/restart/cycle": 1, "strategy/S/restart/blocks": "a b", "strategy/S/restart/of/x": 2}
    assert seen == [
        ({"train/loss": 0.5, step: 7}, {}),
        ({**event, step: 7}, {}),
        ({"val/loss": 0.25, step: 9}, {}),
    ]


def test_processes_of_one_run_directory_share_a_run(tmp_path: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        logger = WandbTracking(tmp_path / "small" / "0", WandbSettings())
        ids.append(logger.experiment.id)
        logger.close()
    assert ids[0] == ids[1]


def test_checkpoint_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes(b"x")
    logger = WandbTracking(tmp_path / "small" / "0", WandbSettings(log_checkpoint=False))
    logger.log_metrics({"a": 1.0}, step=0)
    logger.log_best_checkpoint(tmp_path / "best.ckpt", 0.5)
    logger.close()
    assert b"small-checkpoint" not in records(tmp_path / "small" / "0")


def test_online_without_a_key_is_offline_and_says_so() -> None:
    with pytest.warns(UserWarning, match="there is no key"):
        assert mode_of(WandbSettings(mode="online")) == "offline"


def test_online_without_a_network_is_offline_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.warns(UserWarning, match=r"127\.0\.0\.1 cannot be reached"):
        assert mode_of(WandbSettings(mode="online")) == "offline"


def test_environment_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode_of(WandbSettings()) == "disabled"


@pytest.mark.parametrize("method", ["init", "log"])
def test_a_wandb_that_fails_is_one_warning(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = WandbTracking(tmp_path / "small" / "0", WandbSettings())
    real = wandb.init
    finished: list[Any] = []

    def fail(*args: Any, mode: str = "", **kwargs: Any) -> Any:
        if method == "init" and mode != "disabled":
            raise RuntimeError("its service did not start")
        run = real(*args, mode=mode, **kwargs)
        finish = run.finish
        monkeypatch.setattr(run, "finish", lambda **how: (finished.append(run), finish(**how)))
        if method == "log":
            monkeypatch.setattr(
                run, "log", lambda *_: (_ for _ in ()).throw(RuntimeError("its service did not start"))
            )
        return run

    monkeypatch.setattr(wandb, "init", fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            logger.log_metrics({"a": 1.0}, step=step)
        logger.log_hyperparams({"b": 1})
        logger.record_event(0, 0, "S", "x", {})
        logger.log_confusion_matrix("c", torch.eye(2), ["a", "b"], 0)
        logger.close()
    ours = [str(warning.message) for warning in caught if "Weights & Biases" in str(warning.message)]
    assert len(ours) == 1
    assert "its service did not start" in ours[0]
    assert len(finished) == 1


def test_precision_recall() -> None:
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    curves = precision_recall(probabilities, torch.tensor([0, 1, 1]), ["a", "b", "absent"])
    assert set(curves) == {"a", "b"}
    precision, recall = curves["b"]
    # Thresholds 0.1, 0.4, 0.8: two of three right, two of two, one of one.
    assert precision.tolist() == pytest.approx([2 / 3, 1, 1, 1])
    assert recall.tolist() == pytest.approx([1, 1, 0.5, 0])


def test_only_tracking_loads_wandb() -> None:
    script = "import sys, bertlab.cli_lightning; print('wandb' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert out.stdout.strip() == "False"
