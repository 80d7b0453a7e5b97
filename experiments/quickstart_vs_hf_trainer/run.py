"""Run bertlab's quickstart and the Hugging Face Trainer in turn, A B A B, over the seeds; write table and figure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from sklearn.metrics import accuracy_score, f1_score

from experiments.commands import BERTLAB, PYTHON, flags_of, run_command
from experiments.figures import draw_points, picture
from experiments.fits import FIT, read_scores, run_flags
from experiments.results import measured_on, read_rows, write_results
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table, median_of, median_ratio
from experiments.texts import write_splits

FOLDER = Path(__file__).parent
FITS = work_folder(FOLDER) / "fits"
NAMES = {"bertlab": "bertlab quickstart", "hf_trainer": "Hugging Face Trainer"}
COLUMNS = ("accuracy", "macro_f1", "macro_f1_last", "seconds", "peak_mib")


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Both systems for each seed, one after the other."""
    shutil.rmtree(FITS, ignore_errors=True)  # of a study that was stopped
    # Only --quick works on a part of the data; the study itself on what the configuration says.
    part = write_splits(FITS / "texts", *study["rows"].values()) if "rows" in study else None
    for seed in study["seeds"]:
        for system, command in (("hf_trainer", hf_trainer), ("bertlab", bertlab)):
            yield {"seed": seed, "system": system}, partial(cleanly, command, study, part, seed, system)


def cleanly(
    command: Callable[..., dict[str, Any]], study: dict[str, Any], part: str | None, seed: int, system: str
) -> dict[str, Any]:
    """Run, and leave no checkpoints: they are large."""
    folder = FITS / f"{system}_{seed}"
    row = command(study, part, seed, folder)
    shutil.rmtree(folder)
    return row


def bertlab(study: dict[str, Any], part: str | None, seed: int, folder: Path) -> dict[str, Any]:
    """The quickstart's own command. Which rows are what is no matter of the seed, so the split is the same."""
    configs = study["bertlab"]["configs"]
    command = [BERTLAB, "fit", *(word for path in configs for word in ("--config", path))]
    command += [*run_flags(folder), "--seed_everything", str(seed)]
    command += ["--data.init_args.source", part, "--data.init_args.deduplicate", "false"] if part else []
    cost = run_command(command, folder / "log.txt")
    true, predicted = expand(read_scores(folder / FIT)["confusion_matrix"]["counts"])
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
    command += [*(["--source", part] if part else []), *flags_of(study["hf_trainer"])]
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
    panels = (
        ("macro_f1", "test macro F1"),
        ("seconds", "whole command, s"),
        ("peak_mib", "peak memory, MiB"),
    )
    with picture(path, 1, 3, size=(10, 3.4), dpi=120) as axes:
        for panel, (column, title) in zip(axes[0], panels, strict=True):
            values = {
                name.replace(" ", "\n", 1): [row[column] for row in rows if row["system"] == system]
                for system, name in NAMES.items()
            }
            draw_points(panel, values, median, title)
            if column != "macro_f1":
                panel.set_ylim(bottom=0)


if __name__ == "__main__":
    main()
