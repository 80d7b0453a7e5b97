"""Measure what the examples of a training step cost, beside the step, and how long a step waits for them."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.commands import BERTLAB, PYTHON, run_command
from experiments.fits import clock_flags, run_flags
from experiments.rates import read_clock, step_times
from experiments.results import measured_on, read_rows, write_results
from experiments.speed_pretraining.run import token_store
from experiments.speed_pretraining.systems import Bench
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table, median_of

FOLDER = Path(__file__).parent
VALIDATION_EXAMPLES = 16  # a fit validates at its end, which is not measured


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """The cases in turn, over the seeds."""
    store = token_store(study["corpus"])
    for seed in study["seeds"]:
        for name, case in study["cases"].items():
            size = study["sizes"][case["size"]]
            bench = Bench(name, size, case, VALIDATION_EXAMPLES, seed, store, work_folder(FOLDER))
            yield {"case": name, "seed": seed}, partial(measure, bench, study["overlay"])


def measure(bench: Bench, overlay: str) -> dict[str, Any]:
    """One case with one seed: the batches of a pass made alone, then a fit."""
    folder, size = bench.folder, bench.case["batch_size"]
    config = str(bench.config)
    made, clock, waits = (folder / name for name in ("made.json", "clock.json", "waits.json"))
    making = [PYTHON, "-m", "experiments.cost_of_examples.making", "--config", config, "--output", str(made)]
    run_command(making, folder / "making.log.txt", threads=1)
    profiler = {
        "class_path": "experiments.cost_of_examples.waits.WaitClock",
        "init_args": {"path": str(waits)},
    }
    fit = [
        *(BERTLAB, "fit", "--config", config, "--config", overlay),
        *run_flags(folder),
        *clock_flags(clock),
        *("--trainer.profiler", json.dumps(profiler)),
    ]
    run_command(fit, folder / "fit.log.txt")
    first = bench.case["warm_up_steps"]
    found = json.loads(waits.read_text())
    steps, waited = step_times(read_clock(clock), 0)[first:], found["waits"][first:]
    cpu = [after - before for before, after in pairwise(found["cpu"][first:])]
    making_took = json.loads(made.read_text())
    shutil.rmtree(folder)
    return {
        "layers": bench.size["num_hidden_layers"],
        "width": bench.size["hidden_size"],
        "length": bench.case["length"],
        "batch_size": size,
        "batches_made": making_took["batches"],
        "making_cpu_seconds": making_took["cpu_seconds"] / making_took["batches"],
        "making_median_cpu_seconds": making_took["median_seconds"],
        "making_seconds": making_took["wall_seconds"] / making_took["batches"],
        "step_seconds": statistics.median(steps),
        "step_cpu_seconds": statistics.median(cpu),
        "wait_seconds": statistics.median(waited),
        "longest_wait_seconds": max(waited),
    }


def report(output: Path) -> None:
    """A row for each case, medians over the seeds."""
    rows = read_rows(output / "results.csv")
    table = [
        ["", "sequences × tokens", "making a batch, CPU ms", "with the plan of the pass", "step, ms", "step, CPU ms",
         "making ÷ step", "making ÷ step, CPU", "step waits, ms", "longest wait, ms"]
    ]  # fmt: skip
    for name in dict.fromkeys(row["case"] for row in rows):
        some = [row for row in rows if row["case"] == name]
        first = some[0]
        alone, planned, step, cpu, wait = (
            median_of(some, f"{column}_seconds")
            for column in ("making_median_cpu", "making_cpu", "step", "step_cpu", "wait")
        )
        table.append(
            [
                f"{first['layers']} × {first['width']}",
                f"{first['batch_size']} × {first['length']}",
                f"{1000 * alone:.2f}",
                f"{1000 * planned:.2f}",
                f"{1000 * step:.0f}",
                f"{1000 * cpu:.0f}",
                f"{planned / step:.2%}",
                f"{planned / cpu:.2%}",
                f"{1000 * wait:.2f}",
                f"{1000 * max(row['longest_wait_seconds'] for row in some):.2f}",
            ]
        )
    seeds = len({row["seed"] for row in rows})
    text = "\n\n".join([f"Medians over {seeds} seed(s).", markdown_table(table), measured_on(output)])
    print(text)
    write_results(output, text)


if __name__ == "__main__":
    main()
