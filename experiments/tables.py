"""From rows of results.csv to tables: medians, ratios within pairs, Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def median_of(rows: Iterable[Mapping[str, Any]], column: str, **wanted: Any) -> float:
    """The median of a column over the rows that have the wanted values and a number there."""
    values = [
        row[column]
        for row in rows
        if row[column] != "" and all(row[key] == value for key, value in wanted.items())
    ]
    return statistics.median(values)


def median_ratio(
    rows: Sequence[Mapping[str, Any]], column: str, above: str, below: str, key: str = "seed"
) -> float:
    """The median over the pairs (same seed, run one after the other) of the ratio of two systems.

    A pair shares what else the machine was doing then, so a ratio within a pair is steadier than a ratio of medians.
    """
    values = {(row["system"], row[key]): row[column] for row in rows}
    pairs = [seed for system, seed in values if system == above and (below, seed) in values]
    return statistics.median(values[above, seed] / values[below, seed] for seed in pairs)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
