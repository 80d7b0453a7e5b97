"""report.html of a plan: one file, without anything from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from bertlab.planning import wording
from bertlab.planning.plan import Plan
from bertlab.planning.table import RIGHT, facts, passes_rows, spans_rows, stages_rows

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b2a41; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .5rem; } h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; }
.card { border: 1px solid #d9dee8; border-radius: .5rem; padding: .6rem .9rem; }
.card b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; } .card span { color: #5b6475; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
td, th { padding: .25rem 1.2rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e6e9f0; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { width: 100%; height: auto; } .warning { border-left: 4px solid #d1495b; padding: .3rem .8rem; }
"""


def page(plan: Plan, picture: bytes) -> str:
    """The page.

    Args:
        plan: to show.
        picture: of it, a PNG.
    """
    name = escape(plan.name)
    warned = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in plan.warnings)
    said = "".join(f"<p><b>{escape(label)}</b> {escape(value)}</p>" for label, value in facts(plan))
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in plan.remarks)
    tables = "".join(
        _table(*table) for table in (spans_rows(plan), passes_rows(plan), stages_rows(plan)) if table[2]
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Plan of {name}</title><style>{_STYLE}</style></head><body>
<h1>Plan of {name}</h1>
<div class="cards">{"".join(_card(label, value) for label, value in _cards(plan))}</div>
{warned}
<h2>The whole training</h2>
<img alt="Which blocks train when, at which rate" src="data:image/png;base64,{base64.b64encode(picture).decode()}">
{tables}
<h2>Notes</h2>
{said}{remarks}
</body></html>
"""


def _cards(plan: Plan) -> Iterable[tuple[str, str]]:
    yield "optimizer steps", f"{plan.total_steps - plan.first:,}"
    yield "epochs", wording.number(plan.epochs)
    yield "parameters", f"{plan.parameters:,}"
    yield "trained at the end", f"{plan.steps[-1].parameters:,}"
    yield f"of training on {plan.machine}", wording.duration(plan.seconds)
    yield "memory", wording.size(plan.memory)


def _card(label: str, value: str) -> str:
    return f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(kind: str, values: Sequence[str]) -> str:
        numbers = [' class="number"' if column in RIGHT else "" for column in header]
        return "".join(f"<{kind}{of}>{escape(v)}</{kind}>" for of, v in zip(numbers, values, strict=True))

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<h2>{escape(title)}</h2><div class="wide"><table><tr>{cells("th", header)}</tr>{lines}</table></div>'
