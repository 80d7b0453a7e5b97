"""Averages of weights: the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def started(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An average of one: copies in float32, or in float64 where the weights are."""
    return {name: weight.detach().to(_wide(weight.dtype), copy=True) for name, weight in weights.items()}


def move_towards(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], share: float) -> None:
    """Average ← average + share · (weights − average), in place.

    Where both are the same value the average keeps it bit for bit.

    Args:
        average: of `started`.
        weights: under the same names, of any floating-point type.
        share: of the weights in the new average, in [0, 1].

    Examples:
        >>> average = started({"w": torch.tensor([0.0, 4.0])})
        >>> move_towards(average, {"w": torch.tensor([1.0, 4.0])}, 0.25)
        >>> average["w"].tolist()
        [0.25, 4.0]
    """
    with torch.no_grad():
        for name, value in average.items():
            value.lerp_(weights[name].to(value), share)


def mean_of(weights: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several sets of weights, which are held in memory one at a time if the iterable does so.

    Each moves the mean by its share, so that the mean of equal values is that value bit for bit.

    Args:
        weights: at least one, all under the same names.

    Examples:
        >>> mean_of([{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, {"w": torch.tensor([6.0])}])
        {'w': tensor([3.])}
    """
    mean: dict[str, Tensor] = {}
    for count, values in enumerate(weights, start=1):
        if count == 1:
            mean = started(values)
        else:
            move_towards(mean, values, 1 / count)
    return mean


def exponential_decay(decay: float, steps: int, warm_up: bool) -> float:
    """What an exponential average keeps of itself in the step after `steps` steps.

    With a warm-up it is min(decay, (1 + steps) / (10 + steps)), so that the first weights, which are far from the
    last, are soon forgotten (as `tf.train.ExponentialMovingAverage` does with `num_updates`).

    Args:
        decay: in [0, 1).
        steps: optimizer steps since the average began.
        warm_up: whether to begin with a lower decay.

    Examples:
        >>> exponential_decay(0.999, 0, warm_up=True), exponential_decay(0.999, 10, warm_up=True)
        (0.1, 0.55)
        >>> exponential_decay(0.999, 10_000, warm_up=True)
        0.999
    """
    return min(decay, (1 + steps) / (10 + steps)) if warm_up else decay


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
