"""From results.csv to the tables of the README and the figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.figures import draw_bars, picture, systems_of
from experiments.results import measured_on, read_rows, write_results
from experiments.tables import markdown_table, median_of, median_ratio

NAMES = {
    "hf_default": "HF Trainer, dynamic padding, fp32 (default)",
    "hf_best_eager": "HF Trainer, dynamic padding, bf16, eager attention",
    "hf_best_sdpa": "HF Trainer, dynamic padding, bf16, sdpa attention",
    "bertlab": "bertlab, bf16",
    "bertlab_fp32": "bertlab, fp32",
}
BEST_FLAGS = ("hf_best_eager", "hf_best_sdpa")
RATE = "tokens_per_second"
Rows = list[dict[str, Any]]


def report(output: Path) -> None:
    """Write the tables and the figure.

    Args:
        output: folder of results.csv and machine.txt; with a README, that takes the tables.
    """
    cases = cases_of(output)
    text = tables(output, cases, case_table, [summary(cases)])
    write_results(output, text)
    draw(cases, output / "figure.png")
    print(text)


def cases_of(output: Path) -> dict[str, Rows]:
    """The rows of results.csv by their case, as they come."""
    rows = read_rows(output / "results.csv")
    names = dict.fromkeys(row["case"] for row in rows)
    return {name: [row for row in rows if row["case"] == name] for name in names}


def tables(
    output: Path, cases: dict[str, Rows], table: Callable[[Rows], str], first: Sequence[str] = ()
) -> str:
    """What was measured, with a table for each case and others before them."""
    return "\n\n".join(
        [
            "Medians over the seeds; ratios are medians of the ratios of pairs, of real tokens a second.",
            *first,
            *(f"**{title(name, rows)}**\n\n{table(rows)}" for name, rows in cases.items()),
            measured_on(output),
        ]
    )


def title(name: str, rows: Rows) -> str:
    """What a case is: layers × width, length, batch size, steps; of how many seeds it is."""
    first, seeds = rows[0], len({row["seed"] for row in rows})
    return (
        f"{name}: {first['layers']} × {first['width']}, {first['length']} tokens, "
        f"batch size {first['batch_size']}, {first['steps']} steps; {seeds} seed{'s' * (seeds > 1)}"
    )


def summary(cases: dict[str, Rows]) -> str:
    """A row for each case: how many times the Trainer's rate bertlab reaches, and its share of the memory."""
    against = ["best of bertlab ÷ default of HF", "both fp32", "both bf16, HF's faster attention"]
    table = [["", *against, *(f"peak memory, {pair}" for pair in against)]]
    for name, rows in cases.items():
        best = "bertlab" if "bertlab" in systems_of(rows) else "bertlab_fp32"
        pairs = [
            (best, "hf_default"),
            ("bertlab_fp32", "hf_default"),
            ("bertlab", fastest(rows, BEST_FLAGS)),
        ]
        ratios = [ratio(rows, column, *pair) for column in (RATE, "peak_mib") for pair in pairs]
        table.append([name, *ratios])
    return markdown_table(table)


def case_table(rows: Rows) -> str:
    """Every system of a case."""
    ours = [system for system in systems_of(rows) if system.startswith("bertlab")]
    table = [["", "sequences/s", "real tokens/s", *(f"{NAMES[system]}: times faster" for system in ours),
              "step, ms", "peak memory, MiB", "validation loss"]]  # fmt: skip
    for system in systems_of(rows):
        table.append(
            [
                NAMES[system],
                f"{median_of(rows, 'sequences_per_second', system=system):.1f}",
                f"{median_of(rows, RATE, system=system):.0f}",
                *("–" if our == system else ratio(rows, RATE, our, system) for our in ours),
                f"{1000 * median_of(rows, 'step_seconds', system=system):.0f}",
                f"{median_of(rows, 'peak_mib', system=system):.0f}",
                f"{median_of(rows, 'validation_loss', system=system):.4f}",
            ]
        )
    return markdown_table(table)


def ratio(rows: Rows, column: str, above: str, below: str | None) -> str:
    """The median of the ratios of pairs; a dash where a system was not measured."""
    if not {above, below} <= set(systems_of(rows)):
        return "–"
    return f"{median_ratio(rows, column, above, str(below)):.2f}×"


def fastest(rows: Rows, systems: tuple[str, ...]) -> str | None:
    """That of the systems with the highest rate; None where none was measured."""
    measured = [system for system in systems if system in systems_of(rows)]
    return max(measured, key=lambda system: median_of(rows, RATE, system=system), default=None)


def draw(cases: dict[str, Rows], path: Path) -> None:
    """Real tokens/s and peak memory of each case, each run a point on the bar of the median."""
    columns = {RATE: "real tokens/s", "peak_mib": "peak memory, MiB"}
    with picture(path, len(cases), 2, size=(13, 2.2 * len(cases)), dpi=110) as axes:
        for panels, (name, rows) in zip(axes, cases.items(), strict=True):
            for panel, (column, label) in zip(panels, columns.items(), strict=True):
                draw_bars(panel, rows, column, NAMES, f"{name}, {label}")
