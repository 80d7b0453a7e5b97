"""Two tasks are trained alone and together, by the real commands."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from bertlab.cli import main
from experiments import fits
from experiments.commands import ROOT
from experiments.results import read_rows
from experiments.several_tasks import run
from experiments.strategies import page
from experiments.study import load_study, run_study
from tests.experiments.test_strategies import Project


def test_every_system_gets_a_row_and_the_table_compares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, output = Project(tmp_path), tmp_path / "output"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(fits, "run_forked", lambda command, *_: main(command))
    monkeypatch.setattr(run, "WORK", tmp_path / "work")
    monkeypatch.setattr(
        run, "sources_of", lambda study, _: dict.fromkeys(study["data_sets"], str(project.folder))
    )
    arguments = [*project.flags(), "--trainer.max_epochs=1"]
    study = load_study(run.FOLDER, quick=True) | {"arguments": arguments, "side_by_side": 1}
    (tmp_path / "work").mkdir()
    run_study(study, run.runs(study), output, fresh=False, command_of=run.command_of)
    rows = read_rows(output / "results.csv")
    assert [(row["seed"], row["system"]) for row in rows] == [
        (seed, system) for seed in (0, 1) for system in ("alone", "together", "gradient_surgery")
    ]
    assert all(0 <= row[task] <= 1 for row in rows for task in ("sentiment", "topics"))
    assert all(row["epoch_seconds"] > 0 for row in rows)
    together = tmp_path / "work" / "gradient_surgery_0" / fits.FIT / "timeline.jsonl"
    assert "GradientSurgery" in together.read_text(encoding="utf-8")
    run.report(output)
    text = (output / "results.md").read_text(encoding="utf-8")
    assert all(f"| {system} |" in text for system in ("alone", "together", "gradient surgery"))
    assert "- gradient surgery less together: sentiment " in text
    head, line = page.page({"gradient_surgery": "what it does"}, read_rows(page.SCORES), rows, [])
    change = sum(
        (1 if row["system"] == "gradient_surgery" else -1) * row["sentiment"]
        for row in rows
        if row["system"] != "alone"
    )
    assert float(line[head.index("sentiment")].strip("*")) == pytest.approx(100 * change / 2, abs=0.05)


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(run)
    assert found.attempted
    assert not found.failed
