"""AdversarialWeights: each matrix is trained where a small relative step has made the loss worse (AWP)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.moved_weights import MovedWeights
from bertlab.callbacks.strategy import TrainingPass
from bertlab.losses.perturbations import relative_ascent
from bertlab.losses.with_gradients import gradients_of


class AdversarialWeights(MovedWeights):
    """Adversarial weight perturbation: the gradient at w + γ·‖w‖·g/‖g‖, for each matrix by itself.

    Wu et al. 2020, arXiv:2004.05884, section 4, with one step, which ends on the edge of the ball ‖v‖ ≤ γ·‖w‖, so
    that no projection is needed. Where `SharpnessAware` gives all weights one radius, here each matrix moves by the
    same share of its norm; vectors (biases, normalisations) and what is frozen stay. Deviations: the texts are the
    clean ones, as in natural language competitions (the paper's are adversarial: nest `FastGradient` or `FreeLB`
    within, by naming both); competitions often clamp each weight to a relative range too, the paper does not.

    Each micro-batch on each rank moves the weights by a gradient of its own: so the gradient of a step depends on
    `trainer.accumulate_grad_batches` and on the number of ranks.

    Both passes of a micro-batch share their dropout masks (the paper's networks have no dropout). `train/loss` is the
    loss at the moved weights. Two passes forward and backward, one graph at a time; memory for two more copies of the
    trained weights.

    Args:
        gamma: γ, share of the norm of each matrix by which it is moved, above 0. The paper takes 0.005 to 0.01 for
            networks of images; in fine-tuning a BERT that is too much.
        start_fraction: fraction of training before which nothing is done, in [0, 1): competitions let the model
            settle first.

    Raises:
        ValueError: an argument is out of range.
    """

    nesting: ClassVar[int] = 30

    def __init__(self, gamma: float = 0.0003, start_fraction: float = 0.0) -> None:
        super().__init__(start_fraction)
        self.gamma = gamma
        if not 0 < gamma < float("inf"):
            raise ValueError(f"AdversarialWeights.gamma takes a number above 0, got {gamma}")

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The matrices."""
        return [parameter for block in blocks for parameter in block.parameters() if parameter.dim() > 1]

    def loss(self, training: TrainingPass) -> Tensor:
        """The loss at the moved weights."""
        matrices = [parameter for parameter in training.parameters if parameter.dim() > 1]
        if not matrices:
            return training.loss()
        gradients = gradients_of(training.loss(), matrices)
        slopes = {id(matrix): slope for matrix, slope in zip(matrices, gradients, strict=True)}

        def moved(parameter: nn.Parameter, value: Tensor) -> Tensor:
            slope = slopes.get(id(parameter))
            return value if slope is None else value + relative_ascent(value, slope, self.gamma)

        return training.loss(weights=moved, same_dropout=True)
