"""Figures of results: a grid of panels in a file, and panels with a bar or a column of points for each system."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.tables import median_of


@contextmanager
def picture(
    path: Path, rows: int, columns: int, size: tuple[float, float], dpi: int, **options: Any
) -> Iterator[Any]:
    """A figure that is written when what is drawn in it is done.

    Args:
        path: of the picture.
        rows: of panels.
        columns: of panels.
        size: width and height, inches.
        dpi: dots an inch.
        options: of pyplot.subplots.

    Yields:
        (rows, columns) axes of matplotlib.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, **options)
    yield axes
    figure.tight_layout()
    figure.savefig(path, dpi=dpi)
    pyplot.close(figure)


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


def draw_points(
    panel: Any,
    values: Mapping[str, Sequence[float]],
    middle: Callable[[Sequence[float]], float],
    title: str,
) -> None:
    """The runs of each system as points one above the other, with a line at their middle.

    Args:
        panel: axes of matplotlib.
        values: a number for each run, by the name of the system for readers.
        middle: mean or median.
        title: of the panel.
    """
    for place, numbers in enumerate(values.values()):
        panel.plot([place] * len(numbers), numbers, "o", alpha=0.5)
        panel.hlines(middle(numbers), place - 0.25, place + 0.25, color="black")
    panel.set_xticks(range(len(values)), list(values))
    panel.set_xlim(-0.5, len(values) - 0.5)
    panel.set_title(title)
