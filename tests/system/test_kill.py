"""A run that is killed, again and again, and resumed ends as one that was never killed, bit for bit."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bits import assert_equal
from tests.system.tiny_project import STRATEGIES, bertlab, environment, write_project
from tests.warm import Command

ARGUMENTS = ("--checkpoints.every_steps", "2")


def steps_logged(run: Path) -> int:
    """The last whole row's optimizer step in metrics.csv, −1 before the first."""
    file = run / "metrics.csv"
    lines = file.read_text().split("\n") if file.exists() else []
    steps = [line.split(",", 1)[0] for line in lines[1:-1]]
    return max((int(step) for step in steps if step.isdigit()), default=-1)


def killed(folder: Path, args: list[str], after_step: int, delay: float) -> bool:
    """Start a run and kill it by SIGKILL `delay` seconds after a step was logged; False if it ended before."""
    run = folder / "runs/killed/0"
    with Command(folder, environment(folder), args) as process:
        while process.poll() is None and steps_logged(run) < after_step:
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        done = process.wait()
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode != 0


def state(run: Path) -> dict[str, Any]:
    """Everything of last.ckpt, but where files lie."""
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def kill_many_times(
    folder: Path,
    kills: int,
    seed: int,
    *extra: str,
    write: Callable[..., Path] = write_project,
    **trainer: Any,
) -> None:
    """Kill one run `kills` times at random points, and hold it against a run that was never killed."""
    config = write(folder, **trainer)
    common = ["fit", "--config", str(config), *ARGUMENTS, *extra]
    bertlab(folder, *common, "--run.name", "whole")
    whole = folder / "runs/whole/0"
    total = state(whole)["global_step"]
    generator = random.Random(seed)
    resume: list[str] = []
    done = 0
    while done < kills:
        reached = steps_logged(folder / "runs/killed/0")
        if reached >= total - 2:
            break
        target = generator.randint(reached + 1, min(total - 1, reached + max(2, total // kills + 1)))
        args = [*common, "--run.name", "killed", *resume]
        if not killed(folder, args, target, delay=generator.random() * 0.05):
            break
        done += 1
        if (folder / "runs/killed/0/checkpoints/last.ckpt").exists():
            resume = ["--ckpt_path", "last"]
    assert done >= min(kills, 3), f"only {done} kills came before the end"
    bertlab(folder, *common, "--run.name", "killed", "--ckpt_path", "last")
    run = folder / "runs/killed/0"
    assert_equal(state(run), state(whole))
    for name in ("metrics.csv", "timeline.jsonl"):
        assert (run / name).read_text() == (whole / name).read_text(), name
    best = [
        torch.load(path / "checkpoints/best.ckpt", weights_only=True)["state_dict"] for path in (run, whole)
    ]
    assert_equal(best[0], best[1])
    assert not list((run / "checkpoints").glob(".*")), "a half-written file was left"


def test_five_kills(tmp_path: Path) -> None:
    kill_many_times(tmp_path, 5, 0, max_epochs=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills(seed: int, tmp_path: Path) -> None:
    accumulate = 1 + seed % 2
    kill_many_times(
        tmp_path, 10, seed + 1, accumulate_grad_batches=accumulate, max_epochs=6, val_check_interval=5
    )


@pytest.mark.slow
@pytest.mark.parametrize("at", ["steps", "epoch", "exponential"])
def test_kills_of_a_run_that_averages(at: str, tmp_path: Path) -> None:
    """With a validation every fourth step many a kill comes while the average stands in the model."""
    average: dict[str, Any] = {
        "steps": {
            "class_path": "bertlab.callbacks.latest_average.LatestAverage",
            "init_args": {"last": 3, "at": "steps", "every_steps": 5},
        },
        "epoch": {
            "class_path": "bertlab.callbacks.stochastic_average.StochasticAverage",
            "init_args": {"at": "epoch", "start_fraction": 0.2},
        },
        "exponential": {
            "class_path": "bertlab.callbacks.exponential_average.ExponentialAverage",
            "init_args": {"decay": 0.9, "start_step": 7},
        },
    }[at]
    kill_many_times(tmp_path, 8, 11, max_epochs=5, val_check_interval=4, callbacks=[*STRATEGIES, average])
