"""plan.csv: every step of a plan as a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bertlab.planning.plan import Plan
from bertlab.planning.planned_step import PlannedStep
from bertlab.tracking.atomic import atomic_file


def write_steps(plan: Plan, path: Path) -> None:
    """Write plan.csv.

    Columns: `step` (optimizer steps taken before it), `epoch`, `validates` (whether a validation follows before another
    step is taken), `lr/<block>`,
    `trained/<block>` (share of its parameters), `parameters` (that are trained), `stage/<strategy>`,
    `class_weight/<label>` (empty: all weigh 1), `data/<quantity>`, `seconds`, `memory` (bytes; both empty where
    nothing was timed), `open` (what waits for a metric or for gradients, so that the row holds only
    if it does nothing).

    Args:
        plan: to write.
        path: of the file; one that is there is replaced.
    """
    rows = list(_rows(plan))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())


def _rows(plan: Plan) -> Iterator[dict[str, Any]]:
    validations = set(plan.validations)
    for step in plan.steps:
        last = step.step + step.steps
        yield {
            "step": step.step,
            "epoch": step.epoch,
            "validates": int(any(done in validations for done in range(step.step + 1, last + 1))),
            **_held(step),
            "seconds": "" if step.seconds is None else f"{step.seconds:.6g}",
            "memory": "" if step.cost.memory is None else step.cost.memory,
            "open": " ".join(step.open_by),
        }


def _held(step: PlannedStep) -> dict[str, Any]:
    return {
        **{f"lr/{block}": rate for block, rate in step.rates.items()},
        **{f"trained/{block}": share for block, share in step.trained.items()},
        "parameters": step.parameters,
        **{f"stage/{strategy}": stage for strategy, stage in step.stages.items()},
        **{f"class_weight/{label}": weight for label, weight in (step.class_weights or {}).items()},
        **{f"data/{quantity}": value for quantity, value in step.data.items()},
    }
