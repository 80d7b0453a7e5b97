"""A study goes on where it was stopped, and only with the settings that its results are of."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Barrier, Lock
from time import sleep
from typing import Any

import pytest
import yaml

from experiments import configurations
from experiments import study as studies
from experiments.commands import ROOT
from experiments.configurations import configurations_in, load_config
from experiments.results import machine, measured_on
from experiments.study import Run, add_choice_of_runs, carry_out, study_parser

SETTINGS = "seeds: [0, 1, 2]\nquick: {seeds: [0, 1], few: true}\n"
STUDIES = sorted((ROOT / "experiments").glob("*/study.yaml"))


def options_of(*words: str) -> argparse.Namespace:
    parser = study_parser(None)
    add_choice_of_runs(parser)
    return parser.parse_args(list(words))


class Calls:
    """Runs of a study that write down what they are asked for, and fail where they are told to."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.failing: int | None = None
        self.reported: list[Path] = []

    def runs(self, study: dict[str, Any]) -> Iterator[Run]:
        for seed in study["seeds"]:
            yield {"seed": seed}, partial(self.run, seed)

    def run(self, seed: int) -> dict[str, Any]:
        if seed == self.failing:
            raise RuntimeError("stopped")
        self.done.append(seed)
        return {"score": seed / 3}

    def carry_out(self, folder: Path, *words: str) -> None:
        carry_out(folder, options_of(*words), self.runs, self.reported.append)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "question"
    made.mkdir()
    (made / "study.yaml").write_text(SETTINGS, encoding="utf-8")
    return made


def table(folder: Path) -> str:
    return (folder / "results.csv").read_text(encoding="utf-8")


def test_goes_on_where_it_was_stopped(calls: Calls, folder: Path) -> None:
    calls.failing = 2
    with pytest.raises(RuntimeError, match="stopped"):
        calls.carry_out(folder)
    assert table(folder) == "seed,score\n0,0\n1,0.33333\n"
    assert calls.reported == []
    calls.failing = None
    calls.carry_out(folder)
    assert calls.done == [0, 1, 2]
    assert table(folder) == "seed,score\n0,0\n1,0.33333\n2,0.66667\n"
    assert calls.reported == [folder]
    # The hash is that of the settings as JSON: printf '{"seeds": [0, 1, 2]}' | sha256sum
    written = (folder / "machine.txt").read_text(encoding="utf-8")
    assert written == f"{machine()}\nsettings 3dc3171d953165c4\n"


