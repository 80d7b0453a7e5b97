"""What each system of the study of strategies has beside plain fine-tuning, and how its rate is chosen."""

from __future__ import annotations

import csv
import doctest
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import BertConfig, BertModel

from bertlab.cli import main
from experiments import fits
from experiments.commands import ROOT
from experiments.configurations import digest_of
from experiments.fits import FIT, logged, run_flags
from experiments.rates_of_strategies import run as rates
from experiments.results import read_rows
from experiments.strategies import run
from experiments.study import load_study
from tests.system.tiny_project import COMMON, HAM, SPAM
from tests.tokenizers import write_tokenizer


@dataclass
class Project:
    """In the place of MiniLM and of a data set: a BERT of six layers × 16, and texts of up to 32 tokens."""

    folder: Path

    def __post_init__(self) -> None:
        size = write_tokenizer(self.folder / "model", [*HAM, *SPAM, *COMMON])
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=size, hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32
        )
        BertModel(config).save_pretrained(self.folder / "model")
        encoder = {
            "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
            "init_args": {"source": str(self.folder / "model")},
        }
        (self.folder / "encoder.yaml").write_text(yaml.safe_dump(encoder), encoding="utf-8")
        generator = random.Random(0)
        for name, rows in (("train", 256), ("validation", 32), ("test", 32)):
            with (self.folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["text", "label"])
                for row in range(rows):
                    words = generator.choices([*COMMON, *HAM], k=generator.randint(5, 40))
                    writer.writerow([" ".join(words), "ham" if row % 4 else "spam"])

    def flags(self) -> list[str]:
        """Its encoder, on a CPU."""
        return [
            f"--model.encoder={self.folder / 'encoder.yaml'}",
            f"--data.init_args.tokenizer={self.folder / 'model'}",
            "--trainer.accelerator=cpu",
        ]

    def fit(self, output: Path, words: list[str]) -> Path:
        """Fine-tune as the study does; the run directory."""
        flags = ["--config", "experiments/strategies/topics.yaml", *self.flags(), *run_flags(output)]
        flags += ["--data.init_args.source", str(self.folder), "--data.init_args.deduplicate", "false"]
        main(["fit", *flags, "--seed_everything", "0", *words])
        return output / FIT


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


#: What they have done in a short training is on the timeline.
DONE = {
    "frozen_trunk_cache": ("FrozenTrunkCache", "cached"),
    "sequence_length_warmup": ("SequenceLengthWarmup", "length"),
    "staged_unfreezing_by_hand": ("StagedUnfreezing", "stage"),
}


@pytest.mark.parametrize("system", DONE)
def test_acts_in_three_epochs(
    system: str, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = run.systems_of(load_study(run.FOLDER, quick=False))[system]
    folder = project.fit(tmp_path, words)
    lines = (folder / "timeline.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert [event for event in events if event["what"] == "undone"] == []
    assert DONE[system] in {(event["strategy"], event["what"]) for event in events}


def test_label_smoothing_is_the_loss_that_is_trained(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = run.systems_of(load_study(run.FOLDER, quick=False))["label_smoothing"]
    folder = project.fit(tmp_path, [*words, "--trainer.max_epochs=1"])
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["init_args"]["loss"]["init_args"] == {"label_smoothing": 0.1}


def test_each_system_is_told_from_the_others_by_its_command() -> None:
    study = load_study(run.FOLDER, quick=False)
    commands = [
        digest_of(run.command_of(study, {"data": data, "system": system}))
        for data in study["data_sets"]
        for system in run.systems_of(study)
    ]
    assert len(set(commands)) == len(commands) > 60


def test_what_is_tried_takes_the_place_of_what_was_chosen() -> None:
    whole, study = load_study(run.FOLDER, quick=False), load_study(rates.FOLDER, quick=False)
    known_by = {"data": "topics", "system": "private_training", "value": 0.01}
    words = rates.words_of(whole, study, known_by)
    assert words[-1] == "--model.optimizer.init_args.lr=0.01"
    assert sum(word.startswith("--model.optimizer.init_args.lr") for word in words) == 1
    assert "--data.init_args.batch_size=256" in words
    other = whole["with"] | {
        "private_training": [*whole["with"]["private_training"][:-1], "--model.optimizer.init_args.lr=7"]
    }
    assert rates.command_of(whole | {"with": other}, study, known_by) == rates.command_of(
        whole, study, known_by
    )
    assert "train 1000" in rates.command_of(whole, study, known_by)


def test_the_study_has_the_best_rates() -> None:
    whole, study = load_study(run.FOLDER, quick=False), load_study(rates.FOLDER, quick=False)
    assert not set(study["seeds"]) & set(whole["seeds"])
    rows = read_rows(rates.FOLDER / "results.csv")
    compared: list[str] = []
    for system in set(study["grid"]) - {"none"}:
        means = rates.means_of([row for row in rows if row["system"] == system], list(whole["data_sets"]))
        if len(means) > 1:
            option = next(iter(study["grid"][system]))
            words = [word for word in whole["with"][system] if word.startswith(f"{option}=")]
            assert [float(word.rpartition("=")[2]) for word in words] == [rates.best_of(means)[rates.MEAN]]
            compared.append(system)
    assert compared


def test_a_run_is_scored_by_its_best_validation(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(fits, "run_forked", lambda command, *_: main(command))
    monkeypatch.setattr(rates, "work_folder", lambda _: tmp_path)
    whole = load_study(run.FOLDER, quick=False) | {"arguments": project.flags()}
    study = load_study(rates.FOLDER, quick=False)
    known_by = {"seed": 100, "data": "topics", "system": "bit_fit", "value": 0.3}
    row = rates.validated(whole, study, known_by, str(project.folder))
    folder = tmp_path / "100_topics_bit_fit_0.3" / FIT
    scores = [score for _, score in logged(folder, "val/macro_f1")]
    assert len(scores) == 3
    assert row == {"score": max(scores)}
    assert max(rate for _, rate in logged(folder, "lr/head")) > 0.2
    assert not logged(folder, "test/macro_f1")
    assert not (folder / "checkpoints").exists()


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(rates)
    assert found.attempted
    assert not found.failed
