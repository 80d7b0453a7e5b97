"""The tables in the README of each study are those of its results.csv."""

from __future__ import annotations

import doctest
import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from experiments import commands, flops
from experiments.commands import ROOT
from experiments.results import BEGIN, END, write_results
from experiments.strategies import page
from experiments.strategies import report as strategies_report
from experiments.tables import median_ratio

EXPERIMENTS = ROOT / "experiments"
# Those of other machines lie a folder further down.
MEASURED = sorted(path.parent for path in EXPERIMENTS.rglob("results.csv"))


@pytest.mark.parametrize("study", MEASURED, ids=lambda path: path.name)
def test_the_readme_has_the_tables_of_the_results(study: Path, tmp_path: Path) -> None:
    for name in ("README.md", "results.csv", "machine.txt"):
        shutil.copy(study / name, tmp_path)
    import_module(f"experiments.{study.relative_to(EXPERIMENTS).parts[0]}.run").report(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (study / "README.md").read_text(
        encoding="utf-8"
    )
    assert (tmp_path / "figure.png").exists() == (study / "figure.png").exists()


def test_the_page_of_strategies_has_their_results(tmp_path: Path) -> None:
    shutil.copy(page.FOLDER / "README.md", tmp_path)
    page.write_page(tmp_path)
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert written == (page.FOLDER / "README.md").read_text(encoding="utf-8")


def test_results_go_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    write_results(tmp_path, "no README, so here")
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == "no README, so here"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_results(tmp_path, "new")
    assert readme.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    readme.write_text("no marks\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_results(tmp_path, "new")
    assert readme.read_text(encoding="utf-8") == "no marks\n"


def test_ratios_are_taken_within_pairs() -> None:
    # The ratios are 4, 3 and 2; that of the medians would be 20 / 5. Seed 3 has no pair.
    seconds = {
        ("slow", 0): 20,
        ("fast", 0): 5,
        ("slow", 1): 12,
        ("fast", 1): 4,
        ("slow", 2): 40,
        ("fast", 2): 20,
    }
    rows = [{"system": system, "seed": seed, "seconds": s} for (system, seed), s in seconds.items()]
    rows.append({"system": "slow", "seed": 3, "seconds": 1})
    assert median_ratio(rows, "seconds", "slow", "fast") == 3


@pytest.mark.parametrize("module", [commands, flops, page, strategies_report])
def test_examples_in_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
