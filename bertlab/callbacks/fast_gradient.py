"""FastGradient: each text is trained twice, as it is and with its word vectors moved against it (FGM)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bertlab.callbacks.moved_word_vectors import MovedWordVectors
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.losses.perturbations import sequence_ascent
from bertlab.losses.with_gradients import gradients_of, with_gradients


class FastGradient(Strategy):
    """Adversarial training by the fast gradient method: L(s) + λ·L(s + ε·g/‖g‖), with s the word vectors of a text.

    Miyato et al. 2017, arXiv:1605.07725, section 3, with λ = 1. g is the gradient by all word vectors of one
    sequence, ‖g‖ its norm over all of them, so a text is moved alike in whatever batch it stands. No gradient flows
    through the perturbation. Deviation: the paper normalises the word vectors to mean 0 and variance 1 over the
    vocabulary, so that they cannot grow away from ε; here they are the encoder's own, which a normalisation follows.
    A common variant moves the embedding table, by the gradient of the whole batch; here each text moves its own copy.

    Both passes of a micro-batch share their dropout masks, so that the second is at the worst neighbour of the first
    (the paper leaves this open). `train/loss` is the sum that is trained on, about (1 + λ) times the plain loss, and
    its gradient grows alike: gradient clipping cuts earlier. Two passes forward and backward, one graph at a time;
    memory for one more copy of the trained weights. With frozen lower layers the first pass still goes back to the
    word vectors.

    Args:
        epsilon: ε, Frobenius norm of the perturbation of a text, above 0, in the units of the word vectors,
            whose mean norm is 1.07 in MiniLM.
        weight: λ, of the adversarial loss, above 0.

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"loss", "passes", "word_vectors", "inputs"}
    nesting: ClassVar[int] = 20

    def __init__(self, epsilon: float = 0.1, weight: float = 1.0) -> None:
        self.epsilon, self.weight = epsilon, weight
        for name, value in (("epsilon", epsilon), ("weight", weight)):
            if not 0 < value < float("inf"):
                raise ValueError(f"FastGradient.{name} takes a number above 0, got {value}")

    def apply(self, run: Run) -> None:
        """The clean and the adversarial loss."""
        run.wrap_loss(self._loss)

    def _loss(self, training: TrainingPass) -> Tensor:
        parameters = training.parameters
        clean = MovedWordVectors(lambda vectors, _: torch.zeros_like(vectors))
        loss = training.loss(embeddings=clean)
        *gradients, slope = gradients_of(loss, [*parameters, clean.perturbation])
        if slope is None:
            raise ValueError("FastGradient: the training loss does not depend on the word vectors")
        step = sequence_ascent(slope, clean.rows, self.epsilon)
        adversarial = training.loss(embeddings=lambda vectors, _: vectors + step, same_dropout=True)
        return with_gradients(loss, parameters, gradients) + self.weight * adversarial
