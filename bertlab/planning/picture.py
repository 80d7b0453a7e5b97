"""A plan as a picture: which blocks train when, in which stages, at which rate, on what."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bertlab.planning import wording
from bertlab.planning.drawn_steps import QUANTITIES, DrawnSteps, Numbers
from bertlab.planning.plan import Plan

INK, QUIET, FROZEN, OPEN = "#1b2a41", "#8d99ae", "#eef0f4", "#d1495b"
#: From a low rate to a high one; the lowest is darker than what is frozen.
RATES = LinearSegmentedColormap.from_list("rates", ["#c9e4ca", "#66b8a9", "#2f7fa8", "#1f4788", "#14213d"])
LINES = ["#2f7fa8", "#d1495b", "#e09f3e", "#5b8c5a", "#7b5ea7", "#8d6346", "#3d5a80", "#b56576"]
STAGES = ["#ccd5e3", "#aebcd3"]
Panel = tuple[float, Callable[[Axes], None]]


def draw(plan: Plan) -> bytes:
    """The picture as a PNG.

    Args:
        plan: to draw.
    """
    view = _View(plan)
    panels: list[Panel] = [(0.24 * len(plan.blocks) + 0.35, view.blocks)]
    if plan.stages:
        panels.append((0.3 * len({stage.strategy for stage in plan.stages}) + 0.3, view.stages))
    panels.append((1.7, view.rates))
    if any(step.class_weights for step in plan.steps):
        panels.append(
            (1.3 if len({str(step.class_weights) for step in plan.steps}) > 1 else 0.75, view.class_weights)
        )
    panels += [(1.05, view.quantity(name)) for name in view.drawn.changing_quantities()]
    heights = [height for height, _ in panels]
    figure = Figure(figsize=(11, sum(heights) + 0.32 * len(heights) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes: Any = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (_, paint) in zip(all_axes, panels, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK, length=3)
        paint(axes)
        view.mark_epochs(axes)
    view.finish(all_axes[0], all_axes[-1])
    figure.suptitle(f"{plan.name}: the plan", x=0.01, ha="left", fontsize=13, color=INK, weight="bold")
    figure.text(0.01, 0.0, view.drawn.caption(), fontsize=8, color=QUIET, va="top")
    image = io.BytesIO()
    figure.savefig(
        image, format="png", dpi=130, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None}
    )
    return image.getvalue()


class _View:
    """The panels, each painted by a method of its own."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.drawn = plan, DrawnSteps(plan)

    def blocks(self, axes: Axes) -> None:
        """A row for each block: grey while frozen, coloured by its rate while trained, thinner where in part."""
        positive = self.drawn.trained_rates[self.drawn.trained_rates > 0]
        highest = float(positive.max()) if len(positive) else 1.0
        lowest = max(float(positive.min()) if len(positive) else 0.1, highest / 30)
        lowest = min(lowest, highest / 3)
        norm = LogNorm(lowest, highest)
        axes.barh(
            range(len(self.plan.blocks)), self.plan.total_steps - self.plan.first, left=self.plan.first, height=0.86,
            color=FROZEN, zorder=1,
        )  # fmt: skip
        for row in range(len(self.plan.blocks)):
            for begin, end in self.drawn.spells(row):
                height = 0.86 if self.drawn.shares[begin, row] == 1 else 0.4
                colours = np.maximum(self.drawn.trained_rates[begin:end, row], lowest)
                bounds = [row - height / 2, row + height / 2]
                axes.pcolormesh(
                    self.drawn.edges[begin : end + 1],
                    bounds,
                    colours[None, :],
                    norm=norm,
                    cmap=RATES,
                    zorder=2,
                    lw=0,
                )
        self._hatch(axes, -0.5, len(self.plan.blocks) - 0.5)
        axes.set_yticks(range(len(self.plan.blocks)), self.plan.blocks)
        axes.set_ylim(-0.6, len(self.plan.blocks) - 0.4)
        self._title(axes, "what is trained (above: epochs)")
        bar = axes.figure.colorbar(ScalarMappable(norm, RATES), ax=axes, pad=0.008, aspect=25, fraction=0.04)
        bar.ax.minorticks_off()
        middle = float(np.sqrt(lowest * highest))
        bar.set_ticks(
            [lowest, middle, highest], labels=[f"≤ {lowest:.1g}", f"{middle:.1g}", f"{highest:.1g}"]
        )
        bar.ax.tick_params(labelsize=7, length=2)
        bar.set_label("learning rate", fontsize=8, color=INK)

    def stages(self, axes: Axes) -> None:
        """A row for each strategy, its stages by their numbers."""
        names = sorted({stage.strategy for stage in self.plan.stages}, reverse=True)
        whole = self.plan.total_steps - self.plan.first
        for stage in self.plan.stages:
            row, begin = names.index(stage.strategy), max(stage.start, self.plan.first)
            width = stage.end - begin
            hatch = "////" if stage.waits_for else None
            axes.barh(
                row, width, left=begin, height=0.72, color=STAGES[stage.stage % 2], hatch=hatch, edgecolor="white",
                lw=0.6, zorder=2,
            )  # fmt: skip
            if width > whole * 0.012:
                axes.text(
                    begin + width / 2, row, str(stage.stage), ha="center", va="center", fontsize=8, color=INK
                )
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        self._title(axes, "stages of the strategies")

    def rates(self, axes: Axes) -> None:
        """The rate of what is trained: one line where all blocks have the same, else one for each."""
        rates = self.drawn.trained_rates
        some = ~np.isnan(rates).all(axis=1)
        high, low = np.full(len(rates), np.nan), np.full(len(rates), np.nan)
        high[some], low[some] = np.nanmax(rates[some], axis=1), np.nanmin(rates[some], axis=1)
        if np.array_equal(high, low, equal_nan=True):
            self._line(axes, high, INK)
        else:
            shades = LinearSegmentedColormap.from_list("depth", [LINES[0], INK, LINES[1]])
            count = len(self.plan.blocks)
            for row, name in enumerate(self.plan.blocks):
                ends = row in {0, count - 1}
                self._line(axes, rates[:, row], shades(row / max(1, count - 1)), lw=1.6 if ends else 0.8,
                           label=name if ends else None)  # fmt: skip
            axes.legend(fontsize=7, frameon=False, loc="upper right", ncols=2)
        for stage in self.plan.stages:
            if any(what == "restart" for what, _ in stage.notes) and stage.start > self.plan.first:
                axes.axvline(stage.start, color=LINES[2], lw=0.9, ls=(0, (2, 2)), zorder=0)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
        axes.yaxis.get_offset_text().set_fontsize(7)
        restarts = any(what == "restart" for stage in self.plan.stages for what, _ in stage.notes)
        self._hatch(axes, 0, 1, of_height=True)
        self._title(axes, "learning rate" + (" (dotted: a restart)" if restarts else ""))

    def class_weights(self, axes: Axes) -> None:
        """The weight of each class in the training loss."""
        labels = list(dict.fromkeys(label for step in self.drawn.steps for label in step.class_weights or {}))
        for number, label in enumerate(labels):
            values: Numbers = np.array(
                [(step.class_weights or {}).get(label, 1.0) for step in self.drawn.steps]
            )
            self._line(axes, values, LINES[number % len(LINES)], label=label if number < 8 else None)
        axes.set_ylim(bottom=0)
        shown = min(len(labels), 8)
        axes.legend(
            fontsize=7, frameon=False, ncols=min(4, shown), loc="lower right", bbox_to_anchor=(1, 0.98)
        )
        self._title(
            axes, "class weights in the loss" + (f" (8 of {len(labels)} named)" if len(labels) > 8 else "")
        )

    def quantity(self, name: str) -> Callable[[Axes], None]:
        """Draws a quantity of the data."""

        def paint(axes: Axes) -> None:
            self._line(axes, self.drawn.values(name), LINES[0], lw=0.9)
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_formatter(lambda value, _: wording.number(value))  # pyright: ignore
            self._title(axes, QUANTITIES.get(name, name))

        return paint

    def mark_epochs(self, axes: Axes) -> None:
        """A thin line where an epoch begins."""
        if self.plan.epochs <= 60:
            for step in range(self.plan.steps_per_epoch, self.plan.total_steps, self.plan.steps_per_epoch):
                if step > self.plan.first:
                    axes.axvline(step, color=QUIET, lw=0.6, alpha=0.55, zorder=2.5)

    def finish(self, first: Axes, last: Axes) -> None:
        """What stands above the first panel and below the last."""
        last.set_xlim(self.plan.first, self.plan.total_steps)
        last.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        last.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")  # pyright: ignore
        last.set_xlabel("optimizer step", fontsize=9, color=INK)
        into, back = _times(1 / self.plan.steps_per_epoch), _times(self.plan.steps_per_epoch)
        above = first.secondary_xaxis("top", functions=(into, back))
        above.xaxis.set_major_locator(MaxNLocator(10, integer=self.plan.epochs >= 3))
        above.tick_params(labelsize=7, length=2, colors=QUIET)
        above.spines["top"].set_visible(False)
        if 0 < len(self.plan.validations) <= 300:
            ones = [1.0] * len(self.plan.validations)
            first.plot(
                self.plan.validations, ones, "v", ms=4, color=OPEN, clip_on=False, zorder=5,
                transform=first.get_xaxis_transform(),
            )  # fmt: skip

    def _line(
        self, axes: Axes, values: Numbers, colour: Any, lw: float = 1.5, label: str | None = None
    ) -> None:
        """Steps of a staircase: a value holds until the next step."""
        axes.step(
            self.drawn.edges,
            np.append(values, values[-1]),
            where="post",
            color=colour,
            lw=lw,
            label=label,
            zorder=3,
        )

    def _hatch(self, axes: Axes, bottom: float, top: float, of_height: bool = False) -> None:
        begin = self.plan.open_from
        if begin is not None:
            place = axes.get_xaxis_transform() if of_height else axes.transData
            axes.fill_between(
                [begin, self.plan.total_steps], bottom, top, facecolor="none", edgecolor=OPEN, hatch="///", lw=0,
                alpha=0.45, transform=place, zorder=4,
            )  # fmt: skip

    @staticmethod
    def _title(axes: Axes, text: str) -> None:
        axes.set_title(text, loc="left", fontsize=9, color=INK, pad=4)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda steps: np.asarray(steps) * factor
