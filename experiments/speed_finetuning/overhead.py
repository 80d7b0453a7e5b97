"""What the framework costs: `bertlab fit` beside the hand-written loop, and the head alone beside everything."""

from __future__ import annotations

import shutil
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from experiments.commands import PYTHON, ROOT, run_command
from experiments.rates import read_clock, step_times
from experiments.speed_finetuning.systems import Bench
from experiments.turns import Place, in_turn, options_of

HEAD_ONLY = Path(__file__).with_name("head_only.yaml")
#: The loop, `bertlab fit`, and `bertlab fit` with nothing trained but the head.
SYSTEMS = ("loop", "bertlab", "bertlab_head_only")


def measure_overhead(bench: Bench, settings: dict[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """The step times of all systems, a row of results for each.

    They run at the same time, and train in turn, a few steps each: so what else the machine does hits all alike. Loop
    and fit see the same rows in the same steps.

    Args:
        bench: data, folders.
        settings: the study's `overhead`.
        seed: of weights of the head, dropout, and the order of the rows.
    """
    folders = {system: bench.folder("overhead", system, seed) for system in SYSTEMS}
    runs = {
        system: partial(_run, bench, settings, system, seed, folder) for system, folder in folders.items()
    }
    in_turn(bench.folder("overhead", "ring", seed), runs)
    return {system: _row(bench, folder) for system, folder in folders.items()}


def _run(bench: Bench, settings: dict[str, Any], system: str, seed: int, folder: Path, place: Place) -> None:
    epochs, overlay = settings["epochs"], settings["overlay"]
    if system == "loop":
        command = [*_loop_command(bench, overlay, seed, epochs, folder), *options_of(place)]
        run_command(command, folder / "log.txt")
        return
    flags = ["--config", str(HEAD_ONLY)] if system == "bertlab_head_only" else []
    bench.bertlab_fit(folder, overlay, seed, epochs, place, flags)


def _row(bench: Bench, folder: Path) -> dict[str, Any]:
    clock = read_clock(folder / "clock.json")
    shutil.rmtree(folder)
    return {
        "step_seconds": statistics.median(step_times(clock, bench.warm_up_epochs)),
        "rows_per_epoch": clock["rows_per_epoch"],
        "tokens_per_epoch": clock["tokens_per_epoch"],
    }


def _loop_command(bench: Bench, overlay: str, seed: int, epochs: int, folder: Path) -> list[str]:
    wanted = yaml.safe_load((ROOT / overlay).read_text(encoding="utf-8"))
    command = [PYTHON, "-m", "experiments.speed_finetuning.hand_written_loop", "--source", bench.source]
    command += ["--seed", str(seed), "--epochs", str(epochs), "--output", str(folder / "clock.json")]
    command += ["--matmul_precision", wanted.get("run", {}).get("float32_matmul_precision", "highest")]
    return command + (["--bf16"] if wanted.get("trainer", {}).get("precision") == "bf16-mixed" else [])
