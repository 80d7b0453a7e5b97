"""AdversarialWeights: each matrix is trained where a small relative step has made the loss worse (AWP)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from lightning.pytorch import Trainer
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.strategy import AtFraction, Run, Strategy, TrainingPass
from bertlab.callbacks.triggers import Horizon
from bertlab.losses.perturbations import relative_ascent
from bertlab.losses.with_gradients import gradients_of


class AdversarialWeights(Strategy):
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
        gamma: γ, share of the norm of each matrix by which it is moved, above 0. The paper takes 0.005 to 0.01.
        start_fraction: fraction of training before which nothing is done, in [0, 1): competitions let the model
            settle first.

    Raises:
        ValueError: an argument is out of range.
    """

    touches: ClassVar[set[str]] = {"loss", "passes"}
    nesting: ClassVar[int] = 30
    depends_on_split: ClassVar[bool] = True

    def __init__(self, gamma: float = 0.005, start_fraction: float = 0.0) -> None:
        self.gamma, self.start_fraction = gamma, start_fraction
        if not 0 < gamma < float("inf"):
            raise ValueError(f"AdversarialWeights.gamma takes a number above 0, got {gamma}")
        if not 0 <= start_fraction < 1:
            raise ValueError(
                f"AdversarialWeights.start_fraction takes a fraction of training in [0, 1), got {start_fraction}"
            )
        if start_fraction:
            self.when = AtFraction(start_fraction)

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Refuse weights that are too coarse for so small a step.

        Raises:
            ValueError: the weights are held in half precision.
        """
        if trainer.precision in ("bf16-true", "16-true"):
            raise ValueError(
                f"AdversarialWeights moves weights by less than a rounding of trainer.precision {trainer.precision}: "
                "use bf16-mixed"
            )

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The matrices."""
        return [parameter for block in blocks for parameter in block.parameters() if parameter.dim() > 1]

    def apply(self, run: Run) -> None:
        """Nothing before the start; then the loss at the moved weights."""
        if run.stage > 0 or not self.start_fraction:
            run.wrap_loss(self._loss)

    def _loss(self, training: TrainingPass) -> Tensor:
        matrices = [parameter for parameter in training.parameters if parameter.dim() > 1]
        if not matrices:
            return training.loss()
        gradients = gradients_of(training.loss(), matrices)
        slopes = {id(matrix): slope for matrix, slope in zip(matrices, gradients, strict=True)}

        def moved(parameter: nn.Parameter, value: Tensor) -> Tensor:
            slope = slopes.get(id(parameter))
            return value if slope is None else value + relative_ascent(value, slope, self.gamma)

        return training.loss(weights=moved, same_dropout=True)
