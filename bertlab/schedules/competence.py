"""Competence: which share of the training data, the easiest, a model is ready for."""

from __future__ import annotations


def competence(progress: float, start: float, power: float = 2.0) -> float:
    """From `start` to 1, fast at first: c(t) = min(1, (t (1 − c₀ᵖ) / T + c₀ᵖ)^(1/p)).

    Platanios et al. 2019, arXiv:1903.09848: with p = 2 (the paper's choice) new rows come in at a rate
    that falls as the share grows, so that each gets the same part of the training time; p = 1 is a straight line.

    Args:
        progress: t / T, 0 or more; from 1 on all is known.
        start: c₀ in (0, 1].
        power: p, above 0.

    >>> [round(competence(progress, 0.1), 4) for progress in (0.0, 0.5, 1.0, 2.0)]
    [0.1, 0.7106, 1.0, 1.0]
    >>> round(competence(0.5, 0.1, power=1.0), 4)
    0.55
    """
    begin = start**power
    return min(1.0, (progress * (1.0 - begin) + begin) ** (1.0 / power))
