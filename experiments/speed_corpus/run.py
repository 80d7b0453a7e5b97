"""Measure `bertlab corpus`: megabytes of text a minute a core, the tokenizer's share, and memory by size of text."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from bertlab.corpus.readers import Packaged
from bertlab.corpus.sentences import SentenceSplitter
from bertlab.corpus.text_tokenizer import text_tokenizer
from bertlab.corpus.token_stage import CHARACTERS_AT_ONCE
from experiments.measure import (
    PYTHON,
    ROOT,
    load_study,
    markdown_table,
    measured_on,
    median_of,
    read_rows,
    run_command,
    run_study,
    study_options,
    write_results,
)

FOLDER = Path(__file__).parent
WORK = ROOT / "runs" / "experiments" / FOLDER.name
MB = 1_000_000
TOKENIZER = "tokenizer alone"


def main() -> None:
    options = study_options(__doc__)
    output = WORK / "quick" if options.quick else FOLDER
    if not options.report:
        study = load_study(FOLDER, options.quick)
        WORK.mkdir(parents=True, exist_ok=True)
        run_study(study, runs(study), output, options.fresh or options.quick)
    report(output)


def runs(study: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """Every variant at every size, in turn over the seeds; then the tokenizer alone at the smallest size."""
    for seed in study["seeds"]:
        for size in study["sizes"]:
            for variant, flags in study["variants"].items():
                known_by = {"seed": seed, "megabytes": size, "system": variant}
                yield known_by, partial(build, study, size, seed, flags)
        smallest = min(study["sizes"])
        known_by = {"seed": seed, "megabytes": smallest, "system": TOKENIZER}
        yield known_by, partial(tokenize, text_file(smallest, seed, study["document_sentences"]))


@cache
def sentences() -> list[str]:
    """Those of the packaged news and papers."""
    splitter = SentenceSplitter()
    texts = (d.text for name in ("news", "papers") for d in Packaged(f"packaged:{name}").documents(MB))
    return [sentence for text in texts for sentence in splitter.split(text)]


def text_file(megabytes: int, seed: int, document_sentences: int) -> Path:
    """JSON Lines of so much text: documents of sentences drawn at random, so that no two are alike."""
    path = WORK / f"text-{megabytes}-{seed}.jsonl"
    if path.exists():
        return path
    generator = random.Random(seed)
    written = 0
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        while written < megabytes * MB:
            text = " ".join(generator.choices(sentences(), k=document_sentences))
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
    part.replace(path)
    return path


def build(study: dict[str, Any], size: int, seed: int, flags: list[str]) -> dict[str, Any]:
    """One build with one worker, which is the process itself, so that its peak is that of everything."""
    path = text_file(size, seed, study["document_sentences"])
    reader = {"class_path": "bertlab.corpus.readers.JsonLines", "init_args": {"path": str(path)}}
    store = WORK / "store"
    shutil.rmtree(store, ignore_errors=True)
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
    command += ["--documents", json.dumps([reader]), "--executor.workers", "1", *flags]
    run_command(command, WORK / "log.txt")
    tokens = json.loads((store / "summary.json").read_text())["tokens"]
    row = {**json.loads(took.read_text()), "tokens": tokens}
    shutil.rmtree(store)
    return row


def tokenize(path: Path) -> dict[str, Any]:
    """The tokenizer of the given vocabulary on the sentences of a text, in the batches of the build, on one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from bertlab.sources.models import model_folder

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
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": "",
        "tokens": tokens,
    }


def report(output: Path) -> None:
    """The table: by system and size, medians over the seeds."""
    rows = read_rows(output / "results.csv")
    head = ["system", "text, MB", "MB a minute", "MB a CPU minute", "peak memory, MiB"]
    table = [head]
    for system in dict.fromkeys(row["system"] for row in rows):
        for size in sorted({row["megabytes"] for row in rows if row["system"] == system}):
            known_by = {"system": system, "megabytes": size}
            speed = [60 * size / median_of(rows, column, **known_by) for column in ("seconds", "cpu_seconds")]
            peak = "" if system == TOKENIZER else f"{median_of(rows, 'peak_mib', **known_by):.0f}"
            table.append([system, f"{size:g}", *(f"{value:.1f}" for value in speed), peak])
    seeds = len({row["seed"] for row in rows})
    text = f"{measured_on(output)}\n\nMedians of {seeds} seed(s), one worker.\n\n{markdown_table(table)}"
    print(text)
    write_results(output, text)


if __name__ == "__main__":
    main()
