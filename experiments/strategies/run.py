"""Fine-tune with each strategy alone and with none, over seeds and data sets; table and figure of the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from bertlab.data.text_classification import TextClassificationData
from experiments.commands import ROOT
from experiments.configurations import load_config
from experiments.fits import FIT, fit_for_scores, read_scores
from experiments.rates import epoch_seconds, read_clock
from experiments.strategies.report import NONE, report
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.texts import write_splits

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
FRAGMENTS = sorted((ROOT / "configs" / "callbacks").glob("*.yaml"))


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report, command_of)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """For each seed and data set a run without a strategy, then one with each."""
    sources = sources_of(study)
    for seed in study["seeds"]:
        for data, source in sources.items():
            for system in systems_of(study):
                known_by = {"seed": seed, "data": data, "system": system}
                yield known_by, partial(fine_tune, study, data, source, system, seed)


def systems_of(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """What each system has beside plain fine-tuning, as words of the command.

    None, the files of configs/callbacks that fit, and systems that are no file there.
    """
    strategies = {
        fragment.stem: [f"--trainer.callbacks+={fragment.relative_to(ROOT)}"]
        for fragment in FRAGMENTS
        if fragment.stem not in study["left_out"]
    }
    beside = {name: [*words, *study["with"].get(name, [])] for name, words in strategies.items()}
    return {NONE: [], **beside, **study["also"]}


def command_of(study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
    """What makes a run: its data set, the machine, and what its system has."""
    return [
        study["data_sets"][known_by["data"]],
        *study["arguments"],
        *systems_of(study)[known_by["system"]],
    ]


def sources_of(study: Mapping[str, Any], folder: Path = WORK / "texts") -> dict[str, str]:
    """The rows of each data set as files below a folder: the same for all seeds and systems."""
    sources: dict[str, str] = {}
    rows = study["rows"]
    for name, config in study["data_sets"].items():
        arguments = load_config(ROOT / config)["data"]["init_args"]
        data = TextClassificationData(tokenizer="packaged:minilm_l6_v2", **arguments)
        sources[name] = write_splits(folder / name, rows["train"], rows["validation"], rows["test"], data)
    return sources


def fine_tune(study: Mapping[str, Any], data: str, source: str, system: str, seed: int) -> dict[str, Any]:
    """One fit, tested at its best checkpoint: score, and seconds of an epoch on the threads that it has."""
    folder = WORK / f"{data}_{system}_{seed}"
    fit(study, data, source, systems_of(study)[system], seed, folder)
    scores = read_scores(folder / FIT)
    seconds = mean(epoch_seconds(read_clock(folder / "clock.json")))
    return {"score": scores[study["score"]], "accuracy": scores["accuracy"], "epoch_seconds": seconds}


def fit(
    study: Mapping[str, Any], data: str, source: str, words: Sequence[str], seed: int, folder: Path
) -> None:
    """Fine-tune once.

    Args:
        study: the settings.
        data: name of the data set.
        source: its rows, of `sources_of`.
        words: what is added to plain fine-tuning.
        seed: of the head's weights, dropout and the order of the rows.
        folder: takes the run directory, the clock and the log; what is there is removed.
    """
    command = ["--config", study["data_sets"][data], *study["arguments"]]
    command += ["--data.init_args.source", source, "--data.init_args.deduplicate", "false"]
    fit_for_scores(command, seed, folder, study["side_by_side"], words)


if __name__ == "__main__":
    main()
