"""StepSeed: the randomness of every micro-batch is a function of (seed, rank, step, micro-batch)."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


def step_seed(seed: int, rank: int, step: int, micro_batch: int) -> int:
    """A 32-bit seed: the first four bytes of the BLAKE2 hash of its arguments.

    32 bits, since torch's CPU generator (mt19937) uses no more of a seed.

    Examples:
        >>> step_seed(0, 0, 0, 0) == step_seed(0, 0, 0, 0)
        True
        >>> len({step_seed(0, rank, step, 0) for rank in range(2) for step in range(100)})
        200
    """
    digest = hashlib.blake2b(f"{seed}/{rank}/{step}/{micro_batch}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seeded(trainer: Trainer, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that is the same on all ranks and in every process: of the run's seed and a name.

    Args:
        trainer: its `StepSeed` knows the seed; without one, torch's own first seed counts.
        name: what the numbers are for.
        device: of the tensors that it is to fill.
    """
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    seed = next((c.seed for c in callbacks if isinstance(c, StepSeed)), torch.initial_seed())
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=4).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little"))


class StepSeed(Callback):
    """Seeds torch's generators before each training batch, from (seed, rank, optimizer step, micro-batch).

    So dropout masks are the same whether or not the run was killed and resumed, and no generator state has
    to be kept for each rank. NumPy's and Python's generators are left alone: training draws from torch.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"StepSeed.seed takes 0 or more, got {seed}")
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for this micro-batch."""
        micro_batch = batch_idx % trainer.accumulate_grad_batches
        seed = step_seed(self.seed, trainer.global_rank, trainer.global_step, micro_batch)
        if trainer.strategy.root_device.type == "cpu":
            # All that manual_seed does for a CPU; for devices that are not there it would format the stack each time.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
