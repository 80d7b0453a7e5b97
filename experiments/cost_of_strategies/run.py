"""Measure what each strategy of configs/callbacks costs: seconds of a step and peak memory, against none."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from experiments.commands import ROOT
from experiments.cost_of_strategies.measured import training
from experiments.results import measured_on, read_rows, write_results
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table, median_of, median_ratio
from experiments.texts import write_splits

FOLDER = Path(__file__).parent
FRAGMENTS = sorted((ROOT / "configs" / "callbacks").glob("*.yaml"))
NONE = "none"


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report, command_of)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """In each round a training with every strategy of a text classifier, beginning with none."""
    rows = study["texts"]
    texts = write_splits(work_folder(FOLDER) / "texts", rows * study["steps_per_epoch"], rows, rows)
    for number in study["rounds"]:
        for system, fragments in files_of(study).items():
            yield (
                {"system": system, "round": number},
                partial(in_its_own_process, fragments, texts, study),
            )


def files_of(study: Mapping[str, Any]) -> dict[str, list[Path]]:
    """The files of each system: that of the strategy, and those that go with it."""
    fragments = [fragment for fragment in FRAGMENTS if fragment.stem not in study["left_out"]]
    beside = {name: [ROOT / path for path in paths] for name, paths in study["with"].items()}
    return {NONE: [], **{path.stem: [path, *beside.get(path.stem, [])] for path in fragments}}


def command_of(study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What a training reads: the files of its system."""
    return [str(path) for path in files_of(study)[known_by["system"]]]


def in_its_own_process(fragments: Sequence[Path], texts: str, study: dict[str, Any]) -> dict[str, Any]:
    """A row: peak memory is that of a whole process. All are forked from one that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([training.__module__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(training, fragments, texts, study).result()


def report(output: Path) -> None:
    """A table of medians over the rounds, and of ratios within a round; and what strategies did not do."""
    rows = read_rows(output / "results.csv")
    table = [["strategy", "a step, s", "× none", "× none at the end", "memory, MiB", "× none"]]
    for system in [NONE, *sorted({row["system"] for row in rows} - {NONE})]:
        step, end, memory = (
            median_ratio(rows, column, system, NONE, key="round")
            for column in ("step_seconds", "last_step_seconds", "memory_mib")
        )
        own = {column: median_of(rows, column, system=system) for column in ("step_seconds", "memory_mib")}
        cells = [f"{own['step_seconds']:.3f}", f"{step:.2f}", f"{end:.2f}"]
        cells += [f"{own['memory_mib']:.0f}", f"{memory:.2f}"]
        table.append([system if system == NONE else f"`{system}`", *cells])
    rounds = len({row["round"] for row in rows})
    undone = dict.fromkeys(
        f"Not in the numbers of `{row['system']}`: {row['undone']}." for row in rows if row["undone"]
    )
    text = "\n\n".join(
        [measured_on(output), f"Medians of {rounds} round(s).", markdown_table(table), *undone]
    )
    print(text)
    write_results(output, text)


if __name__ == "__main__":
    main()
