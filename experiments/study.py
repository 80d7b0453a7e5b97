"""A study: its options, its settings, and the runs that it still has to do.

The main program of a study is `carry_out(FOLDER, study_options(__doc__), runs, report)`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml

from experiments.commands import ROOT
from experiments.configurations import configurations_in, digest_of
from experiments.results import machine, read_rows, write_rows

#: What a run is known by, and the run itself, which gives the rest of its row.
Run = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
#: From the settings and what a run is known by to the words of its command that make the difference.
CommandOf = Callable[[Mapping[str, Any], Mapping[str, Any]], Sequence[str]]
#: The column of results.csv that has the hash of what a run read.
CONFIGURATION = "configuration"


def carry_out(
    folder: Path,
    options: argparse.Namespace,
    runs: Callable[[dict[str, Any]], Iterable[Run]],
    report: Callable[[Path], None],
    command_of: CommandOf | None = None,
) -> None:
    """Do the runs of a study, unless its report alone is wanted, then the report.

    Args:
        folder: of the study: study.yaml, and what comes of it. With `--quick` that goes into the work folder.
        options: of `study_options`.
        runs: from the settings to the runs, in the order in which they are done.
        report: from the folder of results.csv to tables and figure.
        command_of: see `run_study`.
    """
    output = work_folder(folder) / "quick" if options.quick else folder
    if not options.report:
        study = load_study(folder, options.quick)
        if options.quick:
            (output / "results.csv").unlink(missing_ok=True)
        run_study(
            study,
            runs(study),
            output,
            options.fresh,
            command_of=command_of,
            systems=options.systems,
            at_once=options.at_once,
        )
    report(output)


def work_folder(folder: Path) -> Path:
    """Where a study keeps what is none of its results."""
    return ROOT / "runs" / "experiments" / folder.name


def study_options(description: str | None, **flags: str) -> argparse.Namespace:
    """The options of a study that does its runs by `carry_out`, and flags of its own, each with its help."""
    parser = study_parser(description, **flags)
    add_choice_of_runs(parser)
    return parser.parse_args()


def add_choice_of_runs(parser: argparse.ArgumentParser) -> None:
    """The options that say which of the missing runs are done, and how many of them at the same time."""
    parser.add_argument(
        "--systems",
        type=lambda text: text.split(","),
        default=[],
        metavar="A,B",
        help="run these systems alone; what results.csv has of others stays",
    )
    parser.add_argument(
        "--at_once", type=int, help="how many runs at the same time, in place of side_by_side in study.yaml"
    )


def study_parser(description: str | None, **flags: str) -> argparse.ArgumentParser:
    """The options that every study has, for one that adds options with a value."""
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


def run_study(
    study: Mapping[str, Any],
    runs: Iterable[Run],
    output: Path,
    fresh: bool,
    *,
    command_of: CommandOf | None = None,
    systems: Collection[str] = (),
    at_once: int | None = None,
) -> None:
    """Do the runs that results.csv does not have yet. It is written after each, so a study that was stopped goes on.

    A row has a hash of the configurations that its run read. Where one of them has changed since, the run is done
    again; a row that has no hash is taken as it is, and given one.

    Args:
        study: its settings; `side_by_side` among them says how many runs are done at the same time, where their
            scores count and not their speed; `any_machine`, that it may go on where another machine left it;
            `hashed_by_row`, which of them make a difference by the words of `command_of` alone, so that other
            settings there are no other study.
        runs: in the order in which they are done.
        output: folder of results.csv and machine.txt (what it was measured on, with which settings).
        fresh: do not keep what is there, of `systems` where they are given.
        command_of: what a run read and what else its row depends on; None: the configurations that the settings name.
        systems: do the runs of these alone, known by `system`; none: all.
        at_once: in the place of `side_by_side`, without another study of it.

    Raises:
        ValueError: what is there is of another machine or of other settings, or there is no such system.
    """
    table, origin = output / "results.csv", output / "machine.txt"
    settings, machines, rows = settings_line(study), [machine()], list[dict[str, Any]]()
    if table.exists() and not (fresh and not systems):
        *before, last = origin.read_text(encoding="utf-8").splitlines()
        known = before == machines or study.get("any_machine", False)
        if last != settings or not known:
            raise ValueError(
                f"{table} is of another machine or other settings, see {origin}; --fresh runs all again"
            )
        machines, rows = list(dict.fromkeys([*before, *machines])), read_rows(table)
    wanted = of_systems(runs, systems)
    marks = [mark_of(study, known_by, command_of) for known_by, _ in wanted]
    rows, missing = divided(rows, wanted, marks, fresh)
    output.mkdir(parents=True, exist_ok=True)
    origin.write_text("\n".join([*machines, settings]) + "\n", encoding="utf-8")
    if rows:
        write_rows(table, rows)

    # The threads only start processes and wait for them.
    with ThreadPoolExecutor(at_once or study.get("side_by_side", 1)) as pool:
        waiting = {pool.submit(wanted[place][1]): place for place in missing}
        try:
            for done in as_completed(waiting):
                place = waiting[done]
                row = {**wanted[place][0], **done.result(), **marks[place]}
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                rows.append(row)
                write_rows(table, rows)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the others are not begun


def settings_line(study: Mapping[str, Any]) -> str:
    """The line of machine.txt that says which settings the rows are of."""
    own = {key: value for key, value in study.items() if key not in study.get("hashed_by_row", ())}
    return f"settings {hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16]}"


def of_systems(runs: Iterable[Run], systems: Collection[str]) -> list[Run]:
    """The runs of these systems; of no systems all runs.

    Raises:
        ValueError: no run is of one of them.
    """
    wanted = [run for run in runs if not systems or run[0].get("system") in systems]
    unknown = set(systems) - {known_by["system"] for known_by, _ in wanted if systems}
    if unknown:
        raise ValueError(f"--systems: no run is of {', '.join(sorted(unknown))}")
    return wanted


def mark_of(
    study: Mapping[str, Any], known_by: Mapping[str, Any], command_of: CommandOf | None
) -> dict[str, str]:
    """The hash of what a run reads, by the name of its column; nothing where it reads no configuration."""
    words = configurations_in(study) if command_of is None else command_of(study, known_by)
    return {CONFIGURATION: digest_of(words)} if words else {}


def divided(
    rows: Sequence[Mapping[str, Any]], runs: Sequence[Run], marks: Sequence[Mapping[str, str]], fresh: bool
) -> tuple[list[dict[str, Any]], list[int]]:
    """What results.csv keeps, and which runs are still to be done.

    Args:
        rows: of results.csv.
        runs: that are wanted.
        marks: of each run the hash that its row has, by the name of the column; nothing: it has none.
        fresh: keep no row of these runs.

    Returns:
        The rows that are kept, with the hashes that were missing; places of the runs that have no row among them.
    """
    kept, missing, outdated = [dict(row) for row in rows], list[int](), 0
    for place, ((known_by, _), mark) in enumerate(zip(runs, marks, strict=True)):
        row = next((row for row in kept if known_by.items() <= row.items()), None)
        if row is None:
            missing.append(place)
        elif fresh or (row.get(CONFIGURATION) and row[CONFIGURATION] != mark.get(CONFIGURATION)):
            kept.remove(row)
            missing.append(place)
            outdated += not fresh
        else:
            row.update(mark)
    if outdated:
        print(f"{outdated} row(s) are of configurations that have changed since: run again", flush=True)
    return kept, missing
