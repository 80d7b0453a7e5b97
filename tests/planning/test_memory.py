"""The memory that a plan gives is what the steps of the fit hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.project import fit, plan, strategy, write_run

STAGES = [
    {"train": ["head"], "until_step": 4},
    {"train": ["layer.4-head"], "until_step": 8},
    {"train": ["all"]},
]


def held_in_steps(flags: list[str], steps: list[int]) -> list[int]:
    """What `bertlab fit` holds at most in these steps, bytes."""
    fit(*flags, "--trainer.callbacks+=step_memory.StepMemory", f"--trainer.callbacks.init_args.steps={steps}")
    found = [json.loads(line) for line in Path("memory.jsonl").read_text().splitlines()]
    assert [row["step"] for row in found] == steps
    return [row["bytes"] for row in found]


def a_run(texts: str, bert: str, **trainer: Any) -> list[str]:
    """Of a BERT whose activations are as large as its weights."""
    encoder = {
        "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
        "init_args": {
            "model_type": "bert",
            "config": {
                "hidden_size": 128,
                "num_hidden_layers": 6,
                "num_attention_heads": 4,
                "intermediate_size": 512,
                "vocab_size": 1000,
            },
        },
    }
    changes = {"model": {"encoder": encoder}, "data": {"tokenizer": bert, "batch_size": 64}}
    return write_run(
        bert,
        texts,
        [strategy("StagedUnfreezing", stages=STAGES)],
        trainer={"max_epochs": 4} | trainer,
        **changes,
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_a_cpu(precision: str, bert: str, texts: str) -> None:
    """With what operations hand on where autograd keeps nothing, as below the head in the first stage."""
    run = a_run(texts, bert, precision=precision)
    rows, steps = plan(*run), [2, 6, 10]
    planned = [int(rows[step]["memory"]) for step in steps]
    assert planned == pytest.approx(held_in_steps(run, steps), rel=0.12)


@pytest.mark.gpu
def test_on_a_gpu(bert: str, texts: str) -> None:
    run = a_run(texts, bert, precision="bf16-mixed", accelerator="gpu")
    rows, steps = plan(*run), [2, 6, 10]
    planned = [int(rows[step]["memory"]) for step in steps]
    assert planned == pytest.approx(held_in_steps(run, steps), rel=0.12)
