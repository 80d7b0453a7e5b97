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

#: The strategies, with a checkpoint of each cycle of the rates.
KEEPING_CYCLES: list[dict[str, Any]] = [
    found
    | (
        {"init_args": found["init_args"] | {"save_cycles": True}}
        if "LrRestarts" in found["class_path"]
        else {}
    )
    for found in STRATEGIES
]
ARGUMENTS = ("--checkpoints.every_steps", "2")


def steps_logged(run: Path) -> int:
    """The last whole row's optimizer step in metrics.csv, −1 before the first."""
    file = run / "metrics.csv"
    lines = file.read_text().split("\n") if file.exists() else []
    steps = [line.split(",", 1)[0] for line in lines[1:-1]]
    return max((int(step) for step in steps if step.isdigit()), default=-1)


def written(run: Path) -> int:
    """When metrics.csv was written last: a resumed run begins by dropping the rows that it will log again."""
    file = run / "metrics.csv"
    return file.stat().st_mtime_ns if file.exists() else 0


def killed(folder: Path, args: list[str], after_step: int, delay: float) -> bool:
    """Start a run and kill it by SIGKILL `delay` seconds after it has logged a step; False if it ended before."""
    run = folder / "runs/killed/0"
    before = written(run)
    with Command(folder, environment(folder), args) as process:
        while process.poll() is None and (written(run) == before or steps_logged(run) < after_step):
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()
        done = process.wait()
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode != 0


def state(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """Everything of a checkpoint, but where files lie."""
    return torch.load(run / "checkpoints" / name, weights_only=True)


def kill_many_times(
    folder: Path,
    kills: int,
    seed: int,
    *extra: str,
    write: Callable[..., Path] = write_project,
    **trainer: Any,
) -> None:
    """Kill one run `kills` times at random points, and hold it against a run that was never killed.

    The last kill, of many the last two, come after the last steps have been logged: in a validation, in what strategies
    do at the end of training, in its last save, or in the test of the best checkpoint.
    """
    config = write(folder, **trainer)
    common = ["fit", "--config", str(config), *ARGUMENTS, *extra]
    bertlab(folder, *common, "--run.name", "whole")
    whole = folder / "runs/whole/0"
    total = state(whole)["global_step"]
    run = folder / "runs/killed/0"
    generator = random.Random(seed)
    late = total - min(2, kills // 2)
    targets = [*sorted(generator.sample(range(late), kills - (total - late))), *range(late, total)]
    for number, target in enumerate(targets):
        # A kill comes late on a busy machine: what is logged by then need not be logged again to be killed after.
        begins = state(run)["global_step"] if number else 0
        args = [*common, "--run.name", "killed", *(["--ckpt_path", "last"] if number else [])]
        after_step = min(max(target, begins), total - 1)
        assert killed(folder, args, after_step, delay=generator.random() * 0.05), (
            f"kill {number} came too late"
        )
    bertlab(folder, *common, "--run.name", "killed", "--ckpt_path", "last")
    assert_equal(state(run), state(whole))
    for name in ("metrics.csv", "timeline.jsonl"):
        assert (run / name).read_text() == (whole / name).read_text(), name
    kept = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert {"best.ckpt", "cycle-0.ckpt"} < set(kept)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == kept, "lost, or left half-written"
    for name in kept:
        assert_equal(state(run, name), state(whole, name), name)


def test_five_kills(tmp_path: Path) -> None:
    kill_many_times(tmp_path, 5, 0, max_epochs=5, callbacks=KEEPING_CYCLES)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills(seed: int, tmp_path: Path) -> None:
    accumulate = 1 + seed % 2
    kill_many_times(
        tmp_path,
        10,
        seed + 1,
        accumulate_grad_batches=accumulate,
        max_epochs=6,
        val_check_interval=5 * accumulate,
        callbacks=KEEPING_CYCLES,
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
    kill_many_times(tmp_path, 8, 11, max_epochs=5, val_check_interval=4, callbacks=[*KEEPING_CYCLES, average])
