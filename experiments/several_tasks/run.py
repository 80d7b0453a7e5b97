"""Fine-tune on two data sets alone and together, with gradient surgery and without, over seeds; table of the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml
from scipy import stats

from experiments.commands import ROOT
from experiments.configurations import load_config
from experiments.fits import FIT, fit_for_scores, read_scores
from experiments.rates import epoch_seconds, read_clock
from experiments.results import measured_on, read_rows, write_results
from experiments.strategies.run import fit, sources_of
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
ALONE, TOGETHER, GRADIENT_SURGERY = "alone", "together", "gradient_surgery"
#: What a system is compared with.
BESIDE = {TOGETHER: (ALONE,), GRADIENT_SURGERY: (TOGETHER, ALONE)}


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report, command_of)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """For each seed both tasks alone, then together without a strategy and with it."""
    sources = sources_of(study, WORK / "texts")
    config = write_config(study, sources, WORK / "together.yaml")
    for seed in study["seeds"]:
        yield {"seed": seed, "system": ALONE}, partial(train_alone, study, sources, seed)
        for system in study["systems"]:
            known_by = {"seed": seed, "system": system}
            yield known_by, partial(train_together, study, config, system, seed)


def command_of(study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What makes a run: configurations, the machine, and what its system has."""
    if known_by["system"] == ALONE:
        return [*study["data_sets"].values(), *study["arguments"]]
    return [study["together"], *study["arguments"], *study["systems"][known_by["system"]]]


def write_config(study: Mapping[str, Any], sources: Mapping[str, str], path: Path) -> Path:
    """The configuration of both tasks, whose data are the rows of the study."""
    config = load_config(ROOT / study["together"])
    for name, data in config["data"]["init_args"]["tasks"].items():
        data["init_args"] |= {"source": sources[name], "deduplicate": False}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def train_alone(study: Mapping[str, Any], sources: Mapping[str, str], seed: int) -> dict[str, Any]:
    """A fit of each task, tested at its best checkpoint: their scores; seconds of an epoch of both."""
    row: dict[str, Any] = {"epoch_seconds": 0.0}
    for name, source in sources.items():
        folder = WORK / f"{name}_{seed}"
        fit(study, name, source, [], seed, folder)
        row[name] = read_scores(folder / FIT)[study["score"]]
        row["epoch_seconds"] += mean(epoch_seconds(read_clock(folder / "clock.json")))
    return row


def train_together(study: Mapping[str, Any], config: Path, system: str, seed: int) -> dict[str, Any]:
    """A fit of both tasks, tested at the best checkpoint by the mean of their scores."""
    folder = WORK / f"{system}_{seed}"
    words = ["--config", str(config), *study["arguments"]]
    fit_for_scores(words, seed, folder, study["side_by_side"], study["systems"][system])
    scores = read_scores(folder / FIT)
    row = {name: scores[f"{name}/{study['score']}"] for name in study["data_sets"]}
    return {"epoch_seconds": mean(epoch_seconds(read_clock(folder / "clock.json"))), **row}


def report(output: Path) -> None:
    """The table of scores, into the README."""
    rows = read_rows(output / "results.csv")
    tasks = [key for key in rows[0] if key not in ("seed", "system", "epoch_seconds", "configuration")]
    table = [["training", *(f"{task}: macro F1, mean ± sd" for task in tasks), "an epoch, s"]]
    for system in (ALONE, *BESIDE):
        found = [row for row in rows if row["system"] == system]
        cells = [f"{np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}"
                 for scores in ([row[task] for row in found] for task in tasks)]  # fmt: skip
        seconds = np.median([row["epoch_seconds"] for row in found])
        table.append([system.replace("_", " "), *cells, f"{seconds:.1f}"])
    lines = [
        f"{system.replace('_', ' ')} less {other}: "
        + ", ".join(
            "{} {:+.4f} (p = {:.3f})".format(task, *compared(rows, task, system, other)) for task in tasks
        )
        for system, others in BESIDE.items()
        for other in others
    ]
    seeds = len({row["seed"] for row in rows})
    parts = [
        measured_on(output),
        f"{seeds} seeds.",
        markdown_table(table),
        "\n".join(f"- {line}" for line in lines),
    ]
    print(*parts, sep="\n\n")
    write_results(output, "\n\n".join(parts))


def compared(rows: Sequence[Mapping[str, Any]], task: str, system: str, beside: str) -> tuple[float, float]:
    """The mean difference of two systems over the seeds, and p of Student's t-test for pairs.

    >>> rows = [{"seed": 0, "system": "a", "x": 0.5}, {"seed": 1, "system": "a", "x": 0.6},
    ...         {"seed": 1, "system": "b", "x": 0.5}, {"seed": 0, "system": "b", "x": 0.2}]
    >>> [round(value, 3) for value in compared(rows, "x", "a", "b")]
    [0.2, 0.295]
    """
    ours, theirs = (
        [row[task] for row in sorted(rows, key=lambda row: row["seed"]) if row["system"] == name]
        for name in (system, beside)
    )
    return float(np.mean(np.subtract(ours, theirs))), float(stats.ttest_rel(ours, theirs).pvalue)


if __name__ == "__main__":
    main()
