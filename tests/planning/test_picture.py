"""What the picture of a plan shows is what its table says: looked at in the figure that is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.planning.project import UNTIMED, plan, strategy, write_run

STRATEGIES = [
    strategy(
        "StagedUnfreezing",
        stages=[
            {"train": ["head"], "until_step": 5},
            {"train": ["layer.4-head"], "until_step": 17},
            {"train": ["all"], "lr_factor": 0.5},
        ],
        lr_decay=0.9,
    ),
    strategy("LrRestarts", at="stage", peak_decay=0.8),
    strategy("CostWeightedLoss", start_step=20),
]


@pytest.fixture
def drawn(
    bert: str, texts: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, str]], dict[str, Axes]]:
    """The rows of plan.csv, and the panels of the picture by the beginning of their titles."""
    figures: list[Figure] = []
    save = Figure.savefig

    def savefig(self: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    rows = plan(*write_run(bert, texts, STRATEGIES), UNTIMED)
    (figure,) = figures
    return rows, {axes.get_title(loc="left").partition(" (")[0]: axes for axes in figure.axes}


def column(rows: list[dict[str, str]], key: str) -> np.ndarray:
    return np.array([float(row[key] or "nan") for row in rows])


def test_blocks_are_coloured_where_they_train(drawn: Any) -> None:
    rows, panels = drawn
    axes = panels["what is trained"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [key.removeprefix("trained/") for key in rows[0] if key.startswith("trained/")]
    coloured = np.zeros((len(rows), len(names)))
    for mesh in (found for found in axes.collections if isinstance(found, QuadMesh)):
        corners = mesh.get_coordinates()
        begin, end = int(corners[0, 0, 0]), int(corners[0, -1, 0])
        row = round(float(corners[:, 0, 1].mean()))
        rates = column(rows, f"lr/{names[row]}")[begin:end]
        assert np.asarray(mesh.get_array()) == pytest.approx(np.maximum(rates, mesh.norm.vmin)[None])
        coloured[begin:end, row] = 1
    assert pytest.approx(np.array([column(rows, f"trained/{name}") for name in names])) == coloured.T


def test_stages_stand_where_they_begin_and_end(drawn: Any) -> None:
    rows, panels = drawn
    axes = panels["stages of the strategies"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for bar in (patch for patch in axes.patches if isinstance(patch, Rectangle)):
        found[names[round(bar.get_y() + bar.get_height() / 2)]].append(
            (bar.get_x(), bar.get_x() + bar.get_width())
        )
    assert (
        sorted(found["StagedUnfreezing"]) == sorted(found["LrRestarts"]) == [(0, 5), (5, 17), (17, len(rows))]
    )
    assert sorted(found["CostWeightedLoss"]) == [(0, 20), (20, len(rows))]
    numbers = sorted(text.get_text() for text in axes.texts)
    assert numbers == sorted(["0", "1", "2"] * 2 + ["0", "1"])


def test_lines_are_the_rates_and_weights_of_the_table(drawn: Any) -> None:
    rows, panels = drawn
    rates, trained = panels["learning rate"], [key for key in rows[0] if key.startswith("trained/")]
    lines = [line.get_ydata() for line in rates.lines if len(line.get_ydata()) == len(rows) + 1]
    assert len(lines) == len(trained)
    for line, key in zip(lines, trained, strict=True):
        rate = column(rows, key.replace("trained/", "lr/"))
        rate[column(rows, key) == 0] = np.nan
        assert line[:-1] == pytest.approx(rate, nan_ok=True)
    restarts = [line.get_xdata()[0] for line in rates.lines if line.get_linestyle() != "-"]
    assert sorted(restarts) == [5, 17]
    weights = panels["class weights in the loss"]
    drawn_weights = [
        line.get_ydata()[:-1] for line in weights.lines if len(line.get_ydata()) == len(rows) + 1
    ]
    for line, key in zip(
        drawn_weights, [key for key in rows[0] if key.startswith("class_weight/")], strict=True
    ):
        assert line == pytest.approx(np.nan_to_num(column(rows, key), nan=1.0))
