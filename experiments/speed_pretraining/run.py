"""Measure pretraining, systems in turn over the seeds; write results, tables and figure. Or check equality."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from experiments.commands import BERTLAB, run_command
from experiments.speed_pretraining.report import report
from experiments.speed_pretraining.systems import Bench
from experiments.study import Run, carry_out, load_study, study_options, work_folder
from experiments.tables import markdown_table
from experiments.turns import in_turn

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
FITS = WORK / "fits"


def main() -> None:
    options = study_options(
        __doc__, check="train both without dropout, and fail if the losses of their first steps differ"
    )
    if options.check:
        check(load_study(FOLDER, options.quick))
        return
    carry_out(FOLDER, options, runs, report_all)
    if not options.report:
        shutil.rmtree(FITS, ignore_errors=True)  # none, if all runs were there already


def report_all(output: Path) -> None:
    """Write tables and figure of the results in a folder, and of those of other machines, in folders within it."""
    for folder in (output, *sorted(path.parent for path in output.glob("*/results.csv"))):
        report(folder)


def runs(study: dict[str, Any]) -> Iterator[Run]:
    """Every case, over the seeds; all systems of a seed in turn, or one after the other."""
    for bench, systems in benches(study, FITS):
        alone = {system: partial(bench.fit, system, settings) for system, settings in systems.items()}
        found = in_turns(bench, systems) if bench.case["in_turn"] else alone
        for system, run in found.items():
            yield {"case": bench.name, "seed": bench.seed, "system": system}, run


def in_turns(bench: Bench, systems: dict[str, dict[str, Any]]) -> dict[str, Callable[[], dict[str, Any]]]:
    """What gives the row of each system; the first that is called trains all of them in turn."""
    found = cache(partial(trained_in_turn, bench, systems))
    return {system: partial(lambda system: found()[system], system) for system in systems}


def benches(study: dict[str, Any], fits: Path) -> Iterator[tuple[Bench, dict[str, dict[str, Any]]]]:
    """Every case with every seed, and the settings of the systems that are measured in it.

    Args:
        study: its settings.
        fits: folder for what runs leave.
    """
    store, systems = token_store(study["corpus"]), study["systems"]
    for name, case in study["cases"].items():
        size, examples = study["sizes"][case["size"]], case["validation_examples"]
        for seed in study["seeds"]:
            yield Bench(name, size, case, examples, seed, store, fits), systems


def trained_in_turn(bench: Bench, systems: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Train all systems at the same time, a few steps each in turn; their rows of results."""
    bench.prepare()
    runs = {system: partial(bench.fit, system, settings) for system, settings in systems.items()}
    return in_turn(bench.folder / "ring", runs)


def token_store(config: str) -> Path:
    """The token store of a configuration of `bertlab corpus`; made where it is not there, or not of these settings."""
    store = WORK / "stores" / Path(config).stem
    command = [BERTLAB, "corpus", "--config", config, "--output", str(store)]
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
        *("check", size, case, case["validation_examples"], 0, token_store(study["corpus"])),
        FITS,
        log_every=1,
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
