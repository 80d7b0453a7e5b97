"""FreeLB: word vectors are moved against the model in several steps, and the model learns from each of them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bertlab.callbacks.moved_word_vectors import MovedWordVectors
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.losses.perturbations import sequence_ascent, sequence_noise, within_radius
from bertlab.losses.with_gradients import add_gradients, gradients_of, with_gradients


class FreeLB(Strategy):
    """Free large-batch adversarial training: the mean loss at K perturbations, each a step up from the one before.

    Zhu et al. 2020, arXiv:1909.11764, algorithm 1, for each sequence: δ₀ is uniform noise in ±ε/√(elements), δ_t =
    Π(δ_{t−1} + α·g/‖g‖) with g the gradient at δ_{t−1} and Π the projection to the ball ‖δ‖ ≤ ε; norms are over all
    word vectors of the sequence. The weights get the mean of the gradients at δ₀ to δ_{K−1}. The texts as they are
    have no loss of their own. Deviation: the noise may have a magnitude of its own, as in the authors' code.

    All passes of a micro-batch share their dropout masks, as the paper asks. The noise differs between ranks and
    micro-batches, as dropout does. `train/loss` is the mean over the K passes. K passes forward and backward, one
    graph at a time; memory for two more copies of the trained weights. With frozen lower layers all passes but the
    last still go back to the word vectors.

    Args:
        ascent_steps: K, 2 or more; the paper takes 2 or 3.
        step_size: α, above 0, in the units of the word vectors.
        epsilon: ε, the greatest Frobenius norm of the perturbation of a text, above 0.
        noise: magnitude of δ₀ in the place of ε, 0 or more; None: ε.

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"loss", "passes", "word_vectors", "inputs"}
    nesting: ClassVar[int] = 20
    depends_on_split: ClassVar[bool] = True

    def __init__(
        self,
        ascent_steps: int = 3,
        step_size: float = 0.03,
        epsilon: float = 0.1,
        noise: float | None = None,
    ) -> None:
        self.ascent_steps, self.step_size, self.epsilon = ascent_steps, step_size, epsilon
        self.noise = epsilon if noise is None else noise
        if ascent_steps < 2:
            raise ValueError(
                f"FreeLB.ascent_steps takes 2 or more (1 would be noise alone), got {ascent_steps}"
            )
        for name, value in (("step_size", step_size), ("epsilon", epsilon)):
            if not 0 < value < float("inf"):
                raise ValueError(f"FreeLB.{name} takes a number above 0, got {value}")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"FreeLB.noise takes a number of 0 or more, got {noise}")

    def apply(self, run: Run) -> None:
        """The mean loss along the ascent."""
        run.wrap_loss(self._loss)

    def _loss(self, training: TrainingPass) -> Tensor:
        parameters = training.parameters
        # Drawn before the first pass, whose random numbers the others draw again.
        seed = int(torch.randint(2**62, ()))
        moved = MovedWordVectors(lambda vectors, rows: self._first(vectors, rows, seed))
        total, gradients = torch.zeros(()), [None] * len(parameters)
        for _ in range(self.ascent_steps - 1):
            loss = training.loss(embeddings=moved, same_dropout=True) / self.ascent_steps
            *of_step, slope = gradients_of(loss, [*parameters, moved.perturbation])
            if slope is None:
                raise ValueError("FreeLB: the training loss does not depend on the word vectors")
            total = total.to(loss.device) + loss.detach()
            gradients = add_gradients(gradients, of_step)
            moved = self._next(moved, slope)
        last = training.loss(embeddings=moved, same_dropout=True) / self.ascent_steps
        return with_gradients(total, parameters, gradients) + last

    def _first(self, vectors: Tensor, rows: Tensor, seed: int) -> Tensor:
        generator = torch.Generator(vectors.device).manual_seed(seed)
        return sequence_noise(vectors, rows, self.noise, generator)

    def _next(self, moved: MovedWordVectors, slope: Tensor) -> MovedWordVectors:
        step = sequence_ascent(slope, moved.rows, self.step_size)
        perturbation = within_radius(moved.perturbation.detach() + step, moved.rows, self.epsilon)
        return MovedWordVectors(lambda *_: perturbation)
