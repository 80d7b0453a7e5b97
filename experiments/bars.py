"""Bars: a panel of a figure with a bar for each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.measure import median_of


def systems_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The systems in the order in which they come first."""
    return list(dict.fromkeys(row["system"] for row in rows))


def draw_bars(
    panel: Any,
    rows: Sequence[Mapping[str, Any]],
    column: str,
    names: Mapping[str, str],
    title: str,
    from_zero: bool = True,
) -> None:
    """Each run of a system a point on the bar of their median.

    Args:
        panel: axes of matplotlib.
        rows: of results.csv.
        column: of them.
        names: of the systems, for readers.
        title: of the panel.
        from_zero: False leaves out the bars, which begin at 0, where values differ by little.
    """
    systems = systems_of(rows)
    for place, system in enumerate(systems):
        values = [row[column] for row in rows if row["system"] == system]
        if from_zero:
            panel.barh(place, median_of(rows, column, system=system), color="C0", alpha=0.4)
        panel.plot(values, [place] * len(values), "o", color="C0", markersize=4)
    panel.set_yticks(range(len(systems)), [names[system] for system in systems])
    panel.invert_yaxis()
    panel.set_title(title)
