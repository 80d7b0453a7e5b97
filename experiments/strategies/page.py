"""The page of strategies, configs/callbacks/README.md: what each file does, whether it helped, what it costs.

python -m experiments.strategies.page

The text of a strategy is the comment of its file; the numbers are those of three studies, `experiments/strategies`,
`experiments/several_tasks` (of gradient surgery, beside the same training of both tasks without it) and
`experiments/cost_of_strategies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.commands import ROOT
from experiments.results import read_rows, write_results
from experiments.several_tasks.run import GRADIENT_SURGERY, TOGETHER
from experiments.several_tasks.run import compared as compared_together
from experiments.strategies.report import NONE, Rows, compared, scores_of
from experiments.tables import markdown_table, median_ratio

FOLDER = ROOT / "configs" / "callbacks"
LOSSES = ROOT / "configs" / "losses"
SCORES = ROOT / "experiments" / "strategies" / "results.csv"
SEVERAL = ROOT / "experiments" / "several_tasks" / "results.csv"
COSTS = ROOT / "experiments" / "cost_of_strategies" / "results.csv"
#: What a difference has to fall below, adjusted for the number of strategies, to be called one.
LEVEL = 0.05
COLUMNS = {"step_seconds": "a step", "memory_mib": "memory"}


def main() -> None:
    """Write the page."""
    write_page(FOLDER)


def write_page(output: Path) -> None:
    """The table of all files of configs/callbacks, then configs/losses, between the marks of the README in a folder."""
    fragments = {path.stem: comment_of(path) for path in sorted(FOLDER.glob("*.yaml"))}
    fragments |= {f"../losses/{path.stem}": comment_of(path) for path in sorted(LOSSES.glob("*.yaml"))}
    several, costs = (read_rows(path) if path.exists() else [] for path in (SEVERAL, COSTS))
    write_results(output, markdown_table(page(fragments, read_rows(SCORES), several, costs)))


def comment_of(fragment: Path) -> str:
    """The comment at the top of a file, as one line for a cell of a table."""
    lines = fragment.read_text(encoding="utf-8").splitlines()
    words = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    return " ".join(words).replace("|", "\\|")


def page(fragments: Mapping[str, str], scores: Rows, several: Rows, costs: Rows) -> list[list[str]]:
    """A row for each file, with a column for each data set of the scores.

    Args:
        fragments: from a file's name, with its folder where it is another, to its text.
        scores: of the study of strategies.
        several: of the study of several tasks, over the same data sets; none yet: no numbers of gradient surgery.
        costs: of the study of their costs; where there are none, their columns are left out.
    """
    names = list(dict.fromkeys(row["data"] for row in scores))
    found = {name: compared(scores_of([row for row in scores if row["data"] == name])) for name in names}
    for name in names if several else ():
        change, p = compared_together(several, name, GRADIENT_SURGERY, TOGETHER)
        found[name][GRADIENT_SURGERY] = (change, p, p)
    columns = COLUMNS if costs else {}
    table = [["file", "what it does", *names, *columns.values()]]
    for file, text in fragments.items():
        system = file.rpartition("/")[2]
        differences = [difference(found[name].get(system)) for name in names]
        table.append([f"`{file}`", text, *differences, *(ratio(costs, column, system) for column in columns)])
    return table


def difference(found: tuple[float, float, float] | None) -> str:
    """Points of macro F1 more than plain fine-tuning; bold where it is more than chance.

    >>> difference((0.0123, 0.001, 0.02)), difference((-0.0001, 0.9, 0.9)), difference(None)
    ('**+1.2**', '+0.0', '–')
    """
    if found is None:
        return "–"
    change, _, adjusted = found
    text = f"{round(100 * change, 1) + 0.0:+.1f}"
    return f"**{text}**" if adjusted < LEVEL else text


def ratio(costs: Rows, column: str, system: str) -> str:
    """How many times as much as without a strategy in the same training; a dash where it was not measured."""
    training = next((row["training"] for row in costs if row["system"] == system), None)
    if training is None:
        return "–"
    rows = [row for row in costs if row["training"] == training]
    return f"{median_ratio(rows, column, system, NONE, key='round'):.2f}×"


if __name__ == "__main__":
    main()
