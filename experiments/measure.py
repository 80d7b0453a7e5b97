"""Measuring of whole commands: wall time and peak memory of a process, step times from a clock file, medians."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.turns import STEPS, within_turn

ROOT = Path(__file__).resolve().parents[1]
#: The `bertlab` command and the interpreter of the environment that this process runs in.
BERTLAB = str(Path(sys.executable).with_name("bertlab"))
PYTHON = sys.executable

#: What a run is known by, and the run itself, which gives the rest of its row.
Run = tuple[dict[str, Any], Callable[[], dict[str, Any]]]

BEGIN, END = "<!-- results: written by the command above -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: wall time from its start to its end.
        peak_mib: highest resident memory of the largest of its processes, in MiB.
    """

    seconds: float
    peak_mib: float


def run_command(command: Sequence[str], log: Path, threads: int | None = None) -> Cost:
    """Run a command from the root of the repository and wait for it.

    Args:
        command: program and arguments.
        log: takes what it prints.
        threads: that it computes with; as many as there are cores.

    Raises:
        RuntimeError: it failed; the message ends with what it printed last.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",  # neither side waits for a network that it does not need
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        # wait4 gives the memory of this very child; RUSAGE_CHILDREN is the maximum over all there ever were.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode} ({log}):\n{tail}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return Cost(seconds, usage.ru_maxrss / unit)


@dataclass(frozen=True)
class Throughput:
    """Speed of training, without start-up, validation and warm-up epochs.

    Attributes:
        examples: a second.
        tokens: real ones, that is without padding, a second.
        step_seconds: median over the steps, each from its start to the start of the next.
    """

    examples: float
    tokens: float
    step_seconds: float


def read_clock(path: Path) -> dict[str, Any]:
    """What `experiments.clocks` has written."""
    return json.loads(path.read_text(encoding="utf-8"))


def throughput(clock: Mapping[str, Any], warm_up_epochs: int) -> Throughput:
    """Rows and tokens of the epochs after the first ones over the time from their first step to the end of their last.

    Of processes that trained in turn, the time from the first step to the end of the last one of each turn.

    Args:
        clock: of `read_clock`.
        warm_up_epochs: epochs that are left out at the beginning.

    Raises:
        ValueError: no epoch is left.
    """
    epochs = clock["epochs"][warm_up_epochs:]
    if not epochs:
        raise ValueError(f"a clock of {len(clock['epochs'])} epochs, {warm_up_epochs} of them warm-up")
    in_turn = clock.get("in_turn", False)
    seconds = sum(training_seconds(epoch["starts"], epoch["ends"], in_turn) for epoch in epochs)
    return Throughput(
        clock["rows_per_epoch"] * len(epochs) / seconds,
        clock["tokens_per_epoch"] * len(epochs) / seconds,
        statistics.median(step_times(clock, warm_up_epochs)),
    )


def training_seconds(starts: Sequence[float], ends: Sequence[float], in_turn: bool, first: int = 0) -> float:
    """From the beginning of a step to the end of the last one; in turn with others, of each turn.

    Args:
        starts: of the steps.
        ends: of the steps.
        in_turn: whether other processes trained in between.
        first: step from which on it counts.
    """
    size = STEPS if in_turn else len(ends)
    turns = [(max(begin, first), min(begin + size, len(ends))) for begin in range(0, len(ends), size)]
    return sum(ends[end - 1] - starts[begin] for begin, end in turns if begin < end)


def step_times(clock: Mapping[str, Any], warm_up_epochs: int) -> list[float]:
    """Seconds of each step of the epochs after the first ones, from its start to the start of the next.

    So it includes all that lies between two steps: fetching the batch, logging, callbacks. The last step of
    an epoch, which validation follows, is left out; and the last one of a turn, if processes have trained in turn.
    """
    in_turn = clock.get("in_turn", False)
    return [
        after - before
        for epoch in clock["epochs"][warm_up_epochs:]
        for step, (before, after) in enumerate(zip(epoch["starts"], epoch["starts"][1:], strict=False))
        if not in_turn or within_turn(step)
    ]


def load_config(path: Path) -> dict[str, Any]:
    """A configuration of bertlab as plain values, with the fragments that it names by path (relative to itself)."""

    def whole(node: Any, folder: Path) -> Any:
        if isinstance(node, dict):
            return {key: whole(value, folder) for key, value in node.items()}
        if isinstance(node, list):
            return [whole(value, folder) for value in node]
        if isinstance(node, str) and node.endswith(".yaml"):
            return load_config(folder / node)
        return node

    return whole(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent)


def load_study(folder: Path, quick: bool) -> dict[str, Any]:
    """study.yaml, with its part `without_bf16` laid over it on a CPU that has no bfloat16, and `quick` if wanted."""
    from bertlab.cli_hardware import cpu_has_bfloat16

    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    overlays = {"without_bf16": not cpu_has_bfloat16(), "quick": quick}
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


def run_study(
    study: Mapping[str, Any],
    runs: Iterable[Run],
    output: Path,
    fresh: bool,
    side_by_side: int = 1,
) -> None:
    """Do the runs that results.csv does not have yet. It is written after each, so a study that was stopped goes on.

    Args:
        study: its settings.
        runs: in the order in which they are done.
        output: folder of results.csv and machine.txt (what it was measured on, with which settings).
        fresh: do not keep what is there.
        side_by_side: how many runs at the same time, where their scores count and not their speed.

    Raises:
        ValueError: what is there is of another machine or of other settings.
    """
    table, origin = output / "results.csv", output / "machine.txt"
    settings = hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest()[:16]
    here = f"{machine()}\nsettings {settings}\n"
    rows: list[dict[str, Any]] = []
    if table.exists() and not fresh:
        if origin.read_text(encoding="utf-8") != here:
            raise ValueError(
                f"{table} is of another machine or other settings, see {origin}; --fresh runs all again"
            )
        rows = read_rows(table)
    output.mkdir(parents=True, exist_ok=True)
    origin.write_text(here, encoding="utf-8")

    def is_known(known_by: dict[str, Any]) -> bool:
        return any(all(row.get(key) == value for key, value in known_by.items()) for row in rows)

    with ThreadPoolExecutor(side_by_side) as pool:  # of processes, which `run` starts and waits for
        waiting = {pool.submit(run): known_by for known_by, run in runs if not is_known(known_by)}
        try:
            for done in as_completed(waiting):
                row = {**waiting[done], **done.result()}
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                rows.append(row)
                write_rows(table, rows)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error the others are not begun


def measured_on(output: Path) -> str:
    """One line: the machine of results.csv."""
    return "Measured on: " + (output / "machine.txt").read_text(encoding="utf-8").splitlines()[0]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file of all rows; numbers that are not whole keep five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What `write_rows` wrote, numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def median_of(rows: Iterable[Mapping[str, Any]], column: str, **wanted: Any) -> float:
    """The median of a column over the rows that have the wanted values and a number there."""
    values = [
        row[column]
        for row in rows
        if row[column] != "" and all(row[key] == value for key, value in wanted.items())
    ]
    return statistics.median(values)


def median_ratio(
    rows: Sequence[Mapping[str, Any]], column: str, above: str, below: str, key: str = "seed"
) -> float:
    """The median over the pairs (same seed, run one after the other) of the ratio of two systems.

    A pair shares what else the machine was doing then, so a ratio within a pair is steadier than a ratio of medians.
    """
    values = {(row["system"], row[key]): row[column] for row in rows}
    pairs = [seed for system, seed in values if system == above and (below, seed) in values]
    return statistics.median(values[above, seed] / values[below, seed] for seed in pairs)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def machine() -> str:
    """One line about what the numbers were measured on."""
    import torch
    import transformers

    # Linux names the processor here only.
    information = Path("/proc/cpuinfo")
    names = (
        [line for line in information.read_text().splitlines() if line.startswith("model name")]
        if (information.exists())
        else []
    )
    processor = names[0].partition(":")[2].strip() if names else platform.processor()
    return (
        f"{processor}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


def write_results(folder: Path, text: str) -> None:
    """Put the results into the README of an experiment, between its two marks; or into results.md, if there is none."""
    readme = folder / "README.md"
    if not readme.exists():
        (folder / "results.md").write_text(text, encoding="utf-8")
        return
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{readme} lacks the marks {BEGIN!r} and {END!r}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
