"""Measure `bertlab corpus`: megabytes of text a minute a core, the tokenizer's share, and memory by size of text."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bertlab.corpus.sentences import SentenceSplitter
from bertlab.corpus.text_tokenizer import text_tokenizer
from bertlab.corpus.token_stage import CHARACTERS_AT_ONCE
from experiments.commands import PYTHON, run_command
from experiments.results import measured_on, read_rows, write_results
from experiments.speed_corpus.texts import text_file
from experiments.study import Run, carry_out, study_options, work_folder
from experiments.tables import markdown_table, median_of

FOLDER = Path(__file__).parent
WORK = work_folder(FOLDER)
TOKENIZER = "tokenizer alone"


def main() -> None:
    options = study_options(__doc__, memory="of the two parts, memory alone", speed="speed alone")
    parts = {"memory": memory, "speed": speed}
    chosen = [part for name, part in parts.items() if getattr(options, name)] or list(parts.values())
    carry_out(FOLDER, options, lambda study: (run for part in chosen for run in part(study)), report)


def speed(study: dict[str, Any]) -> Iterator[Run]:
    """Every system with one worker, which is the process itself, in turn over the seeds; then the tokenizer alone."""
    size = study["speed"]["megabytes"]
    for seed in study["speed"]["seeds"]:
        known_by = {"part": "speed", "seed": seed, "megabytes": size}
        for system, flags in study["speed"]["systems"].items():
            yield {**known_by, "system": system}, partial(build, study, size, seed, 1, flags)
        yield {**known_by, "system": TOKENIZER}, partial(tokenize, study, size, seed)


def memory(study: dict[str, Any]) -> Iterator[Run]:
    """Every step, with workers, by the size of the text."""
    for workers in study["memory"]["workers"]:
        for size in study["memory"]["megabytes"]:
            known_by = {"part": "memory", "seed": 0, "megabytes": size, "system": f"workers: {workers}"}
            yield known_by, partial(build, study, size, 0, workers, [])


def build(study: dict[str, Any], size: int, seed: int, workers: int, flags: list[str]) -> dict[str, Any]:
    """One build, in a process of its own."""
    path = text_file(WORK, size, study["left_out"], seed)
    reader = {"class_path": "bertlab.corpus.readers.JsonLines", "init_args": {"path": str(path)}}
    store = WORK / "store"
    for old in (store, WORK / ".store.part"):  # of a study that was stopped: a build would go on with it
        shutil.rmtree(old, ignore_errors=True)
    took = WORK / "took.json"
    command = [
        PYTHON,
        str(FOLDER / "measured.py"),
        str(took),
        PYTHON,
        "-m",
        "bertlab.cli",
        "corpus",
        "--config",
        study["config"],
        "--output",
        str(store),
    ]
    command += ["--documents", json.dumps([reader]), "--executor.workers", str(workers), *flags]
    run_command(command, WORK / "log.txt")
    summary = json.loads((store / "summary.json").read_text(encoding="utf-8"))
    row = {
        **json.loads(took.read_text(encoding="utf-8")),
        "read": summary["read"]["documents"],
        "documents": summary["documents"],
        "tokens": summary["tokens"],
    }
    shutil.rmtree(store)
    return row


def tokenize(study: dict[str, Any], size: int, seed: int) -> dict[str, Any]:
    """The tokenizer of the given vocabulary on the sentences of a text, in the batches of the build, on one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from bertlab.sources.models import model_folder

    path = text_file(WORK, size, study["left_out"], seed)
    tokenizer = text_tokenizer(Path(model_folder("packaged:minilm_l6_v2")))
    splitter = SentenceSplitter()
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").split("\n") if line]
    every = [sentence for text in texts for sentence in splitter.split(text)]
    batches: list[list[str]] = [[]]
    characters = 0
    for sentence in every:
        batches[-1].append(sentence)
        characters += len(sentence)
        if characters >= CHARACTERS_AT_ONCE:
            batches.append([])
            characters = 0
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = sum(
        len(e.ids) for b in batches for e in tokenizer.encode_batch_fast(b, add_special_tokens=False)
    )
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "tokens": tokens}


def report(output: Path) -> None:
    """Two tables: speed by system, medians over the seeds; and memory by size."""
    rows = read_rows(output / "results.csv")
    tables = {part: [row for row in rows if row["part"] == part] for part in ("speed", "memory")}
    head = ["system, one worker", "text, MB", "MB a minute", "MB a CPU minute"]
    speeds = [[*head, "of its CPU time the tokenizer alone takes", "peak memory, MiB"]]
    alone = [row for row in tables["speed"] if row["system"] == TOKENIZER]
    for system in dict.fromkeys(row["system"] for row in tables["speed"]):
        some = [row for row in tables["speed"] if row["system"] == system]
        size = some[0]["megabytes"]
        a_minute = [60 * size / median_of(some, column) for column in ("seconds", "cpu_seconds")]
        share, peak = "", ""
        if system != TOKENIZER:
            peak = f"{median_of(some, 'peak_mib'):.0f}"
            if alone:
                share = f"{median_of(alone, 'cpu_seconds') / median_of(some, 'cpu_seconds'):.0%}"
        speeds.append([system, f"{size:g}", *(f"{value:.1f}" for value in a_minute), share, peak])
    head = [
        "every step",
        "text, MB",
        "documents",
        "tokens, M",
        "MB a minute",
        "CPU minutes",
        "MB a CPU minute",
    ]
    peaks = [[*head, "peak of the command, MiB", "of the largest worker", "of all together"]]
    for row in tables["memory"]:
        memories = [f"{row[f'{name}_mib']:.0f}" for name in ("parent", "worker", "together")]
        counts = [f"{row['documents']:,} of {row['read']:,}", f"{row['tokens'] / 1e6:.1f}"]
        minutes = row["cpu_seconds"] / 60
        speed = 60 * row["megabytes"] / row["seconds"]
        times = [f"{speed:.1f}", f"{minutes:.1f}", f"{row['megabytes'] / minutes:.1f}"]
        peaks.append([row["system"], f"{row['megabytes']:g}", *counts, *times, *memories])
    seeds = len({row["seed"] for row in tables["speed"]})
    parts = [measured_on(output)]
    if seeds:
        parts += [f"Speed: medians of {seeds} seed(s).", markdown_table(speeds)]
    if tables["memory"]:
        parts += ["Memory: one build each.", markdown_table(peaks)]
    text = "\n\n".join(parts)
    print(text)
    write_results(output, text)


if __name__ == "__main__":
    main()
