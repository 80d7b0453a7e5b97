"""Run bertlab's quickstart and the Hugging Face Trainer in turn, A B A B, over the seeds; write table and figure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sklearn.metrics import accuracy_score, f1_score

from experiments.measure import (
    BERTLAB,
    PYTHON,
    ROOT,
    Run,
    load_study,
    markdown_table,
    measured_on,
    median_of,
    median_ratio,
    read_rows,
    run_command,
    run_study,
    study_options,
    write_results,
)
from experiments.texts import write_splits

FOLDER = Path(__file__).parent
WORK = ROOT / "runs" / "experiments" / FOLDER.name
NAMES = {"bertlab": "bertlab quickstart", "hf_trainer": "Hugging Face Trainer"}
COLUMNS = ("accuracy", "macro_f1", "macro_f1_last", "seconds", "peak_mib")


def main() -> None:
    options = study_options(__doc__)
    output = WORK / "quick" if options.quick else FOLDER
    if not options.report:
        study = load_study(FOLDER, options.quick)
        shutil.rmtree(WORK, ignore_errors=True)
        run_study(study, runs(study), output, options.fresh or options.quick)
    report(output)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Both systems for each seed, one after the other."""
    # Only --quick works on a part of the data; the study itself on what the configuration says.
    part = write_splits(WORK / "texts", *study["rows"].values()) if "rows" in study else None
    for seed in study["seeds"]:
        for system, command in (("hf_trainer", hf_trainer), ("bertlab", bertlab)):
            yield {"seed": seed, "system": system}, partial(cleanly, command, study, part, seed, system)


def cleanly(
    command: Callable[..., dict[str, Any]], study: dict[str, Any], part: str | None, seed: int, system: str
) -> dict[str, Any]:
    """Run, and leave no checkpoints: they are large."""
    folder = WORK / f"{system}_{seed}"
    row = command(study, part, seed, folder)
    shutil.rmtree(folder)
    return row


def bertlab(study: dict[str, Any], part: str | None, seed: int, folder: Path) -> dict[str, Any]:
    """The quickstart's own command. Which rows are what is no matter of the seed, so the split is the same."""
    configs = study["bertlab"]["configs"]
    command = [BERTLAB, "fit", *(word for path in configs for word in ("--config", path))]
    command += ["--run.root", str(folder), "--run.name", "fit", "--run.version", "0"]
    command += ["--seed_everything", str(seed)]
    command += ["--data.init_args.source", part, "--data.init_args.deduplicate", "false"] if part else []
    cost = run_command(command, folder / "log.txt")
    results = json.loads((folder / "fit" / "0" / "results.json").read_text(encoding="utf-8"))["test"]
    true, predicted = expand(results["confusion_matrix"]["counts"])
    return {
        "test_rows": len(true),
        "accuracy": float(accuracy_score(true, predicted)),
        "macro_f1": float(f1_score(true, predicted, average="macro")),
        "macro_f1_last": "",
        "seconds": cost.seconds,
        "peak_mib": cost.peak_mib,
    }


def hf_trainer(study: dict[str, Any], part: str | None, seed: int, folder: Path) -> dict[str, Any]:
    """The peer, on the rows of the quickstart's configuration."""
    command = [PYTHON, "-m", "experiments.hf_trainer", "fit", "--config", study["bertlab"]["configs"][0]]
    command += ["--output", str(folder), "--seed", str(seed), "--test_last"]
    command += ["--source", part] if part else []
    for flag, value in study["hf_trainer"].items():
        command += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
    cost = run_command(command, folder / "log.txt")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {
        "test_rows": results["test_rows"],
        "accuracy": results["best"]["accuracy"],
        "macro_f1": results["best"]["macro_f1"],
        "macro_f1_last": results["last"]["macro_f1"],
        "seconds": cost.seconds - results["last"]["seconds"],  # which bertlab does not test
        "peak_mib": cost.peak_mib,
    }


def expand(counts: list[list[int]]) -> tuple[list[int], list[int]]:
    """True and predicted classes of a confusion matrix, so that scikit-learn scores both systems."""
    pairs = [
        (true, predicted)
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        for _ in range(count)
    ]
    return [true for true, _ in pairs], [predicted for _, predicted in pairs]


def report(output: Path) -> None:
    """The table of results.csv, into the README, and the figure.

    Raises:
        ValueError: the systems were not tested on the same rows.
    """
    rows = read_rows(output / "results.csv")
    if len({row["test_rows"] for row in rows}) != 1:
        raise ValueError("the systems were tested on different numbers of rows")
    table = [["median of {} seed(s)".format(len({row["seed"] for row in rows})), *NAMES.values()]]
    titles = ("accuracy", "macro F1", "macro F1 of the last weights", "whole command, s", "peak memory, MiB")
    for column, title in zip(COLUMNS, titles, strict=True):
        digits = 4 if column.startswith(("accuracy", "macro")) else 0
        values = [
            f"{median_of(rows, column, system=system):.{digits}f}"
            if any(row[column] != "" for row in rows if row["system"] == system)
            else "–"
            for system in NAMES
        ]
        table.append([title, *values])
    each = [["seed", *(f"{name}, macro F1" for name in NAMES.values())]]
    for seed in sorted({row["seed"] for row in rows}):
        each.append([str(seed), *(f"{median_of(rows, 'macro_f1', system=s, seed=seed):.4f}" for s in NAMES)])
    ratio = median_ratio(rows, "seconds", "hf_trainer", "bertlab")
    text = "\n\n".join(
        [
            markdown_table(table),
            f"The whole command of the Hugging Face Trainer takes {ratio:.1f} times as long (median of the pairs).",
            markdown_table(each),
            measured_on(output),
        ]
    )
    write_results(output, text)
    draw(rows, output / "figure.png")
    print(text)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Each run as a point, medians as lines: the score, the time, the memory."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.4))
    panels = (
        ("macro_f1", "test macro F1"),
        ("seconds", "whole command, s"),
        ("peak_mib", "peak memory, MiB"),
    )
    for panel, (column, title) in zip(axes, panels, strict=True):
        for place, system in enumerate(NAMES):
            values = [row[column] for row in rows if row["system"] == system]
            panel.plot([place] * len(values), values, "o", alpha=0.5)
            panel.hlines(median_of(rows, column, system=system), place - 0.25, place + 0.25, color="black")
        panel.set_xticks(range(len(NAMES)), [name.replace(" ", "\n", 1) for name in NAMES.values()])
        panel.set_xlim(-0.5, len(NAMES) - 0.5)
        panel.set_title(title)
        if column != "macro_f1":
            panel.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
