"""A study: its options, its settings, and the runs that it still has to do.

The main program of a study is `carry_out(FOLDER, study_options(__doc__), runs, report)`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml

from experiments.commands import ROOT
from experiments.results import machine, read_rows, write_rows

#: What a run is known by, and the run itself, which gives the rest of its row.
Run = tuple[dict[str, Any], Callable[[], dict[str, Any]]]


def carry_out(
    folder: Path,
    options: argparse.Namespace,
    runs: Callable[[dict[str, Any]], Iterable[Run]],
    report: Callable[[Path], None],
) -> None:
    """Do the runs of a study, unless its report alone is wanted, then the report.

    Args:
        folder: of the study: study.yaml, and what comes of it. With `--quick` that goes into the work folder.
        options: of `study_options`.
        runs: from the settings to the runs, in the order in which they are done.
        report: from the folder of results.csv to tables and figure.
    """
    output = work_folder(folder) / "quick" if options.quick else folder
    if not options.report:
        study = load_study(folder, options.quick)
        run_study(study, runs(study), output, options.fresh or options.quick)
    report(output)


def work_folder(folder: Path) -> Path:
    """Where a study keeps what is none of its results."""
    return ROOT / "runs" / "experiments" / folder.name


def study_options(description: str | None, **flags: str) -> argparse.Namespace:
    """The options that every study has: quick, report, fresh; and flags of its own, each with its help."""
    return study_parser(description, **flags).parse_args()


def study_parser(description: str | None, **flags: str) -> argparse.ArgumentParser:
    """As `study_options`, for a study that adds options with a value."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="little data, one seed, results beside the runs")
    parser.add_argument(
        "--report", action="store_true", help="table and figure of results.csv, without running"
    )
    parser.add_argument("--fresh", action="store_true", help="run again what results.csv has already")
    for flag, explanation in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=explanation)
    return parser


def load_study(folder: Path, quick: bool) -> dict[str, Any]:
    """study.yaml, with those of its parts laid over it that it needs.

    They are `without_bf16` on a CPU that has no bfloat16, `without_gpu` where torch finds none, and `quick` if wanted.
    """
    import torch

    from bertlab.cli_hardware import cpu_has_bfloat16

    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    overlays = {
        "without_bf16": not cpu_has_bfloat16(),
        "without_gpu": not torch.cuda.is_available(),
        "quick": quick,
    }
    parts = {name: study.pop(name, {}) for name in overlays}
    for name, wanted in overlays.items():
        study = merged(study, parts[name]) if wanted else study
    return study


def merged(study: dict[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """A study with an overlay laid over it, key by key; what the overlay sets to null is left out."""
    result = dict(study)
    for key, value in overlay.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def run_study(study: Mapping[str, Any], runs: Iterable[Run], output: Path, fresh: bool) -> None:
    """Do the runs that results.csv does not have yet. It is written after each, so a study that was stopped goes on.

    Args:
        study: its settings; `side_by_side` among them says how many runs are done at the same time, where their
            scores count and not their speed; `any_machine`, that it may go on where another machine left it.
        runs: in the order in which they are done.
        output: folder of results.csv and machine.txt (what it was measured on, with which settings).
        fresh: do not keep what is there.

    Raises:
        ValueError: what is there is of another machine or of other settings.
    """
    table, origin = output / "results.csv", output / "machine.txt"
    settings = hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest()[:16]
    machines, rows = [machine()], list[dict[str, Any]]()
    if table.exists() and not fresh:
        *before, last = origin.read_text(encoding="utf-8").splitlines()
        known = before == machines or study.get("any_machine", False)
        if last != f"settings {settings}" or not known:
            raise ValueError(
                f"{table} is of another machine or other settings, see {origin}; --fresh runs all again"
            )
        machines, rows = list(dict.fromkeys([*before, *machines])), read_rows(table)
    output.mkdir(parents=True, exist_ok=True)
    origin.write_text("\n".join([*machines, f"settings {settings}"]) + "\n", encoding="utf-8")

    def is_known(known_by: dict[str, Any]) -> bool:
        return any(all(row.get(key) == value for key, value in known_by.items()) for row in rows)

    # The threads only start processes and wait for them.
    with ThreadPoolExecutor(study.get("side_by_side", 1)) as pool:
        waiting = {pool.submit(run): known_by for known_by, run in runs if not is_known(known_by)}
        try:
            for done in as_completed(waiting):
                row = {**waiting[done], **done.result()}
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                rows.append(row)
                write_rows(table, rows)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the others are not begun
