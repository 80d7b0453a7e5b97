"""Pretrain at several mask rates, fine-tune from each, over seeds; table of losses and scores, figure of the losses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.corpus.executors import cores
from experiments.commands import BERTLAB, run_command, run_forked
from experiments.figures import picture
from experiments.fits import FIT, logged, run_flags
from experiments.pretraining_helps.run import fine_tune
from experiments.results import measured_on, read_rows, write_results
from experiments.several_tasks.run import compared
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
#: What a system is called; the last one is compared with the others.
NAMES = {"fifteen": "15 % throughout", "thirty": "30 % throughout", "falling": "30 % falling to 15 %"}
LOSS = "masked_loss"


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report, command_of)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """For each seed every mask rate."""
    run_command([BERTLAB, "corpus", "--config", study["corpus"]], WORK / "corpus.txt")
    for seed in study["seeds"]:
        for system in study["systems"]:
            yield {"seed": seed, "system": system}, partial(learn, study, system, seed)


def command_of(study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What makes a run: configurations, the machine, and what its system has."""
    settings = [study["corpus"], study["config"], study["overlay"], *study["arguments"]]
    probes = [
        word for probe in study["probes"].values() for word in (probe["config"], *probe.get("arguments", []))
    ]
    return [*settings, *study["systems"][known_by["system"]], *probes]


def learn(study: Mapping[str, Any], system: str, seed: int) -> dict[str, Any]:
    """One pretraining, and the probes from its last weights."""
    folder = WORK / f"{system}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    words = [
        "--config",
        study["config"],
        "--config",
        study["overlay"],
        *study["arguments"],
        *study["systems"][system],
    ]
    words += [*run_flags(folder), "--seed_everything", str(seed)]
    threads = max(1, cores() // study["side_by_side"])
    run_forked(["fit", *words], folder / "log.txt", threads)
    model = folder / "model"
    run_forked(
        ["export", *words, "--ckpt_path", "last", "--output", str(model)], folder / "export.txt", threads
    )
    losses = logged(folder / FIT, f"val/{LOSS}")
    with_model = {**study, "encoder": str(model)}
    scores = {
        probe: fine_tune(with_model, probe, "pretrained", seed, folder)["score"] for probe in study["probes"]
    }
    curve = " ".join(f"{step}:{loss:.4f}" for step, loss in losses)
    shutil.rmtree(folder / FIT / "checkpoints")
    return {LOSS: losses[-1][1], **scores, "curve": curve}


def report(output: Path) -> None:
    """The table of losses and scores, into the README, and the figure."""
    rows = read_rows(output / "results.csv")
    measures = [key for key in rows[0] if key not in ("seed", "system", "curve", "configuration")]
    table = [["pretraining", *(f"{named(measure)}, mean ± sd" for measure in measures)]]
    for system, name in NAMES.items():
        found = [row for row in rows if row["system"] == system]
        cells = ([row[measure] for row in found] for measure in measures)
        table.append([name, *(f"{np.mean(cell):.3f} ± {np.std(cell, ddof=1):.3f}" for cell in cells)])
    *others, last = NAMES
    lines = [
        f"- {NAMES[last]} less {NAMES[other]}: "
        + ", ".join(difference(rows, measure, last, other) for measure in measures)
        for other in others
    ]
    seeds = len({row["seed"] for row in rows})
    parts = [measured_on(output), f"{seeds} seeds.", markdown_table(table), "\n".join(lines)]
    print(*parts, sep="\n\n")
    write_results(output, "\n\n".join(parts))
    draw(rows, output / "figure.png")


def named(measure: str) -> str:
    """A measure in the words of the table."""
    return "masked loss at 15 %, nats" if measure == LOSS else measure


def difference(rows: Sequence[Mapping[str, Any]], measure: str, system: str, beside: str) -> str:
    """A measure of one system less that of another, with p of the t-test for pairs."""
    return "{} {:+.3f} (p = {:.2f})".format(named(measure), *compared(rows, measure, system, beside))


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The validation loss of every pretraining: the mean over the seeds, each seed thin."""
    with picture(path, 1, 1, size=(6.4, 3.6), dpi=120) as axes:
        panel = axes[0, 0]
        for place, (system, name) in enumerate(NAMES.items()):
            curves = [
                [tuple(map(float, point.split(":"))) for point in row["curve"].split()]
                for row in rows
                if row["system"] == system
            ]
            steps = [step for step, _ in curves[0]]
            losses = np.array([[loss for _, loss in curve] for curve in curves])
            for one in losses:
                panel.plot(steps, one, color=f"C{place}", linewidth=0.6, alpha=0.5)
            panel.plot(steps, losses.mean(0), "o-", color=f"C{place}", label=name)
        panel.set(title="validation, 15 % masked", xlabel="optimizer steps", ylabel="nats a masked piece")
        panel.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