def test_refuses_results_of_other_settings(calls: Calls, folder: Path) -> None:
    calls.carry_out(folder)
    before = table(folder)
    (folder / "study.yaml").write_text("seeds: [0, 5]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="--fresh"):
        calls.carry_out(folder)
    assert table(folder) == before
    calls.carry_out(folder, "--fresh")
    assert calls.done == [0, 1, 2, 0, 5]
    assert table(folder) == "seed,score\n0,0\n5,1.6667\n"


def test_another_machine_may_go_on_where_the_study_says_so(
    calls: Calls, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.failing = 2
    with pytest.raises(RuntimeError, match="stopped"):
        calls.carry_out(folder)
    calls.failing = None
    here = machine()
    monkeypatch.setattr(studies, "machine", lambda: "another one")
    with pytest.raises(ValueError, match="another machine"):
        calls.carry_out(folder)
    (folder / "study.yaml").write_text(f"{SETTINGS}any_machine: true\n", encoding="utf-8")
    with pytest.raises(ValueError, match="other settings"):  # those of the rows did not allow it
        calls.carry_out(folder)
    # printf '{"any_machine": true, "seeds": [0, 1, 2]}' | sha256sum
    (folder / "machine.txt").write_text(f"{here}\nsettings 2ec815f2e8dd950f\n", encoding="utf-8")
    calls.carry_out(folder)
    assert calls.done == [0, 1, 2]
    assert measured_on(folder) == f"Measured on: {here}; then on another one"


def test_report_runs_nothing(calls: Calls, folder: Path) -> None:
    calls.carry_out(folder, "--report")
    assert (calls.done, calls.reported) == ([], [folder])
    assert not (folder / "results.csv").exists()


def test_quick_leaves_the_results_alone(
    calls: Calls, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    for _ in range(2):  # always anew
        calls.carry_out(folder, "--quick")
    quick = tmp_path / "runs" / "experiments" / "question" / "quick"
    assert calls.done == [0, 1, 0, 1]
    assert calls.reported == [quick, quick]
    assert table(quick) == "seed,score\n0,0\n1,0.33333\n"
    assert not (folder / "results.csv").exists()


def test_side_by_side(folder: Path) -> None:
    (folder / "study.yaml").write_text("side_by_side: 2\n", encoding="utf-8")
    both = Barrier(2, timeout=60)  # broken if one waits for the other to end
    runs: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = [
        ({"seed": seed}, lambda: {"arrived": both.wait() >= 0}) for seed in range(2)
    ]
    carry_out(folder, options_of(), lambda _: runs, lambda _: None)
    assert sorted(table(folder).splitlines()) == ["0,True", "1,True", "seed,arrived"]


def test_an_overlay_takes_out_what_it_sets_to_null() -> None:
    study = {"cases": {"small": {"steps": 24, "length": 128}, "base": {"steps": 6}}, "seeds": [0, 1]}
    overlay = {"cases": {"small": {"steps": 2}, "base": None}, "seeds": [0]}
    assert studies.merged(study, overlay) == {"cases": {"small": {"steps": 2, "length": 128}}, "seeds": [0]}
    assert study["cases"]["small"]["steps"] == 24


class Fits(Calls):
    """Runs of two systems on a data set, each of which reads a file of its own and two that both read."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root, self.names = root, list[str]()
        self.write("data.yaml", "rows: 10")
        self.write("common.yaml", "data: data.yaml\nepochs: 3")
        for name in ("a", "b"):
            self.write(f"{name}.yaml", f"strategy: {name}")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def runs(self, study: dict[str, Any]) -> Iterator[Run]:
        for seed in study["seeds"]:
            for name in ("a", "b"):
                yield {"seed": seed, "system": name}, partial(self.fit, name)

    def fit(self, name: str) -> dict[str, Any]:
        self.names.append(name)
        return {"score": len(self.names)}

    def command_of(self, study: Mapping[str, Any], known_by: Mapping[str, Any]) -> list[str]:
        system = known_by["system"]
        return ["common.yaml", f"--callbacks+={system}.yaml", *study.get("with", {}).get(system, [])]

    def done_by(self, folder: Path, *words: str) -> str:
        """The systems that were run, in order."""
        self.names.clear()
        carry_out(folder, options_of(*words), self.runs, self.reported.append, self.command_of)
        return "".join(self.names)


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fits:
    monkeypatch.setattr(configurations, "ROOT", tmp_path)
    return Fits(tmp_path)


def test_a_changed_configuration_runs_again_what_reads_it(fits: Fits, folder: Path) -> None:
    assert fits.done_by(folder) == "ababab"
    assert fits.done_by(folder) == ""
    fits.write("a.yaml", "# only said in other words\nstrategy: a")
    assert fits.done_by(folder) == ""
    fits.write("a.yaml", "strategy: {class_path: a, p: 0.5}")
    assert fits.done_by(folder) == "aaa"
    fits.write("data.yaml", "rows: 20")  # named by a file that both name
    assert fits.done_by(folder) == "ababab"
    assert fits.done_by(folder) == ""
    assert len(table(folder).splitlines()) == 1 + 6


def test_what_was_not_run_again_yet_is_not_forgotten(fits: Fits, folder: Path) -> None:
    fits.done_by(folder)
    fits.write("data.yaml", "rows: 20")
    assert fits.done_by(folder, "--systems", "a") == "aaa"
    assert fits.done_by(folder) == "bbb"


def test_rows_without_a_record_are_taken_as_they_are(fits: Fits, folder: Path) -> None:
    fits.done_by(folder)
    recorded = table(folder)
    kept = [line.rpartition(",")[0] for line in recorded.splitlines()]
    (folder / "results.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    assert fits.done_by(folder) == ""
    assert table(folder) == recorded
    fits.write("a.yaml", "strategy: c")
    assert fits.done_by(folder) == "aaa"


def test_settings_of_rows_change_these_alone(fits: Fits, folder: Path) -> None:
    (folder / "study.yaml").write_text("seeds: [0]\nhashed_by_row: [with]\n", encoding="utf-8")
    assert fits.done_by(folder) == "ab"
    changed = "seeds: [0]\nhashed_by_row: [with]\nwith: {b: [--rate=2]}\n"
    (folder / "study.yaml").write_text(changed, encoding="utf-8")
    assert fits.done_by(folder) == "b"
    (folder / "study.yaml").write_text(f"{changed}other: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="other settings"):
        fits.done_by(folder)


def test_without_commands_the_configurations_that_the_settings_name_count(fits: Fits, folder: Path) -> None:
    settings = "seeds: [0, 1]\ncases: {small: {configs: [common.yaml]}}\n"
    (folder / "study.yaml").write_text(settings, encoding="utf-8")
    calls = Calls()
    calls.carry_out(folder)
    calls.carry_out(folder)
    assert calls.done == [0, 1]
    fits.write("data.yaml", "rows: 20")
    calls.carry_out(folder)
    assert calls.done == [0, 1, 0, 1]


@pytest.mark.parametrize("settings", STUDIES, ids=lambda path: path.parent.name)
def test_the_configurations_that_a_study_names_can_be_read(settings: Path) -> None:
    named = configurations_in(yaml.safe_load(settings.read_text(encoding="utf-8")))
    assert all(load_config(ROOT / word.rpartition("=")[2]) for word in named)


def test_some_systems_alone(fits: Fits, folder: Path) -> None:
    assert fits.done_by(folder, "--systems", "b") == "bbb"
    assert fits.done_by(folder, "--systems", "a,b") == "aaa"
    before = table(folder)
    with pytest.raises(ValueError, match="no run is of c"):
        fits.done_by(folder, "--systems", "a,c")
    assert table(folder) == before
    assert fits.done_by(folder, "--systems", "a", "--fresh") == "aaa"
    assert sorted(line.split(",")[1] for line in table(folder).splitlines()[1:]) == [
        "a",
        "a",
        "a",
        "b",
        "b",
        "b",
    ]


def test_at_once_is_in_the_place_of_side_by_side(folder: Path) -> None:
    (folder / "study.yaml").write_text("side_by_side: 2\n", encoding="utf-8")
    alone = Lock()

    def run() -> dict[str, Any]:
        assert alone.acquire(blocking=False)  # no other run holds it
        sleep(0.1)
        alone.release()
        return {"score": 1}

    runs: list[Run] = [({"seed": seed}, run) for seed in range(3)]
    carry_out(folder, options_of("--at_once", "1"), lambda _: runs, lambda _: None)
    assert len(table(folder).splitlines()) == 1 + 3
