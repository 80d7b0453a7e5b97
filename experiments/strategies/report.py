"""Table and figure of the scores of each strategy beside plain fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from experiments.figures import picture
from experiments.results import measured_on, read_rows, write_results
from experiments.tables import markdown_table, median_ratio

NONE = "none"
Rows = Sequence[dict[str, Any]]


def report(output: Path) -> None:
    """A table for each data set, into the README, and the figure."""
    rows = read_rows(output / "results.csv")
    parts = [measured_on(output)]
    for data in dict.fromkeys(row["data"] for row in rows):
        of_data = [row for row in rows if row["data"] == data]
        seeds = len({row["seed"] for row in of_data if row["system"] == NONE})
        parts += [f"**{data}**, {seeds} seeds", markdown_table(table(of_data))]
    print(*parts, sep="\n\n")
    write_results(output, "\n\n".join(parts))
    draw(rows, output / "figure.png")


def compared(scores: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """How each system differs from none, over the same seeds.

    Args:
        scores: of each system, a number for each seed, in the same order.

    Returns:
        Mean difference; p of Student's t-test for pairs; p adjusted so that of all that are called significant the
        wanted share at most are not (Benjamini & Hochberg 1995). NaN where all differences are equal.

    >>> found = compared({"none": [0.5, 0.6, 0.7], "good": [0.6, 0.71, 0.8], "same": [0.5, 0.61, 0.69]})
    >>> [round(float(value), 4) for value in found["good"]]
    [0.1033, 0.001, 0.0021]
    """
    systems = [system for system in scores if system != NONE]
    difference = {system: np.subtract(scores[system], scores[NONE]) for system in systems}
    p = np.array([stats.ttest_rel(scores[system], scores[NONE]).pvalue for system in systems])
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    adjusted[known] = stats.false_discovery_control(p[known])
    return {
        system: (float(difference[system].mean()), float(p[place]), float(adjusted[place]))
        for place, system in enumerate(systems)
    }


def table(rows: Rows) -> list[list[str]]:
    """Systems by their mean score, those that have run with all seeds that none has."""
    scores = scores_of(rows)
    found = compared(scores)
    head = ["strategy", "macro F1, mean ± sd", "difference", "p", "p, adjusted", "an epoch, s", "× none"]
    lines = [head]
    for system in sorted(scores, key=lambda system: -float(np.mean(scores[system]))):
        seconds = np.median([row["epoch_seconds"] for row in rows if row["system"] == system])
        mean, deviation = np.mean(scores[system]), np.std(scores[system], ddof=1)
        cells = [f"{mean:.4f} ± {deviation:.4f}"]
        if system == NONE:
            cells += ["–", "–", "–"]
        else:
            change, p, adjusted = found[system]
            cells += [f"{change:+.4f}", f"{p:.3f}", f"{adjusted:.3f}"]
        name = "none: plain fine-tuning" if system == NONE else f"`{system}`"
        ratio = median_ratio(rows, "epoch_seconds", system, NONE)
        lines.append([name, *cells, f"{seconds:.1f}", f"{ratio:.2f}"])
    return lines


def scores_of(rows: Rows) -> dict[str, list[float]]:
    """Scores by system, in the order of the seeds."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["system"], {})[row["seed"]] = row["score"]
    seeds = sorted(found[NONE])
    return {
        system: [by_seed[seed] for seed in seeds]
        for system, by_seed in found.items()
        if by_seed.keys() >= set(seeds)
    }


def draw(rows: Rows, path: Path) -> None:
    """A panel for each data set: differences from none with the interval that holds the mean with 95 %."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    systems = sorted({row["system"] for row in rows} - {NONE}, reverse=True)
    size = (2.6 + 3.6 * len(names), 1 + 0.25 * len(systems))
    with picture(path, 1, len(names), size, dpi=120, sharey=True) as axes:
        for panel, name in zip(axes[0], names, strict=True):
            draw_differences(panel, scores_of([row for row in rows if row["data"] == name]), systems)
            panel.set(title=name, xlabel="macro F1 less that of plain fine-tuning")
        axes[0, 0].set_yticks(range(len(systems)), systems)


def draw_differences(panel: Any, scores: dict[str, list[float]], systems: Sequence[str]) -> None:
    """A row for each system that has scores."""
    for place, system in enumerate(systems):
        if system not in scores:
            continue
        differences = np.subtract(scores[system], scores[NONE])
        half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
        panel.plot(differences, [place] * len(differences), "o", color="tab:blue", alpha=0.35, markersize=4)
        panel.errorbar(differences.mean(), place, xerr=half, fmt="|", color="black", capsize=2)
    panel.axvline(0, color="grey", linewidth=0.8)
