"""NeftuneNoise: noise on the word vectors while training."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.interfaces import HasWordEmbedding


class NeftuneNoise(Strategy):
    """Adds uniform noise to the word vectors in each training pass.

    Jain et al. 2023, arXiv:2310.05914, algorithm 1: each number of a sequence of L tokens of dimension d is moved by
    up to α/√(L·d). Deviation: L is the length of each sequence, where the authors' code takes that of the padded batch.
    Positions and segments are added, and normalised, after it. Validation sees no noise. It is drawn as dropout is,
    for each micro-batch, rank and pass anew.

    Args:
        alpha: α, 0 or more; the paper tries 5, 10 and 15, for models whose word vectors are about 1 a number. BERT's
            are about 0.04, and √(L·d) of 32 tokens of dimension 384 is 111: α = 5 is noise of about the same size.

    Raises:
        ValueError: α is negative or not finite.
        TypeError: a task without word vectors.
    """

    touches: ClassVar[set[str]] = {"loss", "inputs"}
    depends_on_split: ClassVar[bool] = True

    def __init__(self, alpha: float = 5.0) -> None:
        if not 0 <= alpha < math.inf:
            raise ValueError(f"NeftuneNoise.alpha takes a number of 0 or more, got {alpha}")
        self.alpha = alpha

    def never_acts(self, run: Run) -> str | None:
        """There is no noise."""
        return "alpha is 0" if self.alpha == 0 else None

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Refuse a task that has no word vectors."""
        if not isinstance(trainer.lightning_module, HasWordEmbedding):
            raise TypeError(
                f"NeftuneNoise moves word vectors, and {type(trainer.lightning_module).__name__} has no word_embedding"
            )

    def apply(self, run: Run) -> None:
        """Add noise in each pass."""

        def disturb(p: TrainingPass) -> Tensor:
            return p.loss(embeddings=lambda vectors, rows: with_noise(vectors, rows, self.alpha))

        if self.alpha > 0:
            run.wrap_loss(disturb)


def with_noise(vectors: Tensor, rows: Tensor, alpha: float) -> Tensor:
    """Vectors with noise from U(−1, 1) · α/√(L·d), L being the length of each vector's sequence.

    Args:
        vectors: (N, d).
        rows: (N,) number of the sequence that each is in.
        alpha: 0 or more.

    Examples:
        >>> moved = with_noise(torch.zeros(5, 4), torch.tensor([0, 0, 0, 0, 1]), alpha=1.0)
        >>> bool(moved[:4].abs().max() <= 1 / 4), bool(moved[4:].abs().max() <= 1 / 2)
        (True, True)
    """
    lengths = torch.zeros(len(rows), device=rows.device).index_add_(
        0, rows, torch.ones_like(rows, dtype=torch.float)
    )
    size = alpha / (lengths[rows] * vectors.shape[1]).sqrt()
    noise = torch.empty_like(vectors).uniform_(-1, 1)
    return vectors + noise * size[:, None].to(vectors.dtype)
