"""PlanSettings: the `plan.*` keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlanSettings:
    """How much `bertlab plan` looks at.

    Args:
        timed_steps: optimizer steps that are taken and timed, at a rate of 0, where the cost of a step changes
            (another set of blocks, length of sequences, number of sequences); 0: none, and so no duration, and the
            memory of weights and gradients alone.
        max_rows: rows of plan.csv at most, about. A training of more steps has every k-th step and each step at
            which a stage begins.

    Raises:
        ValueError: an argument is out of range.
    """

    timed_steps: int = 3
    max_rows: int = 100_000

    def __post_init__(self) -> None:
        if self.timed_steps < 0:
            raise ValueError(f"plan.timed_steps takes 0 or more, got {self.timed_steps}")
        if self.max_rows < 1:
            raise ValueError(f"plan.max_rows takes 1 or more, got {self.max_rows}")
