"""Pretraining that is killed in an epoch's midst, and goes on with other workers: as if it had never been killed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bits import assert_equal
from tests.corpus.small_corpus import write_store
from tests.system.test_kill import killed, state
from tests.system.tiny_project import bertlab, environment
from tests.warm import Command

STEPS, PHASE = 28, 14  # of the training, and of each of its phases


def write_pretraining(folder: Path) -> Path:
    """A tiny BERT with dropout; lengths and batch sizes change during the training; validation after each phase."""
    store = write_store(folder / "store", documents=400)
    encoder = {
        "vocab_size": 65, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    config: dict[str, Any] = {
        "model": {
            "class_path": "bertlab.tasks.pretraining.Pretraining",
            "init_args": {
                "encoder": {
                    "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
                    "init_args": {
                        "model_type": "bert", "config": encoder, "dropout": 0.1, "attention_dropout": 0.1,
                    },
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-3}},
            },
        },
        "data": {
            "class_path": "bertlab.data.pretraining.PretrainingData",
            "init_args": {
                "store": str(store),
                "phases": [{"length": 32, "fraction": 0.5}, {"length": 64, "fraction": 0.5, "batch_size": 12}],
                "batch_size": 24,
                "batch_warmup_fraction": 0.5,
                "batch_warmup_start": 6,
                "max_validation_examples": 40,
            },
        },
        "trainer": {
            "max_steps": STEPS,
            "accumulate_grad_batches": 2,
            "val_check_interval": 2 * PHASE,
            "check_val_every_n_epoch": None,
            "gradient_clip_val": 1.0,
            "accelerator": "cpu",
            "devices": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "wandb": {"mode": "disabled"},
    }  # fmt: skip
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


ARGUMENTS = ["fit", "--checkpoints.every_steps=2"]


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.yaml, and its run, called `whole`."""
    folder = tmp_path_factory.mktemp("pretraining")
    bertlab(folder, *ARGUMENTS, "--config", str(write_pretraining(folder)), "--run.name=whole")
    return folder


@pytest.mark.parametrize(
    ("workers", "resumed_with", "after_step"),
    [(4, 0, 5), (0, 4, PHASE + 3)],
    ids=["with workers, while the batch grows", "without, after the change of length"],
)
def test_killed_in_an_epoch_and_resumed_with_other_workers(
    workers: int, resumed_with: int, after_step: int, never_killed: Path, tmp_path: Path
) -> None:
    args = [*ARGUMENTS, "--config", str(never_killed / "run.yaml"), "--run.name=killed"]
    assert killed(tmp_path, [*args, f"--data.num_workers={workers}"], after_step, delay=0.0), (
        "it ended before"
    )
    whole, run = never_killed / "runs/whole/0", tmp_path / "runs/killed/0"
    reached = state(run)
    assert after_step - 1 <= reached["global_step"] < STEPS
    assert not reached["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    bertlab(tmp_path, *args, f"--data.num_workers={resumed_with}", "--ckpt_path=last")
    assert_as_never_killed(run, whole)


def assert_as_never_killed(run: Path, whole: Path) -> None:
    assert_equal(state(run), state(whole))
    metrics = (whole / "metrics.csv").read_text()
    assert (run / "metrics.csv").read_text() == metrics
    assert "val/loss" in metrics


@pytest.mark.parametrize("workers", [0, 4])
def test_killed_within_an_accumulation(workers: int, never_killed: Path, tmp_path: Path) -> None:
    """When the first of the two micro-batches of the eighth step was done."""
    args = [*ARGUMENTS, "--config", str(never_killed / "run.yaml"), "--run.name=killed"]
    args += [f"--data.num_workers={workers}"]
    kill = tmp_path / "kill.yaml"
    kill.write_text(
        yaml.safe_dump({"class_path": "tests.doubles.kill_at.KillAt", "init_args": {"micro_batch": 15}})
    )
    with Command(tmp_path, environment(tmp_path), [*args, f"--trainer.callbacks+={kill}"]) as process:
        assert process.wait().returncode == -signal.SIGKILL
    run = tmp_path / "runs/killed/0"
    assert state(run)["global_step"] == 6, "the last checkpoint"
    bertlab(tmp_path, *args, "--ckpt_path=last")
    assert_as_never_killed(run, never_killed / "runs/whole/0")
