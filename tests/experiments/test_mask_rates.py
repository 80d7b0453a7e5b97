"""Pretraining at several mask rates, and the probes from it, by the real commands on little text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertlab.cli import main
from experiments.commands import ROOT
from experiments.fits import FIT
from experiments.mask_rates import run
from experiments.pretraining_helps import run as probing
from experiments.results import read_rows
from experiments.study import load_study, run_study
from tests.corpus.small_corpus import write_store
from tests.experiments.test_strategies import Project


def test_every_rate_gets_a_row_and_the_table_compares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    texts, store = Project(tmp_path / "project").folder, write_store(tmp_path / "store", documents=60)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(run, "WORK", tmp_path / "work")
    monkeypatch.setattr(run, "run_command", lambda *_: None)  # the store is there
    for module in (run, probing):
        monkeypatch.setattr(module, "run_forked", lambda command, *_, **__: main(command))
    study = little(load_study(run.FOLDER, quick=True), store, texts)
    output = tmp_path / "output"
    run_study(study, run.runs(study), output, fresh=False, command_of=run.command_of, at_once=1)
    rows = read_rows(output / "results.csv")
    assert [(row["seed"], row["system"]) for row in rows] == [
        (seed, system) for seed in (0, 1) for system in ("fifteen", "thirty", "falling")
    ]
    assert len({row[run.LOSS] for row in rows}) == len({row["configuration"] for row in rows}) * 2 == 6
    assert all(0 <= row["sentiment"] <= 1 for row in rows)
    assert "mask_rate" in events_of(tmp_path / "work" / "falling_1")
    assert not (tmp_path / "work" / "thirty_1" / FIT / "timeline.jsonl").exists()
    run.report(output)
    text = (output / "results.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in run.NAMES.values())
    falling, fifteen = (
        sum(row[run.LOSS] for row in rows if row["system"] == system) / 2 for system in ("falling", "fifteen")
    )
    assert f"less 15 % throughout: masked loss at 15 %, nats {falling - fifteen:+.3f} (p = " in text
    assert (output / "figure.png").exists()


def little(study: dict[str, Any], store: Path, texts: Path) -> dict[str, Any]:
    """The quick study on a made-up store, in float32, with one probe on little text."""
    arguments = [*study["arguments"], "--data.init_args.store", str(store)]
    arguments += ["--model.encoder.init_args.config.vocab_size=80"]
    probe = {
        "config": "experiments/pretraining_helps/sentiment.yaml",
        "score": "macro_f1",
        "arguments": [
            *("--data.init_args.source", str(texts)),
            *("--data.init_args.deduplicate", "false"),
            *("--trainer.max_steps", "2"),
        ],
    }
    return study | {
        "overlay": "configs/hardware/cpu.yaml",
        "arguments": arguments,
        "probes": {"sentiment": probe},
    }


def events_of(folder: Path) -> set[str]:
    """What the strategy of a pretraining did."""
    lines = (folder / FIT / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    return {event["what"] for event in map(json.loads, lines) if event["strategy"] == "MaskRateSchedule"}
