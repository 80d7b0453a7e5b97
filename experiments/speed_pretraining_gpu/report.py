"""From results.csv to the tables of the README."""

from __future__ import annotations

from pathlib import Path

from transformers import BertConfig

from experiments.figures import systems_of
from experiments.flops import Amount, share_of_peak, training_flops
from experiments.results import write_results
from experiments.speed_pretraining.report import RATE, Rows, cases_of, ratio, tables
from experiments.tables import markdown_table, median_of

NAMES = {
    "hf_default": "HF Trainer, float32 (default)",
    "hf_best": "HF Trainer, bf16, sdpa attention, 4 workers",
    "bertlab": "bertlab, bf16",
    "bertlab_compiled": "bertlab, bf16, run.compile",
}

#: What NVIDIA's own code does with BERT-large in mixed precision, on 8 × A100 80GB: sequences a second by their length,
#: of which so many tokens are predicted at most (github.com/NVIDIA/DeepLearningExamples, PyTorch/LanguageModeling/BERT,
#: README, "Pre-training NVIDIA DGX A100").
NVIDIA = {128: (4591, 20), 512: (1657, 80)}
NVIDIA_CARDS, NVIDIA_CARD = 8, "NVIDIA A100-SXM4-80GB"
LARGE = {
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def report(output: Path) -> None:
    """Write the tables.

    Args:
        output: folder of results.csv and machine.txt; with a README, that takes the tables.
    """
    text = tables(output, cases_of(output), case_table)
    write_results(output, text)
    print(text)


def case_table(rows: Rows) -> str:
    """Every system of a case, and NVIDIA's figure for sequences of this length."""
    ours = [system for system in systems_of(rows) if system.startswith("bertlab")]
    table = [["", "sequences/s", "real tokens/s", "step, ms", "peak GPU memory, MiB", "model TFLOP/s",
              "share of the card's peak", *(f"{NAMES[system]}: times faster" for system in ours)]]  # fmt: skip
    for system in systems_of(rows):
        tflops = median_of(rows, "model_tflops", system=system)
        table.append(
            [
                NAMES[system],
                f"{median_of(rows, 'sequences_per_second', system=system):.1f}",
                f"{median_of(rows, RATE, system=system):.0f}",
                f"{1000 * median_of(rows, 'step_seconds', system=system):.1f}",
                peak_memory(rows, system),
                f"{tflops:.4g}",
                share(tflops, rows[0].get("gpu_name", "")),
                *("–" if our == system else ratio(rows, RATE, our, system) for our in ours),
            ]
        )
    return markdown_table([*table, *nvidia(rows[0]["length"], len(ours))])


def peak_memory(rows: Rows, system: str) -> str:
    """The median of a system; a dash of what trained on the CPU."""
    return f"{median_of(rows, 'gpu_peak_mib', system=system):.0f}" if "gpu_peak_mib" in rows[0] else "–"


def share(tflops: float, card: str) -> str:
    """In percent; a dash of a card whose peak is not known."""
    found = share_of_peak(tflops, card)
    return "–" if found is None else f"{found:.1%}"


def nvidia(length: int, ours: int) -> list[list[str]]:
    """The row of NVIDIA's BERT-large, for one of its cards, if there is a figure for the length.

    Its sequences are counted as full, which they are at most, so operations and share are bounds.
    """
    if length not in NVIDIA:
        return []
    rate, masked = NVIDIA[length]
    a_card = rate / NVIDIA_CARDS
    one = Amount(sequences=1, tokens=length, squares=length**2, masked=masked)
    tflops = a_card * training_flops(BertConfig(**LARGE), one) / 1e12
    bounds = [f"≤ {tflops:.0f}", f"≤ {share(tflops, NVIDIA_CARD)}"]
    return [
        ["NVIDIA, BERT-large, each of 8 × A100 80GB", f"{a_card:.1f}", "–", "–", "–", *bounds, *["–"] * ours]
    ]
