"""Draw a run from what it left in its run directory: which blocks train when, at which rate, and what comes of it.

python -m experiments.anatomy_of_a_run.plot runs/sms_spam/0 picture.png
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

INK, QUIET = "#1b2a41", "#8d99ae"


def column(rows: list[dict[str, str]], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric, where it was logged."""
    found = [(int(row["step"]), float(row[key])) for row in rows if row.get(key)]
    return [step for step, _ in found], [value for _, value in found]


def trained_spans(
    events: list[dict[str, Any]], blocks: list[str], end: int
) -> dict[str, list[tuple[int, int]]]:
    """For each block the spans of optimizer steps in which it was trained."""
    changes = [(e["step"], set(e["facts"]["blocks"])) for e in events if e["what"] == "trainable"] or [
        (0, set(blocks))
    ]
    spans: dict[str, list[tuple[int, int]]] = {block: [] for block in blocks}
    for index, (start, trained) in enumerate(changes):
        stop = changes[index + 1][0] if index + 1 < len(changes) else end
        for block in trained:
            spans[block].append((start, stop))
    return spans


def draw_blocks(axes: Axes, rows: list[dict[str, str]], events: list[dict[str, Any]], end: int) -> None:
    """A row for each block: grey while frozen, coloured by its rate while trained."""
    blocks = [key.removeprefix("lr/") for key in rows[0] if key.startswith("lr/")]
    spans = trained_spans(events, blocks, end)
    rates = [rate for block in blocks for rate in column(rows, f"lr/{block}")[1] if rate > 0]
    norm = LogNorm(vmin=max(rates) / 20, vmax=max(rates))
    for y, block in enumerate(blocks):
        axes.barh(y, end, height=0.86, color="#eef0f4", zorder=1)
        steps, values = column(rows, f"lr/{block}")
        for start, stop in spans[block]:
            for index, step in enumerate(steps):
                left = max(start, steps[index - 1] + 1 if index else 0)
                right = min(stop, step + 1 if index + 1 < len(steps) else end)
                if left < right:
                    shade = plt.get_cmap("YlGnBu")(norm(max(values[index], norm.vmin or 0)))
                    axes.barh(y, right - left, left=left, height=0.86, color=shade, zorder=2)
    axes.set_yticks(range(len(blocks)), blocks, fontsize=8)
    axes.set_ylabel("block")
    mappable = plt.cm.ScalarMappable(norm=norm, cmap="YlGnBu")
    axes.figure.colorbar(mappable, ax=axes, label="learning rate while trained", pad=0.01)


def draw_rate(axes: Axes, rows: list[dict[str, str]], events: list[dict[str, Any]]) -> None:
    """The rate of the head; restarts as lines."""
    axes.plot(*column(rows, "lr/head"), color=INK)
    for event in events:
        if event["what"] == "restart":
            axes.axvline(event["step"], color=QUIET, lw=0.8, ls=":")
    axes.set_ylabel("rate of the head")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def draw_scores(axes: Axes, rows: list[dict[str, str]]) -> None:
    """The training loss, and macro F1 of each validation and of the test."""
    axes.plot(*column(rows, "train/loss"), color=QUIET, lw=1)
    axes.set_ylabel("train/loss", color=QUIET)
    axes.set_xlabel("optimizer step")
    scores = axes.twinx()
    steps, values = column(rows, "val/macro_f1")
    scores.plot(steps, values, "o-", color=INK)
    for step, value in zip(steps, values, strict=True):
        scores.annotate(
            f"{value:.3f}", (step, value), xytext=(0, -13), textcoords="offset points", ha="right", fontsize=8
        )
    tested = column(rows, "test/macro_f1")
    scores.plot(
        *tested,
        "*",
        color="#d1495b",
        ms=11,
        label=f"test/macro_f1 {tested[1][-1]:.3f}" if tested[1] else None,
    )
    scores.set_ylabel("val/macro_f1", color=INK)
    if tested[1]:
        scores.legend(loc="center", frameon=False)


def draw(run: Path, picture: Path) -> None:
    """Write the picture of a run directory.

    Raises:
        SystemExit: the folder is no run directory with metrics and a timeline.
    """
    for name in ("metrics.csv", "timeline.jsonl"):
        if not (run / name).exists():
            raise SystemExit(f"{run} holds no {name}: name a run directory, such as runs/sms_spam/0")
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    events = [json.loads(line) for line in (run / "timeline.jsonl").read_text(encoding="utf-8").splitlines()]
    end = max(int(row["step"]) for row in rows) + 1
    figure, (blocks, rate, scores) = plt.subplots(
        3, 1, figsize=(9, 6.4), sharex=True, height_ratios=[3, 1, 1.6], layout="constrained"
    )
    draw_blocks(blocks, rows, events, end)
    draw_rate(rate, rows, events)
    draw_scores(scores, rows)
    for axes in (blocks, rate, scores):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, end * 1.015)
    figure.suptitle(
        f"{run.parent.name}: which blocks train when, at which rate, and what comes of it", fontsize=11
    )
    figure.savefig(picture, dpi=130)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
