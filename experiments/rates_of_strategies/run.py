"""Fine-tune with several rates, or other strengths of a strategy, and score each by validation; a table of the best."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.fits import FIT, logged
from experiments.results import measured_on, read_rows, write_results
from experiments.strategies import run as strategies
from experiments.strategies.report import Rows
from experiments.study import Run, carry_out, load_study, study_options, work_folder
from experiments.tables import markdown_table

FOLDER = Path(__file__).parent
MEAN = "mean"


def main() -> None:
    options = study_options(__doc__)
    whole = load_study(strategies.FOLDER, options.quick)
    carry_out(FOLDER, options, partial(runs, whole), report, partial(command_of, whole))


def runs(whole: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[Run]:
    """For each seed and system every value with every data set.

    Args:
        whole: settings of experiments/strategies.
        study: settings.
    """
    sources = strategies.sources_of(whole)
    for seed in study["seeds"]:
        for system, grid in study["grid"].items():
            for value in next(iter(grid.values())):
                for data, source in sources.items():
                    known_by = {"seed": seed, "data": data, "system": system, "value": value}
                    yield known_by, partial(validated, whole, study, known_by, source)


def words_of(whole: Mapping[str, Any], study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What a run has beside plain fine-tuning: what its system has, but the value that is tried."""
    option = next(iter(study["grid"][known_by["system"]]))
    words = strategies.systems_of(whole)[known_by["system"]]
    return [*(word for word in words if not word.startswith(f"{option}=")), f"{option}={known_by['value']:g}"]


def command_of(whole: Mapping[str, Any], study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What makes a run: how many rows, its data set, the machine, and what it has beside plain fine-tuning."""
    rows = [f"{name} {whole['rows'][name]}" for name in ("train", "validation")]
    return [
        *rows,
        whole["data_sets"][known_by["data"]],
        *whole["arguments"],
        *words_of(whole, study, known_by),
    ]


def validated(
    whole: Mapping[str, Any], study: Mapping[str, Any], known_by: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """One fit, which is not tested: its best score in a validation."""
    folder = work_folder(FOLDER) / "_".join(str(value) for value in known_by.values())
    words = [*words_of(whole, study, known_by), "--run.test_after_fit=false"]
    strategies.fit(whole, known_by["data"], source, words, known_by["seed"], folder)
    scores = logged(folder / FIT, f"val/{whole['score']}")
    return {"score": max(score for _, score in scores)}


def report(output: Path) -> None:
    """A row for each value of each system, into the README; the best of each in bold."""
    rows = read_rows(output / "results.csv")
    names = list(dict.fromkeys(row["data"] for row in rows))
    table = [["system", "rate or ρ", *names, "mean"]]
    for system in dict.fromkeys(row["system"] for row in rows):
        means = means_of([row for row in rows if row["system"] == system], names)
        best = best_of(means)
        for value, scores in sorted(means.items()):
            cells = [
                f"**{scores[name]:.4f}**" if value == best[name] else f"{scores[name]:.4f}"
                for name in [*names, MEAN]
            ]
            table.append([f"`{system}`", f"{value:g}", *cells])
    seeds = len({row["seed"] for row in rows})
    text = f"{measured_on(output)}\n\nMacro F1 of the best validation, {seeds} seed(s).\n\n{markdown_table(table)}"
    print(text)
    write_results(output, text)


def means_of(rows: Rows, names: Sequence[str]) -> dict[float, dict[str, float]]:
    """Of each value the mean score over the seeds on each data set, and the mean of these.

    Args:
        rows: of one system.
        names: of the data sets.

    Returns:
        By value and name of the data set, or MEAN; values that have not run on all data sets are left out.

    >>> rows = [{"value": 0.1, "data": "a", "score": 0.2}, {"value": 0.1, "data": "b", "score": 0.6}]
    >>> means_of([*rows, {"value": 0.3, "data": "b", "score": 0.9}], ["a", "b"])
    {0.1: {'a': 0.2, 'b': 0.6, 'mean': 0.4}}
    """
    found: dict[float, dict[str, float]] = {}
    for value in dict.fromkeys(row["value"] for row in rows):
        scores = {
            name: [row["score"] for row in rows if (row["value"], row["data"]) == (value, name)]
            for name in names
        }
        if all(scores.values()):
            means = {name: statistics.mean(numbers) for name, numbers in scores.items()}
            found[value] = {**means, MEAN: statistics.mean(means.values())}
    return found


def best_of(means: Mapping[float, Mapping[str, float]]) -> dict[str, float]:
    """The value with the highest mean on each data set, and over all of them.

    >>> best_of({0.1: {"a": 0.2, "mean": 0.4}, 0.3: {"a": 0.1, "mean": 0.5}})
    {'a': 0.1, 'mean': 0.3}
    """
    names = {name: None for scores in means.values() for name in scores}
    return {name: max(means, key=lambda value: means[value][name]) for name in names}


if __name__ == "__main__":
    main()
