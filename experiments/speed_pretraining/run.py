"""Measure pretraining, systems in turn over the seeds; write results, tables and figure. Or check equality."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from experiments.measure import (
    BERTLAB,
    ROOT,
    Run,
    load_study,
    markdown_table,
    run_command,
    run_study,
    study_options,
)
from experiments.speed_pretraining.report import report
from experiments.speed_pretraining.systems import Bench

FOLDER = Path(__file__).parent
WORK = ROOT / "runs" / "experiments" / FOLDER.name


def main() -> None:
    options = study_options(
        __doc__, check="train both without dropout, and fail if the losses of their first steps differ"
    )
    output = WORK / "quick" if options.quick else FOLDER
    if options.check:
        check(load_study(FOLDER, options.quick))
        return
    if not options.report:
        study = load_study(FOLDER, options.quick)
        run_study(study, runs(study), output, options.fresh or options.quick)
    report(output)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Every case; in it the systems in turn, over the seeds."""
    store = token_store()
    for name, case in study["cases"].items():
        for seed in study["seeds"]:
            bench = Bench(
                name,
                study["sizes"][case["size"]],
                case,
                study["validation_examples"],
                seed,
                store,
                WORK / "fits",
            )
            for system, settings in study["systems"].items():
                if system in case.get("systems", study["systems"]):
                    known_by = {"case": name, "seed": seed, "system": system}
                    yield known_by, partial(bench.fit, system, settings)
            shutil.rmtree(bench.folder, ignore_errors=True)


def token_store() -> Path:
    """The token store of corpus.yaml; made where it is not there, or not of these settings."""
    store = WORK / "store"
    command = [BERTLAB, "corpus", "--config", str(FOLDER / "corpus.yaml"), "--output", str(store)]
    run_command(command, WORK / "corpus.log.txt")
    return store


def check(study: dict[str, Any]) -> None:
    """Train both sides without dropout in fp32, and compare the loss of every step and that of validation.

    Raises:
        SystemExit: they differ by more than the tolerance.
    """
    case, systems = study["check"], study["systems"]
    size = study["sizes"][case["size"]] | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    bench = Bench(
        "check", size, case, case["validation_examples"], 0, token_store(), WORK / "fits", log_every=1
    )
    theirs, ours = (bench.train(system, systems[system]) for system in ("hf_default", "bertlab_fp32"))
    steps = [f"step {step}" for step in range(case["steps"])]
    pairs = list(zip([*theirs.training, theirs.validation], [*ours.training, ours.validation], strict=True))
    differences = [abs(our - their) / their for their, our in pairs]
    table = [["", "HF Trainer", "bertlab", "relative difference"]]
    for name, (their, our), difference in zip([*steps, "validation"], pairs, differences, strict=True):
        table.append([name, f"{their:.6f}", f"{our:.6f}", f"{difference:.1e}"])
    print(markdown_table(table))
    shutil.rmtree(bench.folder)
    if not max(differences) <= case["tolerance"]:
        raise SystemExit(f"losses differ by {max(differences):.1e}, more than {case['tolerance']}")
    print(f"equal: no loss differs by more than {max(differences):.1e}")


if __name__ == "__main__":
    main()
