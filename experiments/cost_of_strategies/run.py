"""Measure what each strategy of configs/callbacks costs: seconds of a step and peak memory, against none."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bertlab.data.text_classification import TextClassificationData
from experiments.commands import ROOT
from experiments.configurations import load_config
from experiments.cost_of_strategies.measured import training
from experiments.cost_of_strategies.trainings import CLASSIFICATION
from experiments.results import measured_on, read_rows, write_results
from experiments.speed_pretraining.run import token_store
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table, median_of, median_ratio
from experiments.texts import write_splits

FOLDER = Path(__file__).parent
FRAGMENTS = sorted((ROOT / "configs" / "callbacks").glob("*.yaml"))
NONE = "none"


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report, command_of)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """In each round every training with each of its strategies in turn, beginning with none."""
    sources = sources_of(study)
    for number in study["rounds"]:
        for name, systems in files_of(study).items():
            for system, fragments in systems.items():
                yield (
                    {"training": name, "system": system, "round": number},
                    partial(in_its_own_process, name, fragments, sources, study),
                )


def sources_of(study: Mapping[str, Any]) -> dict[str, str]:
    """Where the texts of the trainings are: messages and reviews as files, news as a token store."""
    rows, folder = study["texts"], work_folder(FOLDER)
    reviews = TextClassificationData(study["source"], **load_config(ROOT / study["reviews"])["init_args"])
    splits = (rows * study["steps_per_epoch"], rows, rows)
    return {
        "messages": write_splits(folder / "messages", *splits),
        "reviews": write_splits(folder / "reviews", *splits, reviews),
        "news": str(token_store(study["news"])),
    }


def files_of(study: Mapping[str, Any]) -> dict[str, dict[str, list[Path]]]:
    """Of each training the systems, and of each system the files: that of the strategy, and those that go with it."""
    beside = {name: [ROOT / path for path in paths] for name, paths in study["with"].items()}
    found: dict[str, dict[str, list[Path]]] = {}
    for path in sorted(FRAGMENTS, key=lambda path: training_of(path.stem, study) != CLASSIFICATION):
        systems = found.setdefault(training_of(path.stem, study), {NONE: []})
        systems[path.stem] = [path, *beside.get(path.stem, [])]
    return found


def training_of(system: str, study: Mapping[str, Any]) -> str:
    """The training that a strategy is put into."""
    return study["trainings"].get(system, CLASSIFICATION)


def command_of(study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What a training reads: the files of its system."""
    return [str(path) for path in files_of(study)[known_by["training"]][known_by["system"]]]


def in_its_own_process(
    name: str, fragments: Sequence[Path], sources: Mapping[str, str], study: dict[str, Any]
) -> dict[str, Any]:
    """A row: peak memory is that of a whole process. All are forked from one that has done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([training.__module__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(training, name, fragments, sources, study).result()


def report(output: Path) -> None:
    """A table of medians over the rounds, and of ratios within a round; and what strategies did not do."""
    rows = read_rows(output / "results.csv")
    table = [["training", "strategy", "a step, s", "× none", "× none at the end", "memory, MiB", "× none"]]
    for name in dict.fromkeys(row["training"] for row in rows):
        table += lines_of(name, [row for row in rows if row["training"] == name])
    rounds = len({row["round"] for row in rows})
    undone = dict.fromkeys(
        f"Not in the numbers of `{row['system']}`: {row['undone']}." for row in rows if row["undone"]
    )
    text = "\n\n".join(
        [measured_on(output), f"Medians of {rounds} round(s).", markdown_table(table), *undone]
    )
    print(text)
    write_results(output, text)


def lines_of(name: str, rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """The lines of a training, of its rows: no strategy first."""
    for system in [NONE, *sorted({row["system"] for row in rows} - {NONE})]:
        step, end, memory = (
            median_ratio(rows, column, system, NONE, key="round")
            for column in ("step_seconds", "last_step_seconds", "memory_mib")
        )
        own = {column: median_of(rows, column, system=system) for column in ("step_seconds", "memory_mib")}
        cells = [f"{own['step_seconds']:.3f}", f"{step:.2f}", f"{end:.2f}"]
        cells += [f"{own['memory_mib']:.0f}", f"{memory:.2f}"]
        yield [name.replace("_", " "), system if system == NONE else f"`{system}`", *cells]


if __name__ == "__main__":
    main()
