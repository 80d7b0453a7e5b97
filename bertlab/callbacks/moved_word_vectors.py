"""MovedWordVectors: word vectors plus a perturbation, of which a gradient can be asked."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class MovedWordVectors:
    """What `TrainingPass.loss` takes as `embeddings`: adds a perturbation that requires a gradient.

    A strategy that is nested within may compute several passes: all of them see the same perturbation.

    Args:
        start: from the (N, E) vectors and the (N,) numbers of their sequences to the (N, E) perturbation.
    """

    def __init__(self, start: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._start = start
        self._made: tuple[Tensor, Tensor] | None = None

    def __call__(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """The vectors, moved."""
        if self._made is None:
            perturbation = self._start(vectors.detach(), rows).detach()
            self._made = perturbation.requires_grad_(), rows
        return vectors + self._made[0]

    @property
    def perturbation(self) -> Tensor:
        """(N, E), a leaf that requires a gradient."""
        return self._seen()[0]

    @property
    def rows(self) -> Tensor:
        """(N,) number of the sequence that each token is in."""
        return self._seen()[1]

    def _seen(self) -> tuple[Tensor, Tensor]:
        if self._made is None:
            raise ValueError(
                "the training loss does not look at the output of the task's word_embedding, so there are no word "
                "vectors to move"
            )
        return self._made
