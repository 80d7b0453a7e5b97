from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from bertlab.callbacks.step_seed import StepSeed, step_seed
from tests.callbacks.tiny import fit


def test_seed_is_a_fixed_function() -> None:
    # BLAKE2b with four bytes of "42/1/7/0", computed with coreutils: printf 42/1/7/0 | b2sum -l 32
    assert step_seed(42, 1, 7, 0).to_bytes(4, "little").hex() == "4a6e1670"
    seeds = {step_seed(s, r, n, m) for s in range(3) for r in range(3) for n in range(20) for m in range(4)}
    assert len(seeds) == 3 * 3 * 20 * 4
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_micro_batches_of_a_step_differ_and_runs_repeat(tmp_path: Path) -> None:
    class Draws(Callback):
        def __init__(self) -> None:
            self.values: list[float] = []

        def on_train_batch_end(self, *args: object) -> None:
            self.values.append(torch.rand(1).item())

    first, second = Draws(), Draws()
    fit([], tmp_path, callbacks=(first,), accumulate_grad_batches=2, epochs=2)
    torch.rand(5)
    fit([], tmp_path, callbacks=(second,), accumulate_grad_batches=2, epochs=2)
    assert first.values == second.values
    assert len(set(first.values)) == len(first.values) == 12


def test_negative_seed() -> None:
    with pytest.raises(ValueError, match="0 or more, got -1"):
        StepSeed(-1)
