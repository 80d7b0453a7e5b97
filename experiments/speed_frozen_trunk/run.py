"""Measure epochs with and without the cache of the frozen part, in turn over the seeds; write results and tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from experiments.commands import BERTLAB, run_command
from experiments.fits import FIT, clock_flags, logged, read_scores, run_flags
from experiments.rates import epoch_seconds, read_clock
from experiments.results import measured_on, read_rows, write_results
from experiments.study import Run, carry_out, load_study, study_options, work_folder
from experiments.tables import markdown_table, median_of, median_ratio

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
#: The systems, and the overlays of this folder that each has.
SYSTEMS = {"plain": (), "cached": ("cache.yaml",)}
TRAINED = {"head": "the head", "top_layer": "the top layer, pooler and head"}


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report, command_of)


def runs(study: Mapping[str, Any]) -> Iterator[Run]:
    """Each stage without and with the cache, one after the other, for every seed."""
    for seed in study["seeds"]:
        for stage in study["stages"]:
            for system in SYSTEMS:
                known_by = {"stage": stage, "seed": seed, "system": system}
                yield known_by, partial(fit, study, stage, system, seed)


def command_of(study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """The configurations that a run reads."""
    overlays = (f"{known_by['stage']}.yaml", *SYSTEMS[known_by["system"]])
    return [study["config"], study["overlay"], *(str(FOLDER / name) for name in overlays)]


def fit(study: Mapping[str, Any], stage: str, system: str, seed: int) -> dict[str, Any]:
    """Run `bertlab fit` with everything it logs by default; its row of results."""
    folder = WORK / f"{stage}_{system}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    command = [BERTLAB, "fit", "--config", study["config"], "--config", study["overlay"]]
    # The clock stands before the strategies, so that it counts what they do in a step.
    command += clock_flags(folder / "clock.json")
    for name in (f"{stage}.yaml", *SYSTEMS[system]):
        command += ["--config", str(FOLDER / name)]
    command += run_flags(folder)
    command += ["--seed_everything", str(seed), "--trainer.max_epochs", str(study["epochs"])]
    cost = run_command(command, folder / "log.txt")
    clock = read_clock(folder / "clock.json")
    epochs, times = clock["epochs"], epoch_seconds(clock)
    difference = loss_difference(folder / FIT, f"{stage}_{seed}", system)
    scores = read_scores(folder / FIT)
    shutil.rmtree(folder)
    return {
        "epoch_seconds": median(times[study["warm_up_epochs"] :]),
        "first_epoch_seconds": times[0],
        "training_seconds": epochs[-1]["ends"][-1] - epochs[0]["starts"][0],
        "command_seconds": cost.seconds,
        "peak_mib": cost.peak_mib,
        "test_loss": float(scores["loss"]),
        "macro_f1": float(scores["macro_f1"]),
        "loss_difference": difference,
    }


def loss_difference(run: Path, pair: str, system: str) -> float:
    """The largest difference of a logged training loss from that of the run without the cache, which came before.

    Args:
        run: its run directory.
        pair: names what both runs have in common.
        system: of SYSTEMS.
    """
    losses = [loss for _, loss in logged(run, "train/loss")]
    kept = WORK / "losses" / f"{pair}.json"
    if system == "plain":
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(losses), encoding="utf-8")
        return 0.0
    plain = json.loads(kept.read_text(encoding="utf-8"))
    return max(abs(one - other) for one, other in zip(plain, losses, strict=True))


def report(output: Path) -> None:
    """Write the table.

    Args:
        output: folder of results.csv and machine.txt; with a README, that takes the table.

    Raises:
        ValueError: a loss with the cache is not that without it.
    """
    rows = read_rows(output / "results.csv")
    largest = load_study(FOLDER, quick=False)["largest_difference"]
    head = ["trained", "epoch without, s", "epoch with, s", "epochs: times faster", "first epoch, with filling, s",
            "all epochs with validation: times faster", "whole command: times faster",
            "largest difference of a logged training loss", "of the test loss",
            "test macro F1 without, with"]  # fmt: skip
    table = [head]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        table.append(line(stage, [row for row in rows if row["stage"] == stage], largest))
    seeds = len({row["seed"] for row in rows})
    text = "\n\n".join(
        [
            f"Medians over {seeds} seed(s); ratios are medians of the ratios of pairs.",
            markdown_table(table),
            measured_on(output),
        ]
    )
    write_results(output, text)
    print(text)


def line(stage: str, rows: list[dict[str, Any]], largest: float) -> list[str]:
    """The line of the table for a stage."""
    pairs = [
        {row["system"]: row for row in rows if row["seed"] == seed} for seed in {r["seed"] for r in rows}
    ]
    difference = max(row["loss_difference"] for row in rows)
    if difference > largest:
        raise ValueError(f"{stage}: a training loss with the cache differs by {difference} from that without")
    of_test = max(abs(pair["plain"]["test_loss"] - pair["cached"]["test_loss"]) for pair in pairs)
    ratios = [
        f"{median_ratio(rows, column, 'plain', 'cached'):.1f}×"
        for column in ("epoch_seconds", "training_seconds", "command_seconds")
    ]
    seconds = [f"{median_of(rows, 'epoch_seconds', system=system):.2f}" for system in SYSTEMS]
    filling = f"{median_of(rows, 'first_epoch_seconds', system='cached'):.2f}"
    scores = ", ".join(f"{median_of(rows, 'macro_f1', system=system):.4f}" for system in SYSTEMS)
    return [
        TRAINED[stage],
        *seconds,
        ratios[0],
        filling,
        *ratios[1:],
        f"{difference:.1e}",
        f"{of_test:.1e}",
        scores,
    ]


if __name__ == "__main__":
    main()
