"""From results.csv to the tables of the README and the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.figures import draw_bars, picture, systems_of
from experiments.results import measured_on, read_rows, write_results
from experiments.tables import markdown_table, median_of, median_ratio

NAMES = {
    "hf_maximum": "HF Trainer, padded to 128, fp32 (default)",
    "hf_dynamic": "HF Trainer, dynamic padding, fp32",
    "hf_grouped": "HF Trainer, grouped by length, fp32",
    "hf_best": "HF Trainer, grouped by length, bf16",
    "hf_best_eager": "HF Trainer, grouped by length, bf16, eager attention",
    "hf_bf16": "HF Trainer, dynamic padding, bf16",
    "bertlab": "bertlab, bf16",
    "bertlab_fp32": "bertlab, fp32",
}
Rows = list[dict[str, Any]]


def report(output: Path) -> None:
    """Write the tables and the figure.

    Args:
        output: folder of results.csv and machine.txt; with a README, that takes the tables.
    """
    rows = read_rows(output / "results.csv")
    parts = {
        name: [row for row in rows if row["part"] == name] for name in ("training", "prediction", "overhead")
    }
    check_same_data(parts["training"])
    text = "\n\n".join(
        [
            f"Medians over {len({row['seed'] for row in rows})} seed(s); ratios are medians of the ratios of pairs.",
            "**Training**",
            training_table(parts["training"]),
            "**Prediction**, all with the same weights",
            prediction_table(parts["prediction"]),
            "**Overhead and frozen blocks**",
            overhead_table(parts["overhead"]),
            measured_on(output),
        ]
    )
    write_results(output, text)
    draw(parts, output / "figure.png")
    print(text)


def check_same_data(rows: Rows) -> None:
    """Refuse results of systems that did not train on the same rows and tokens.

    Raises:
        ValueError: they did not.
    """
    seen = {(row["rows_per_epoch"], row["tokens_per_epoch"]) for row in rows}
    if len(seen) != 1:
        raise ValueError(f"systems differ in rows and tokens of an epoch: {seen}")


def training_table(rows: Rows) -> str:
    """Every system with its rates, and how many times it bertlab reaches."""
    head = ["", "examples/s", "real tokens/s", *_ratio_titles(rows), "peak memory, MiB",
            "test loss", "test macro F1"]  # fmt: skip
    table = [head]
    for system in systems_of(rows):
        table.append(
            [
                NAMES[system],
                f"{median_of(rows, 'examples_per_second', system=system):.0f}",
                f"{median_of(rows, 'tokens_per_second', system=system):.0f}",
                *_ratios(rows, system),
                f"{median_of(rows, 'peak_mib', system=system):.0f}",
                f"{median_of(rows, 'test_loss', system=system):.3f}",
                f"{median_of(rows, 'macro_f1', system=system):.4f}",
            ]
        )
    return markdown_table(table)


def prediction_table(rows: Rows) -> str:
    """Every system with its rate, and how far its answers are from those of the default."""
    head = ["", "examples/s", *_ratio_titles(rows), "whole command, s", "peak memory, MiB",
            "same class as the default", "largest difference of a probability"]  # fmt: skip
    table = [head]
    for system in systems_of(rows):
        table.append(
            [
                NAMES[system],
                f"{median_of(rows, 'examples_per_second', system=system):.0f}",
                *_ratios(rows, system),
                f"{median_of(rows, 'command_seconds', system=system):.0f}",
                f"{median_of(rows, 'peak_mib', system=system):.0f}",
                f"{100 * median_of(rows, 'agreement', system=system):.2f} %",
                f"{median_of(rows, 'difference', system=system):.1e}",
            ]
        )
    return markdown_table(table)


def overhead_table(rows: Rows) -> str:
    """Step times, and the two ratios."""
    names = {
        "loop": "hand-written loop, nothing logged",
        "bertlab": "`bertlab fit`, everything logged",
        "bertlab_head_only": "`bertlab fit`, head alone trained",
    }
    table = [["", "median step, ms", "ratio to"]]
    ratios = {
        "loop": "",
        "bertlab": f"{median_ratio(rows, 'step_seconds', 'bertlab', 'loop'):.3f} of the loop",
        "bertlab_head_only": (
            f"{median_ratio(rows, 'step_seconds', 'bertlab_head_only', 'bertlab'):.3f} of everything trained"
        ),
    }
    for system, name in names.items():
        step = 1000 * median_of(rows, "step_seconds", system=system)
        table.append([name, f"{step:.1f}", ratios[system]])
    return markdown_table(table)


def draw(parts: dict[str, Rows], path: Path) -> None:
    """Examples/s of training and of prediction, each run a point on the bar of the median; test loss."""
    panels = (
        ("training", "examples_per_second", "training, examples/s"),
        ("prediction", "examples_per_second", "prediction, examples/s"),
        ("training", "peak_mib", "training, peak memory, MiB"),
        ("training", "test_loss", "test loss"),
    )
    with picture(path, 2, 2, size=(13, 6), dpi=110) as axes:
        for panel, (part, column, title) in zip(axes.flat, panels, strict=True):
            draw_bars(panel, parts[part], column, NAMES, title, from_zero=column != "test_loss")


def _ratio_titles(rows: Rows) -> list[str]:
    """A column for each way in which bertlab was run."""
    return [f"{NAMES[system]}: times faster" for system in _ours(rows)]


def _ratios(rows: Rows, system: str) -> list[str]:
    """How many times a system's examples a second each way of running bertlab reaches."""
    return [
        "–" if ours == system else f"{median_ratio(rows, 'examples_per_second', ours, system):.2f}×"
        for ours in _ours(rows)
    ]


def _ours(rows: Rows) -> list[str]:
    return [system for system in systems_of(rows) if system.startswith("bertlab")]
