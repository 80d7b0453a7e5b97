"""The study of pretraining on a GPU, with a tiny model on the CPU; the operations of a model, counted by torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining

from bertlab.interfaces import PretrainingBatch
from experiments import clocks, flops, hf_pretraining
from experiments.flops import Amount, share_of_peak, training_flops
from experiments.results import read_rows, write_rows
from experiments.speed_pretraining import run as cpu_run
from experiments.speed_pretraining import systems
from experiments.speed_pretraining_gpu import run
from experiments.study import load_study, run_study
from tests.corpus.small_corpus import write_store
from tests.experiments.in_process import in_this_process


def one_after_the_other(
    bench: systems.Bench, settings: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """In place of turns, for which each has to be a process of its own."""
    return {system: bench.fit(system, of_system) for system, of_system in settings.items()}


def tiny_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The quick study of sequences of 128 tokens, on a made-up text."""
    store = write_store(tmp_path / "store", documents=40)
    monkeypatch.setattr(cpu_run, "token_store", lambda _: store)
    monkeypatch.setattr(systems, "run_command", in_this_process)
    monkeypatch.setattr(cpu_run, "trained_in_turn", one_after_the_other)
    monkeypatch.setattr(run, "FITS", tmp_path / "fits")
    found = load_study(run.FOLDER, quick=True)
    found["sizes"]["base"]["vocab_size"] = 65
    del found["cases"]["base_512"]
    return found


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """As where there is no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tiny_study(tmp_path, monkeypatch)


def cells(text: str) -> dict[str, list[str]]:
    """The rows of a table in Markdown, by their first cells."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def test_the_study_runs_on_a_cpu_and_reports_what_a_gpu_gave(study: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "quick"
    run_study(study, run.runs(study), output, fresh=False)
    rows = read_rows(output / "results.csv")
    assert [row["system"] for row in rows] == ["hf_default", "hf_best", "bertlab"]
    run.report(output)
    table = cells((output / "results.md").read_text(encoding="utf-8"))
    assert table["bertlab, bf16"][3:] == ["–", f"{rows[2]['model_tflops']:.4g}", "–", "–"]
    for row in rows:
        # A token of this model asks for 6 · 2 · 32,768 operations, and for as many again at most for all else.
        least = 6 * 2 * (4 * 64**2 + 2 * 64 * 128) * row["tokens_per_second"] / 1e12
        assert least < row["model_tflops"] < 2 * least
        row |= {"gpu_name": "NVIDIA A100-SXM4-80GB", "gpu_peak_mib": 1234.5, "model_tflops": 78.0}
        row["tokens_per_second"] = 3e5 if row["system"] == "bertlab" else 1e5
    write_rows(output / "results.csv", rows)
    run.report(output)
    table = cells((output / "results.md").read_text(encoding="utf-8"))
    assert table["HF Trainer, float32 (default)"][3:] == ["1234", "78", "25.0%", "3.00×"]
    # 4,591 / 8 sequences a second of 128 tokens: 6 · 302 M weights each, a little for attention and head.
    assert table["NVIDIA, BERT-large, each of 8 × A100 80GB"] == [
        *("573.9", "–", "–", "–", "≤ 138", "≤ 44.3%", "–"),
    ]


@pytest.mark.gpu
def test_rows_name_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny_study(tmp_path, monkeypatch)
    run_study(study, run.runs(study), tmp_path / "quick", fresh=False)
    rows = read_rows(tmp_path / "quick" / "results.csv")
    assert [row["gpu_name"] for row in rows] == [torch.cuda.get_device_name()] * 4
    assert all(row["gpu_peak_mib"] > 1 for row in rows)


def test_without_a_gpu_only_the_quick_study_runs(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(SystemExit, match="torch finds no GPU here"):
        run.main()


def test_operations_are_those_that_torch_counts() -> None:
    config = BertConfig(
        num_hidden_layers=2, hidden_size=24, num_attention_heads=3, intermediate_size=40, vocab_size=50
    )
    config._attn_implementation = "eager"
    sequences, length = 3, 7
    ids = torch.randint(0, 50, (sequences, length))
    with FlopCounterMode(display=False) as counted:
        # Every token is predicted: that is what the model of transformers decodes.
        output = BertForPreTraining(config)(
            input_ids=ids, labels=ids, next_sentence_label=torch.zeros(sequences, dtype=torch.int64)
        )
        output.loss.backward()
    tokens = sequences * length
    amount = Amount(sequences, tokens, sequences * length**2, masked=tokens)
    assert training_flops(config, amount) == counted.get_total_flops()


def test_the_amount_of_a_batch() -> None:
    ids = torch.zeros(5, dtype=torch.int64)
    batch = PretrainingBatch(
        ids, ids, torch.tensor([3, 2]), torch.tensor([0, 1]), masked_positions=torch.tensor([1, 3, 4])
    )
    assert hf_pretraining.amount_of(batch) == Amount(sequences=2, tokens=5, squares=13, masked=3)


def test_the_share_of_a_card_that_is_not_known_is_none() -> None:
    assert share_of_peak(156.0, "NVIDIA A100-SXM4-80GB") == 0.5
    assert share_of_peak(156.0, "NVIDIA A100-SXM4-80GB MIG 3g.40gb") is None
    assert max(flops.PEAK_TFLOPS.values()) < 1000  # dense: with sparsity it would be 1,979


def test_a_clock_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waited: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(clocks.time.perf_counter()))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 20)
    times = clocks.StepTimes()
    times.begin_epoch()
    times.start()
    times.end()
    (epoch,) = times.epochs
    assert waited[0] <= epoch["starts"][0] <= waited[1] <= epoch["ends"][0]
    times.write(tmp_path / "clock.json", rows_per_epoch=1, tokens_per_epoch=1)
    assert '"gpu": {"name": "a card", "peak_mib": 3.0}' in (tmp_path / "clock.json").read_text()
