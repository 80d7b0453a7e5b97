"""A plan in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bertlab.callbacks.trigger import Waited
from bertlab.planning import wording
from bertlab.planning.plan import Plan
from bertlab.planning.planned_step import PlannedStep
from bertlab.planning.span import Span

#: More rows of a table than these would not be read; the rest is in plan.csv.
MOST_ROWS = 40
#: Columns of a console that has no width of its own (a file, a pipe).
WIDTH = 150


def show(plan: Plan, console: Console | None = None) -> None:
    """Print the plan: what trains when, the strategies' stages, how long and how much in all, warnings.

    Args:
        plan: to show.
        console: to print on; standard output, if not given.
    """
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
    for title, header, rows in (spans_rows(plan), passes_rows(plan), stages_rows(plan)):
        if rows:
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            for column in header:
                table.add_column(column, justify="right" if column in RIGHT else "left")
            for row in rows[:MOST_ROWS]:
                table.add_row(*map(escape, row))
            console.print(table)
            if len(rows) > MOST_ROWS:
                console.print(f"… and {len(rows) - MOST_ROWS} more, which plan.csv has")
    for label, value in facts(plan):
        console.print(f"[bold]{label}[/bold] {escape(value)}")
    for remark in plan.remarks:
        console.print(escape(remark))
    for warning in plan.warnings:
        console.print(f"[bold yellow]warning:[/bold yellow] {escape(warning)}")


#: What ends a stage that nobody knows the end of.
SETTLES: dict[Waited, str] = {"validation": "its metric settles", "gradients": "gradients settle"}

#: Columns of numbers.
RIGHT = {
    "steps",
    "epochs",
    "parameters",
    "sequences",
    "tokens",
    "length",
    "mask rate",
    "easiest share",
    "a step",
    "in all",
    "of the duration",
    "memory",
}


def spans_rows(plan: Plan) -> tuple[str, list[str], list[list[str]]]:
    """What trains when: title, header and rows; without columns that say nothing or always the same."""
    quantities = list(dict.fromkeys(name for step in plan.steps for name in step.data))
    header = ["steps", "epochs", "trains", "parameters", "rate", "begins", "class weights"]
    header += [*map(_heading, quantities), "a step", "in all", "memory"]
    rows = [_span_row(plan, index, span, quantities) for index, span in enumerate(plan.spans)]
    steady = throughout(plan)
    used = [
        at
        for at, name in enumerate(header)
        if name not in steady and any(row[at] not in {"", "—"} for row in rows)
    ]
    title = f"{plan.name}: what trains when"
    return title, [header[at] for at in used], [[row[at] for at in used] for row in rows]


def throughout(plan: Plan) -> dict[str, str]:
    """What is the same from start to end, of class weights and of the quantities of the data."""
    found: dict[str, str] = {}
    weights = {_weights(span.steps) for span in plan.spans}
    if len(weights) == 1 and "→" not in (only := weights.pop()) and only:
        found["class weights"] = only
    for name in dict.fromkeys(key for step in plan.steps for key in step.data):
        values = {step.data.get(name) for step in plan.steps}
        if len(values) == 1:
            found[_heading(name)] = wording.number(values.pop())
    return found


def passes_rows(plan: Plan) -> tuple[str, list[str], list[list[str]]]:
    """The passes over data beside the steps: title, header and rows."""
    total = plan.seconds
    rows = [
        [
            f"before step {made.step:,}",
            made.strategy,
            made.what,
            wording.duration(made.seconds),
            wording.share(made.seconds, total),
        ]
        for made in plan.passes
    ]
    return "passes beside the steps", ["when", "strategy", "what it does", "in all", "of the duration"], rows


def stages_rows(plan: Plan) -> tuple[str, list[str], list[list[str]]]:
    """The stages of the strategies: title, header and rows."""
    rows = [
        [
            stage.strategy,
            str(stage.stage),
            f"{stage.start:,} – {stage.end - 1:,}"
            + (f", or until {SETTLES[stage.waits_for]}" if stage.waits_for else ""),
            "; ".join(wording.note(what, said) for what, said in stage.notes),
        ]
        for stage in plan.stages
        if stage.end > plan.first
    ]
    return "strategies", ["strategy", "stage", "steps", "what it does"], rows


def facts(plan: Plan) -> list[tuple[str, str]]:
    """What holds of the whole training: labels and values."""
    cost = max((step.cost for step in plan.steps), key=lambda cost: cost.memory or 0)
    left = plan.total_steps - plan.first
    steps = f"{left:,} optimizer steps" + (f" (from step {plan.first:,} on)" if plan.first else "")
    found = [("training", f"{steps}, {wording.number(plan.epochs)} epochs of {plan.steps_per_epoch:,}")]
    found.append(("validations", f"{len(plan.validations):,}"))
    found += [(f"{name}, throughout", value) for name, value in throughout(plan).items()]
    if cost.timed:
        beside = ", with the passes beside the steps" if plan.passes else ""
        found.append(
            (
                "duration",
                f"about {wording.duration(plan.seconds)} on {plan.machine}{beside}, without validations and "
                "checkpoints (from the seconds of timed steps, in proportion to tokens where they are known)",
            )
        )
    parts = f"weights {wording.size(cost.weights)}"
    if cost.optimizer is None or cost.made is None:
        gradients = max(step.cost.gradients for step in plan.steps)
        parts += f" and gradients {wording.size(gradients)} (reckoned)"
    else:
        parts += (
            f", optimizer {wording.size(cost.optimizer)}, activations and gradients of a step "
            f"{wording.size(cost.made)} (measured)"
        )
    peak = (
        ""
        if cost.device_peak is None
        else f"; peak of the device {wording.size(cost.device_peak)} (measured)"
    )
    each = "" if plan.devices == 1 else ", on each device"
    total = "" if cost.memory is None else f"about {wording.size(cost.memory)} at most{each}: "
    found.append(("memory", total + parts + peak))
    if plan.open_from is not None:
        names = sorted({name for step in plan.steps for name in step.open_by})
        found.append(
            (
                "open",
                f"from step {plan.open_from:,} on {' and '.join(names)} may act on a metric or on "
                "gradients, which nobody knows before the training: shown is what holds until then",
            )
        )
    return found


def _span_row(plan: Plan, index: int, span: Span, quantities: Sequence[str]) -> list[str]:
    first = span.steps[0]
    timed = [step.seconds / step.steps for step in span.steps if step.seconds is not None]
    return [
        f"{span.start:,} – {span.end - 1:,}",
        " – ".join(wording.number(at / plan.steps_per_epoch) for at in (span.start, span.end)),
        wording.blocks(first.trained) + (" ?" if first.open_by else ""),
        f"{first.parameters:,}",
        _rates(span.steps),
        ", ".join(_begun(plan, index)),
        _weights(span.steps),
        *(wording.number(span.mean(name)) for name in quantities),
        wording.duration(sum(timed) / len(timed)) if timed else "—",
        wording.duration(span.seconds),
        wording.size(span.memory),
    ]


def _heading(quantity: str) -> str:
    return quantity.replace("_", " ")


def _rates(steps: Sequence[PlannedStep]) -> str:
    """The rate of what is trained; of the highest and the lowest block where they differ."""
    trained = [block for block, share in steps[0].trained.items() if share]
    if not trained:
        return "—"
    top, bottom = trained[-1], trained[0]
    high, low = ([step.rates[block] for step in steps] for block in (top, bottom))
    ratios = {round(b / a, 6) for a, b in zip(high, low, strict=True) if a}
    if ratios <= {1.0}:
        return wording.change(high)
    if len(ratios) == 1:
        return f"{wording.change(high)}, {bottom} × {ratios.pop():.3g}"
    return f"{top} {wording.change(high)}, {bottom} {wording.change(low)}"


def _weights(steps: Sequence[PlannedStep]) -> str:
    """The weights of the first few classes."""
    labels = list(steps[0].class_weights or {})
    shown = [
        f"{label} {wording.change([step.class_weights[label] for step in steps if step.class_weights])}"
        for label in labels[:4]
    ]
    return ", ".join(shown) + (f" … ({len(labels)})" if len(labels) > 4 else "")


def _begun(plan: Plan, index: int) -> list[str]:
    """The strategies that enter a stage where a span begins."""
    if not index:
        return []
    span, before = plan.spans[index].steps[0], plan.spans[index - 1].steps[0]
    return [f"{name} {stage}" for name, stage in span.stages.items() if before.stages.get(name) != stage]
