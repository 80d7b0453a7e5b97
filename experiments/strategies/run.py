"""Fine-tune with each strategy alone and with none, over seeds and data sets; table and figure of the scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bertlab.corpus.executors import cores
from bertlab.data.text_classification import TextClassificationData
from experiments.commands import ROOT, run_forked
from experiments.configurations import load_config
from experiments.fits import FIT, clock_flags, read_scores, run_flags
from experiments.rates import read_clock
from experiments.strategies.report import NONE, report
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.texts import write_splits

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
FRAGMENTS = sorted((ROOT / "configs" / "callbacks").glob("*.yaml"))


def main() -> None:
    carry_out(FOLDER, study_options(__doc__), runs, report)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """For each seed and data set a run without a strategy, then one with each file of configs/callbacks that fits."""
    fragments = [fragment for fragment in FRAGMENTS if fragment.stem not in study["left_out"]]
    sources = {name: source_of(name, Path(config), study) for name, config in study["data_sets"].items()}
    for seed in study["seeds"]:
        for name, source in sources.items():
            for fragment in (None, *fragments):
                known_by = {"seed": seed, "data": name, "system": fragment.stem if fragment else NONE}
                yield known_by, partial(fine_tune, study, name, source, fragment, seed)


def source_of(name: str, config: Path, study: dict[str, Any]) -> str:
    """The rows of a data set as files: the same for all seeds and systems."""
    arguments = load_config(ROOT / config)["data"]["init_args"]
    data = TextClassificationData(tokenizer="packaged:minilm_l6_v2", **arguments)
    rows = study["rows"]
    return write_splits(WORK / "texts" / name, rows["train"], rows["validation"], rows["test"], data)


def fine_tune(
    study: dict[str, Any], name: str, source: str, fragment: Path | None, seed: int
) -> dict[str, Any]:
    """One fit, tested at its best checkpoint: score, and seconds of an epoch on the threads that it has."""
    system = fragment.stem if fragment else NONE
    folder = WORK / f"{name}_{system}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    command = ["fit", "--config", study["data_sets"][name], *study["arguments"]]
    command += ["--data.init_args.source", source, "--data.init_args.deduplicate", "false"]
    command += [*run_flags(folder), "--seed_everything", str(seed), *clock_flags(folder / "clock.json")]
    if fragment is not None:
        command += [f"--trainer.callbacks+={fragment.relative_to(ROOT)}", *study["with"].get(system, [])]
    run_forked(command, folder / "log.txt", max(1, cores() // study["side_by_side"]))
    scores = read_scores(folder / FIT)
    epochs = read_clock(folder / "clock.json")["epochs"]
    shutil.rmtree(folder / FIT / "checkpoints")
    seconds = float(np.mean([epoch["ends"][-1] - epoch["starts"][0] for epoch in epochs]))
    return {"score": scores[study["score"]], "accuracy": scores["accuracy"], "epoch_seconds": seconds}


if __name__ == "__main__":
    main()
