"""Pretrain with bertlab and the Hugging Face Trainer on the same examples; losses side by side, table and figure."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from threading import Lock
from typing import Any

from experiments.figures import picture
from experiments.pretraining_helps.run import unigram_loss
from experiments.results import measured_on, read_rows, write_results
from experiments.speed_pretraining.run import token_store
from experiments.speed_pretraining.systems import Bench
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table

FOLDER = Path(__file__).parent
FITS = work_folder(FOLDER) / "fits"
NAMES = {"bertlab": "bertlab", "hf_best_eager": "HF Trainer"}
STYLES: list[dict[str, Any]] = [
    {"linewidth": 3, "alpha": 0.5},
    {"color": "black"},
]  # of the curves, in this order


def main() -> None:
    options = study_options(__doc__)
    carry_out(FOLDER, options, runs, report)
    if not options.report:
        shutil.rmtree(FITS, ignore_errors=True)  # none, if all runs were there already


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Every seed with both systems."""
    store, preparing = token_store(study["corpus"]), Lock()
    for seed in study["seeds"]:
        bench = Bench(
            *("learning", study["size"], study["case"], study["validation_examples"], seed, store, FITS),
            log_every=1,
            threads=1,
        )
        for system, settings in study["systems"].items():
            learnt = partial(learn, bench, system, settings, study["window"], preparing)
            yield {"seed": seed, "system": system}, learnt


def learn(
    bench: Bench, system: str, settings: dict[str, Any], window: int, preparing: Lock
) -> dict[str, Any]:
    """One training: its validation loss, and its losses as means over windows of steps."""
    with preparing:  # the two systems of a seed read the same examples, which the first of them draws
        bench.prepare()
    losses = bench.train(system, settings)
    means = [mean(losses.training[at : at + window]) for at in range(0, len(losses.training), window)]
    shutil.rmtree(bench.folder / system)
    return {
        "validation_loss": losses.validation,
        "unigram": unigram_loss(bench.store),
        "steps": bench.case["steps"],
        "window": window,
        "curve": " ".join(f"{loss:.4f}" for loss in means),
    }


def report(output: Path) -> None:
    """The table of results.csv, into the README, and the figure."""
    rows = read_rows(output / "results.csv")
    table = loss_table(rows)
    write_results(output, "\n\n".join([table, measured_on(output)]))
    draw(rows, output / "figure.png")
    print(table)


def by_seed(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Of each seed the rows of both systems, in the order of their names."""
    found = {(row["seed"], row["system"]): row for row in rows}
    return {seed: [found[seed, system] for system in NAMES] for seed in sorted({seed for seed, _ in found})}


def loss_table(rows: list[dict[str, Any]]) -> str:
    """A row for each seed: validation losses, and by how much the two curves differ on the way."""
    table = [["seed", *(f"{name}: validation loss" for name in NAMES.values()), "difference",
              "mean difference of the training losses ± sd of a window"]]  # fmt: skip
    for seed, both in by_seed(rows).items():
        ours, theirs = (row["validation_loss"] for row in both)
        apart = [one - other for one, other in zip(*map(curve, both), strict=True)]
        table.append(
            [
                f"{seed}",
                f"{ours:.4f}",
                f"{theirs:.4f}",
                f"{ours - theirs:+.4f}",
                f"{mean(apart):+.4f} ± {stdev(apart):.4f}",
            ]
        )
    return markdown_table(table)


def curve(row: dict[str, Any]) -> list[float]:
    """The training losses of a run, a mean for each window."""
    return [float(loss) for loss in row["curve"].split()]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The training losses of each seed, both systems in one panel."""
    seeds = by_seed(rows)
    with picture(path, 1, len(seeds), size=(3.6 * len(seeds), 3.4), dpi=120, sharey=True) as axes:
        for panel, (seed, both) in zip(axes[0], seeds.items(), strict=True):
            for row, style in zip(both, STYLES, strict=True):
                losses = curve(row)
                steps = [row["window"] * (number + 1) for number in range(len(losses))]
                panel.plot(steps, losses, label=NAMES[row["system"]], **style)
            panel.axhline(
                both[0]["unigram"], color="black", linestyle="--", label="best guess without context"
            )
            panel.set(title=f"seed {seed}", xlabel="optimizer steps")
        axes[0, 0].set(ylabel="training loss, nats a masked piece")
        axes[0, 0].legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
