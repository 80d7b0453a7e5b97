"""The study of learning curves with a tiny model: both sides learn the same, and the report says how far apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from experiments.hf_pretraining import IGNORED, sums_of_rows
from experiments.learning_curves import rounding, run
from experiments.results import read_rows
from experiments.speed_pretraining import systems
from experiments.study import load_study, run_study
from tests.corpus.small_corpus import write_store
from tests.experiments.in_process import in_this_process


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The quick study in float32, on a made-up text."""
    store = write_store(tmp_path / "store", documents=60)
    monkeypatch.setattr(run, "token_store", lambda _: store)
    monkeypatch.setattr(run, "FITS", tmp_path / "fits")
    monkeypatch.setattr(systems, "run_command", in_this_process)
    monkeypatch.setattr("bertlab.cli_hardware.cpu_has_bfloat16", lambda: False)
    found = load_study(run.FOLDER, quick=True)
    found["size"] |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 80}
    return found


def test_both_learn_the_same(study: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "quick"
    run_study(study, run.runs(study), output, fresh=False, at_once=1)
    ours, theirs = read_rows(output / "results.csv")
    assert (ours["system"], theirs["system"]) == ("bertlab", "hf_best_eager")
    assert len(run.curve(ours)) == 4
    assert run.curve(ours)[-1] < run.curve(ours)[0]
    assert run.curve(theirs) == pytest.approx(run.curve(ours), abs=2e-4)  # of four digits
    assert theirs["validation_loss"] == pytest.approx(ours["validation_loss"], abs=2e-4)
    run.report(output)
    assert (output / "figure.png").exists()
    assert (output / "results.md").read_text(encoding="utf-8").splitlines()[2].startswith("| 0 |")


def test_the_table_says_how_far_they_are_apart() -> None:
    rows = [
        {"seed": 3, "system": "bertlab", "validation_loss": 5.0, "curve": "6.0 5.0"},
        {"seed": 3, "system": "hf_best_eager", "validation_loss": 5.25, "curve": "6.5 5.1"},
    ]
    assert run.loss_table(rows).splitlines()[-1] == ("| 3 | 5.0000 | 5.2500 | -0.2500 | -0.3000 ± 0.2828 |")


def test_sums_of_masked_pieces_alone_and_with_sentences() -> None:
    pieces, sentences = torch.zeros(2, 3, 4), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    labels = torch.tensor([[1, IGNORED, 2], [IGNORED, IGNORED, IGNORED]])
    log4, log2 = 1.386294, 0.693147
    alone = torch.tensor([[2 * log4, 2, 0], [0, 0, 0]])
    torch.testing.assert_close(sums_of_rows(pieces, labels), alone, atol=1e-5, rtol=0)
    both = sums_of_rows((pieces, sentences), (labels, torch.tensor([[0], [1]])))
    torch.testing.assert_close(both, alone + torch.tensor([0, 0, log2]), atol=1e-5, rtol=0)


def test_rounding_of_either_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In float32 the gradients are those of transformers; in bfloat16 both sides are about as far from them."""
    store = write_store(tmp_path / "store", documents=60)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=80, **sizes)).save_pretrained(tmp_path / "model")
    words = ["rounding", "--model", str(tmp_path / "model"), "--store", str(store), "--batches", "3"]
    monkeypatch.setattr("sys.argv", words)
    rounding.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in rows] == ["bertlab, float32", "bertlab, bfloat16", "HF Trainer, bfloat16"]
    exact, ours, theirs = ([float(cell.rstrip("%")) for cell in row[1:]] for row in rows)
    assert exact == pytest.approx([0.0] * 4, abs=2e-3)
    assert 0.05 < ours[0] < 2 * theirs[0] < 10


def test_distances_by_hand() -> None:
    """Two gradients of length 5, one exact, one 0.5 longer along itself; losses 0.25 more."""
    true = torch.tensor([[3.0, 4.0], [4.0, 3.0]])
    found = torch.tensor([[3.0, 4.0], [4.4, 3.3]])
    cells = rounding.apart((torch.tensor([1.5, 1.0]), found), (torch.tensor([1.0, 1.0]), true))
    assert cells == ["5.000%", "5.051%", "+5.000%", "+0.25000"]
