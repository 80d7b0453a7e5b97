"""SharpnessAware: weights are trained by the gradient at the worst point near them (SAM, ASAM)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from bertlab.callbacks.moved_weights import MovedWeights
from bertlab.callbacks.strategy import TrainingPass
from bertlab.losses.perturbations import weight_ascent
from bertlab.losses.with_gradients import gradients_of

#: ρ of the papers, without and with `adaptive`.
RADIUS, ADAPTIVE_RADIUS = 0.05, 0.5


class SharpnessAware(MovedWeights):
    """Sharpness-aware minimisation: the gradient of w + ρ·g/‖g‖ in the place of that of w.

    Foret et al. 2021, arXiv:2010.01412, algorithm 1; `adaptive`: Kwon et al. 2021, arXiv:2102.11600, algorithm 1,
    where the neighbourhood is as wide in each weight as the weight is large. g is the gradient and ‖g‖ its norm over
    all weights that are trained; weight decay has no part in it.

    Each micro-batch on each rank moves the weights by a gradient of its own, as the paper's m-sharpness does with m
    its number of sequences (section 4.1): so the gradient of a step depends on `trainer.accumulate_grad_batches` and
    on the number of ranks.

    Both passes of a micro-batch share their dropout masks, as in the authors' code: the neighbour is looked for on
    the very loss that it is taken from. `train/loss` is the loss at the neighbour. Two passes forward and backward,
    one graph at a time; memory for three more copies of the trained weights.

    Args:
        rho: ρ, radius of the neighbourhood, above 0. None: 0.05, and 0.5 with `adaptive`, as in the papers. For
            language models Bahri et al. 2022, arXiv:2110.08529, take 0.15 without `adaptive`.
        adaptive: scale the neighbourhood by T = |w| + η for weights and 1 for biases, as the authors' code does.
        eta: η of `adaptive`, 0 or more.
        start_fraction: fraction of training before which nothing is done, in [0, 1). The last part of training alone
            brings most of the gain (Zhou et al. 2025, arXiv:2410.10373).

    Raises:
        ValueError: an argument is out of range.
    """

    nesting: ClassVar[int] = 40

    def __init__(
        self,
        rho: float | None = None,
        adaptive: bool = False,
        eta: float = 0.01,
        start_fraction: float = 0.0,
    ) -> None:
        super().__init__(start_fraction)
        self.rho = (ADAPTIVE_RADIUS if adaptive else RADIUS) if rho is None else rho
        self.adaptive, self.eta = adaptive, eta
        if not 0 < self.rho < float("inf"):
            raise ValueError(f"SharpnessAware.rho takes a number above 0, got {rho}")
        if not 0 <= eta < float("inf"):
            raise ValueError(f"SharpnessAware.eta takes a number of 0 or more, got {eta}")

    def loss(self, training: TrainingPass) -> Tensor:
        """The loss at the moved weights."""
        steps = self._steps(training)

        def moved(parameter: nn.Parameter, value: Tensor) -> Tensor:
            step = steps.get(id(parameter))
            return value if step is None else value + step

        return training.loss(weights=moved, same_dropout=True)

    def _steps(self, training: TrainingPass) -> dict[int, Tensor | None]:
        """How far each parameter moves, by its identity."""
        named = training.named_parameters
        gradients = gradients_of(training.loss(), list(named.values()))
        scales = [self._scale(name, p) for name, p in named.items()] if self.adaptive else None
        steps = weight_ascent(gradients, self.rho, scales)
        return {id(p): step for p, step in zip(named.values(), steps, strict=True)}

    def _scale(self, name: str, parameter: nn.Parameter) -> Tensor | None:
        return None if name.endswith("bias") else parameter.detach().abs() + self.eta
