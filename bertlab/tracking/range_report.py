"""RangeReport: what a sweep of learning rates has found, as a table, a CSV file and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bertlab.schedules.range_test import RangeTest, finite
from bertlab.tracking.atomic import atomic_file

#: Lines of the printed table, at most.
ROWS = 15


class RangeReport:
    """Writes lr_range.csv and lr_range.png into a run directory, and prints a table.

    Args:
        test: the rates.
        losses: of each step done; the last one may be infinite or no number.
    """

    def __init__(self, test: RangeTest, losses: Sequence[float]) -> None:
        self.test, self.losses = test, list(losses)
        self.rates = [test.rate(step) for step in range(len(self.losses))]
        self.smoothed = test.smoothed(finite(self.losses))
        self.suggestions = test.suggestions(self.losses)

    def write(self, folder: Path) -> None:
        """Write both files.

        Args:
            folder: the run directory.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", "lr", "loss", "smoothed_loss"])
        for step, (rate, loss) in enumerate(zip(self.rates, self.losses, strict=True)):
            smoothed = self.smoothed[step] if step < len(self.smoothed) else ""
            writer.writerow([step, rate, loss, smoothed])
        with atomic_file(folder / "lr_range.csv") as file:
            file.write(text.getvalue().encode())
        self._draw(folder / "lr_range.png")

    def show(self, console: Console, left_out: Sequence[str]) -> None:
        """Print the table and the suggestions.

        Args:
            console: to print on.
            left_out: names of the callbacks that did not take part.
        """
        table = Table(title="learning rate range test")
        for column in ("step", "rate", "loss", "smoothed"):
            table.add_column(column, justify="right")
        every = max(1, -(-len(self.smoothed) // ROWS))
        lowest = self.suggestions.lowest if self.suggestions else None
        for step, smoothed in enumerate(self.smoothed):
            if step % every == 0 or step in {lowest, len(self.smoothed) - 1}:
                mark = " ← lowest" if step == lowest else ""
                table.add_row(
                    str(step), f"{self.rates[step]:.1e}", f"{self.losses[step]:.4g}", f"{smoothed:.4g}{mark}"
                )
        console.print(table)
        for line in self._summary(left_out):
            console.print(line, highlight=False, soft_wrap=True)

    def _summary(self, left_out: Sequence[str]) -> list[str]:
        away = ["the schedule", *left_out]
        lines = [
            f"Off during the sweep: {', '.join(away)}. Layer decay was applied, and no block frozen in stages."
        ]
        if self.losses and len(self.losses) < self.test.steps:
            lines.append(
                f"Ended at {self.rates[-1]:.1e}, after {len(self.losses)} steps: the loss diverged (no number, or its "
                f"mean so far more than {self.test.divergence:g} times the lowest that this has been)."
            )
        found = self.suggestions
        if found is None:
            lines.append("The loss has not fallen at any rate: there is nothing to suggest. Lower --lr_min.")
            return lines
        if found.lowest == self.test.steps - 1:
            lines.append("The loss was still falling at the highest rate: raise --lr_max.")
        lines += [
            f"Steepest descent:              --model.optimizer.lr {found.steepest:g}",
            f"A tenth of the lowest loss's:  --model.optimizer.lr {found.minimum_tenth:g}",
        ]
        return lines

    def _draw(self, path: Path) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        shown = len(self.smoothed)
        axes.plot(
            self.rates[:shown], self.losses[:shown], color="tab:blue", alpha=0.3, label="loss of a step"
        )
        axes.plot(self.rates[:shown], self.smoothed, color="tab:blue", label="smoothed")
        found = self.suggestions
        for rate, colour, label in (
            [
                (found.steepest, "tab:orange", f"steepest descent: {found.steepest:g}"),
                (found.minimum_tenth, "tab:green", f"minimum / 10: {found.minimum_tenth:g}"),
            ]
            if found
            else []
        ):
            axes.axvline(rate, color=colour, linestyle="--", label=label)
        # What diverges would press the rest of the curve into a line.
        if shown:
            low, start = min(*self.smoothed, *self.losses[:shown]), self.smoothed[0]
            axes.set_ylim(low - 0.1 * abs(start - low), start + 1.0 * abs(start - low) + 1e-3)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        axes.legend()
        with atomic_file(path) as file:
            figure.savefig(file, format="png", dpi=120)
