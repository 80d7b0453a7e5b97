"""What the framework costs: `bertlab fit` beside the hand-written loop, and the head alone beside everything."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

import yaml

from experiments.measure import PYTHON, ROOT, read_clock, run_command, step_times, throughput
from experiments.speed_finetuning.systems import Bench

HEAD_ONLY = ROOT / "experiments" / "speed_finetuning" / "head_only.yaml"


#: The loop, `bertlab fit`, and `bertlab fit` with nothing trained but the head.
SYSTEMS = ("loop", "bertlab", "bertlab_head_only")


def measure_overhead(bench: Bench, settings: dict[str, Any], system: str, seed: int) -> dict[str, Any]:
    """The step time of one system. Loop and fit see the same rows in the same steps.

    Args:
        bench: data, folders.
        settings: the study's `overhead`.
        system: one of SYSTEMS.
        seed: of weights of the head, dropout, and the order of the rows.
    """
    epochs, overlay = settings["epochs"], settings["overlay"]
    folder = bench.folder("overhead", system, seed)
    if system == "loop":
        run_command(loop_command(bench, overlay, seed, epochs, folder), folder / "log.txt")
    else:
        flags = ["--config", str(HEAD_ONLY)] if system == "bertlab_head_only" else []
        bench.bertlab_fit(folder, overlay, seed, epochs, flags)
    clock = read_clock(folder / "clock.json")
    shutil.rmtree(folder)
    rates = throughput(clock, bench.warm_up_epochs)
    return {
        "examples_per_second": rates.examples,
        "tokens_per_second": rates.tokens,
        "step_seconds": statistics.median(step_times(clock, bench.warm_up_epochs)),
        "rows_per_epoch": clock["rows_per_epoch"],
        "tokens_per_epoch": clock["tokens_per_epoch"],
    }


def loop_command(bench: Bench, overlay: str, seed: int, epochs: int, folder: Path) -> list[str]:
    """The hand-written loop, with the precision that bertlab's overlay asks for."""
    wanted = yaml.safe_load((ROOT / overlay).read_text(encoding="utf-8"))
    command = [PYTHON, "-m", "experiments.speed_finetuning.hand_written_loop", "--source", bench.source]
    command += ["--seed", str(seed), "--epochs", str(epochs), "--output", str(folder / "clock.json")]
    command += ["--matmul_precision", wanted.get("run", {}).get("float32_matmul_precision", "highest")]
    return command + (["--bf16"] if wanted.get("trainer", {}).get("precision") == "bf16-mixed" else [])
