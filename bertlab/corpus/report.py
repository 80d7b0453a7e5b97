"""The summary page of a corpus: one file, without anything from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
p.lead { margin-top: .2rem; color: #5b6475; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; }
.card { border: 1px solid #d9dee8; border-radius: .5rem; padding: .6rem .9rem; }
.card b { display: block; font-size: 1.4rem; font-variant-numeric: tabular-nums; } .card span { color: #5b6475; }
table { border-collapse: collapse; }
td, th { padding: .2rem 1.2rem .2rem 0; text-align: left; border-bottom: 1px solid #e6e9f0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } img { width: 100%; height: auto; }
ul.pieces { columns: 5 9rem; list-style: none; padding: 0; }
ul.pieces li { display: flex; justify-content: space-between; }
ul.pieces code { background: #f2f4f8; padding: 0 .3rem; border-radius: .2rem; }
ul.pieces span { color: #5b6475; padding-right: 1rem; }
"""


def write_report(path: Path, summary: dict[str, Any]) -> None:
    """Write report.html.

    Args:
        path: of the page.
        summary: of `bertlab.corpus.summary.summarize`.
    """
    read, left_out = summary["read"], _left_out(summary)
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Corpus {escape(summary["name"])}</title><style>{_STYLE}</style></head><body>
<h1>Corpus {escape(summary["name"])}</h1>
<p class="lead">{read["documents"]:,} documents of {read["characters"]:,} characters were read.</p>
<div class="cards">{"".join(_card(label, value) for label, value in _cards(summary))}</div>
<h2>Lengths</h2>
<img alt="Histograms of the lengths in tokens" src="data:image/png;base64,{_histograms(summary)}">
<h2>Left out</h2>
{_table([(label, f"{number:,}") for label, number in left_out]) if left_out else "<p>Nothing.</p>"}
<h2>Vocabulary</h2>
{_table(_vocabulary(summary))}
<h2>Most frequent pieces</h2>
<ul class="pieces">{"".join(_piece(*item) for item in summary["most_frequent_pieces"])}</ul>
</body></html>
"""
    path.write_text(page, encoding="utf-8", newline="\n")


def _cards(summary: dict[str, Any]) -> list[tuple[str, str]]:
    keys = ("documents", "sentences", "tokens", "words", "characters")
    return [(key, f"{summary[key]:,}") for key in keys]


def _card(label: str, value: str) -> str:
    return f'<div class="card"><b>{value}</b><span>{label}</span></div>'


def _piece(piece: str, count: int) -> str:
    return f"<li><code>{escape(piece)}</code><span>{count:,}</span></li>"


def _left_out(summary: dict[str, Any]) -> list[tuple[str, int]]:
    rejected = [
        (f"rejected: {reason.replace('_', ' ')}", n) for reason, n in sorted(summary["rejected"].items())
    ]
    duplicates = [(f"duplicates: {kind}", n) for kind, n in sorted(summary["duplicates"].items())]
    return [row for row in rejected + duplicates if row[1]]


def _vocabulary(summary: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("pieces", f"{summary['vocabulary_size']:,}"),
        ("pieces that never occur", f"{summary['unused_pieces']:,}"),
        ("tokens a word", f"{summary['tokens_per_word']:.3f}"),
        (
            "unknown pieces",
            f"{summary['unknown_pieces']:,} ({summary['unknown_fraction']:.4%} of the tokens)",
        ),
        ("documents divided for their length, further parts", f"{summary['read']['further_parts']:,}"),
    ]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f'<tr><td>{escape(a)}</td><td class="number">{escape(b)}</td></tr>' for a, b in rows)
    return f"<table>{lines}</table>"


def _histograms(summary: dict[str, Any]) -> str:
    """Sentences by their tokens, documents by powers of two of theirs, as a PNG in base64."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    sentences, documents = figure.subplots(1, 2)
    counts = summary["sentence_lengths"]
    shown = min(len(counts), 129)
    sentences.bar(range(shown), counts[:shown], width=1.0, color="#3b6fb6")
    beyond = sum(counts[shown:])
    note = f" ({beyond:,} longer ones not shown)" if beyond else ""
    sentences.set(xlabel=f"tokens of a sentence{note}", ylabel="sentences", xlim=(0, shown))
    sizes = summary["document_lengths"]
    first = next((bits for bits, count in enumerate(sizes) if count), 0)
    places = range(first, len(sizes))
    documents.bar(places, sizes[first:], width=0.9, color="#b6653b")
    documents.set_xticks(
        list(places), [f"{1 << (bits - 1):,}" if bits else "0" for bits in places], rotation=45
    )
    documents.set(xlabel="tokens of a document, from … to the next", ylabel="documents")
    for axes in (sentences, documents):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    FigureCanvasAgg(figure)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110, metadata={"Software": None})
    return base64.b64encode(image.getvalue()).decode("ascii")
