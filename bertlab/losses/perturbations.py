"""Small changes of word vectors and of weights that make a loss grow, by its gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


def sequence_norms(vectors: Tensor, rows: Tensor) -> Tensor:
    """The Frobenius norm of each sequence's vectors, at each of its tokens.

    Args:
        vectors: (N, E).
        rows: (N,) number of the sequence that each token is in, from 0 and less than N.

    Returns:
        (N, 1), in float32 or better.

    >>> vectors = torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
    >>> sequence_norms(vectors, torch.tensor([0, 0, 1])).squeeze(1)
    tensor([5., 5., 1.])
    """
    precise = torch.promote_types(vectors.dtype, torch.float32)
    squares = vectors.to(precise).square().sum(1)
    # As long as the tokens are many: the number of sequences is on the device, and reading it would wait.
    return torch.zeros_like(squares).index_add(0, rows, squares).sqrt()[rows, None]


def sequence_ascent(gradient: Tensor, rows: Tensor, length: float) -> Tensor:
    """A step up the gradient of each sequence, of a given length: `length · g / ‖g‖`.

    Args:
        gradient: (N, E) of a loss by the word vectors.
        rows: (N,) number of the sequence that each token is in.
        length: Frobenius norm of the step of each sequence.

    Returns:
        (N, E); 0 for a sequence whose gradient is 0.

    >>> gradient = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    >>> sequence_ascent(gradient, torch.tensor([0, 0, 1]), length=10.0)
    tensor([[6., 0.],
            [0., 8.],
            [0., 0.]])
    """
    return (gradient * _quotient(length, sequence_norms(gradient, rows))).to(gradient.dtype)


def within_radius(perturbation: Tensor, rows: Tensor, radius: float) -> Tensor:
    """Shorten the perturbation of each sequence to at most `radius`, in the Frobenius norm: Π of Zhu et al.

    Args:
        perturbation: (N, E).
        rows: (N,) number of the sequence that each token is in.
        radius: above 0.

    >>> perturbation = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.5, 0.0]])
    >>> within_radius(perturbation, torch.tensor([0, 0, 1]), radius=1.0)
    tensor([[0.6000, 0.0000],
            [0.0000, 0.8000],
            [0.5000, 0.0000]])
    """
    factors = _quotient(radius, sequence_norms(perturbation, rows))
    factors = torch.where((factors > 0) & (factors < 1), factors, 1.0)
    return (perturbation * factors).to(perturbation.dtype)


def sequence_noise(
    vectors: Tensor, rows: Tensor, magnitude: float, generator: torch.Generator | None = None
) -> Tensor:
    """Uniform noise in ±`magnitude` / √(elements of the sequence), as FreeLB begins with.

    Its Frobenius norm is at most `magnitude`, and `magnitude` / √3 in the mean square, for any length.

    Args:
        vectors: (N, E), whose shape and type are taken.
        rows: (N,) number of the sequence that each token is in.
        magnitude: 0 or more.
        generator: of the device of `vectors`; None: torch's own.
    """
    noise = torch.empty_like(vectors).uniform_(-magnitude, magnitude, generator=generator)
    return noise / sequence_norms(torch.ones_like(vectors), rows).to(vectors.dtype)


def weight_ascent(
    gradients: Sequence[Tensor | None], radius: float, scales: Sequence[Tensor | None] | None = None
) -> list[Tensor | None]:
    """The step ρ·g/‖g‖ over all weights together; with scales T: ρ·T²g/‖Tg‖.

    Foret et al. 2021, arXiv:2010.01412, eq. 2 with p = 2; Kwon et al. 2021, arXiv:2102.11600, algorithm 1.

    Args:
        gradients: of each weight; None counts as 0.
        radius: ρ.
        scales: T of each weight, of its shape; None: 1.

    Returns:
        The step of each weight, None where its gradient is None; 0 everywhere if all gradients are 0.

    >>> weight_ascent([torch.tensor([3.0]), None, torch.tensor([4.0])], radius=1.0)
    [tensor([0.6000]), None, tensor([0.8000])]
    >>> weight_ascent([torch.tensor([3.0]), torch.tensor([2.0])], 1.0, [None, torch.tensor([2.0])])
    [tensor([0.6000]), tensor([1.6000])]
    """
    scales = [None] * len(gradients) if scales is None else scales
    scaled = [_times(gradient, scale) for gradient, scale in zip(gradients, scales, strict=True)]
    there = [gradient for gradient in scaled if gradient is not None]
    if not there:
        return scaled
    factor = _quotient(radius, get_total_norm(there))
    return [_times(_times(g, scale), factor) for g, scale in zip(scaled, scales, strict=True)]


def relative_ascent(weight: Tensor, gradient: Tensor, share: float) -> Tensor:
    """A step up the gradient whose length is a share of that of the weight: γ·‖w‖·g/‖g‖.

    Wu et al. 2020, arXiv:2004.05884, section 4, in one step. No gradient flows through the norm.

    Args:
        weight: w, a matrix.
        gradient: g, of its shape.
        share: γ.

    Returns:
        Of the shape of the weight; 0 if the gradient is 0.

    >>> relative_ascent(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 4.0]]), share=0.5)
    tensor([[0.6000, 0.8000]])
    """
    length = share * torch.linalg.vector_norm(weight.detach())
    return gradient * _quotient(length, torch.linalg.vector_norm(gradient))


def _times(gradient: Tensor | None, scale: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or scale is None else gradient * scale


def _quotient(length: float | Tensor, norm: Tensor) -> Tensor:
    """`length / norm`, and 0 where the norm is 0: no direction, so no step."""
    return torch.where(norm > torch.finfo(norm.dtype).tiny, length / norm, 0.0)
