"""Warm restarts: in which cycle a step lies, and the factor of the rate there.

Loshchilov & Hutter 2017 (SGDR), arXiv:1608.03983, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of a learning rate with restarts.

    Attributes:
        index: 0 for the first cycle.
        start: the step it begins at.
        length: its optimizer steps.
    """

    index: int
    start: int
    length: int


def cycle_at(step: int, cycle_steps: int, multiplier: float = 1.0) -> Cycle:
    """The cycle that a step lies in, when each cycle is `multiplier` times as long as the one before.

    Lengths are rounded to whole steps, each from its exact value, so rounding does not pile up.

    Args:
        step: optimizer steps done, 0 or more.
        cycle_steps: optimizer steps of the first cycle, 1 or more (the paper's T_0).
        multiplier: growth of the length from cycle to cycle, 1 or more (T_mult).

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> [cycle_at(step, cycle_steps=10, multiplier=2.0).index for step in (0, 9, 10, 29, 30, 69, 70)]
        [0, 0, 1, 1, 2, 2, 3]
        >>> cycle_at(35, cycle_steps=10, multiplier=2.0)
        Cycle(index=2, start=30, length=40)
    """
    if step < 0:
        raise ValueError(f"step takes 0 or more, got {step}")
    if cycle_steps < 1:
        raise ValueError(f"cycle_steps takes 1 step or more, got {cycle_steps}")
    if not (math.isfinite(multiplier) and multiplier >= 1):
        raise ValueError(f"multiplier takes a number of 1 or more, got {multiplier}")
    if multiplier == 1:
        index = step // cycle_steps
        return Cycle(index, index * cycle_steps, cycle_steps)
    index, start, length = 0, 0, cycle_steps
    while step >= start + length:  # lengths grow geometrically: a handful of turns
        index, start = index + 1, start + length
        length = round(cycle_steps * multiplier**index)
    return Cycle(index, start, length)


def restart_factor(
    progress: float,
    cycle_index: int = 0,
    *,
    peak_decay: float = 1.0,
    warmup_fraction: float = 0.0,
    minimum_factor: float = 0.0,
) -> float:
    """The factor of the rate within a cycle: up in a straight line, then half a cosine down (eq. 5).

    Args:
        progress: steps done in the cycle / its length, in [0, 1].
        cycle_index: 0 for the first cycle.
        peak_decay: the peak of each cycle is this times the one before, in (0, 1].
        warmup_fraction: part of the cycle, in [0, 1), over which the factor climbs from `minimum_factor`.
        minimum_factor: the factor at the end of a cycle, in [0, 1]; no factor is below it.

    Raises:
        ValueError: an argument is out of range.

    Examples:
        >>> [round(restart_factor(progress), 3) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.0]
        >>> restart_factor(0.0, cycle_index=2, peak_decay=0.5)
        0.25
    """
    _check_restart(progress, cycle_index, peak_decay, warmup_fraction, minimum_factor)
    peak = max(peak_decay**cycle_index, minimum_factor)
    if progress < warmup_fraction:
        height = progress / warmup_fraction
    else:
        height = 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))
    return minimum_factor + (peak - minimum_factor) * height


def _check_restart(
    progress: float, cycle_index: int, peak_decay: float, warmup_fraction: float, minimum_factor: float
) -> None:
    if not 0 <= progress <= 1:
        raise ValueError(f"progress takes a number in [0, 1], got {progress}")
    if cycle_index < 0:
        raise ValueError(f"cycle_index takes 0 or more, got {cycle_index}")
    if not 0 < peak_decay <= 1:
        raise ValueError(f"peak_decay takes a number in (0, 1], got {peak_decay}")
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warmup_fraction takes a number in [0, 1), got {warmup_fraction}")
    if not 0 <= minimum_factor <= 1:
        raise ValueError(f"minimum_factor takes a number in [0, 1], got {minimum_factor}")
