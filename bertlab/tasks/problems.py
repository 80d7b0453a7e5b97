"""The problems of sequence classification by name."""

from __future__ import annotations

from typing import Literal, get_args

from bertlab.tasks.multi_label import MultiLabel
from bertlab.tasks.problem import Problem
from bertlab.tasks.regression import Regression
from bertlab.tasks.single_label import SingleLabel

ProblemName = Literal["single_label", "multi_label", "regression"]


def problem_named(name: str, positive_label: str | None, calibration_bins: int) -> Problem:
    """The problem of that name.

    Args:
        name: one of `ProblemName`.
        positive_label: of single-label; None: of two classes the second, of more none.
        calibration_bins: of single-label.

    Raises:
        ValueError: the name is unknown, or `positive_label` is given where it says nothing.
    """
    if name not in get_args(ProblemName):
        raise ValueError(f"model.init_args.problem takes one of {get_args(ProblemName)}, got {name!r}")
    if name == "single_label":
        return SingleLabel(positive_label, calibration_bins)
    if positive_label is not None:
        raise ValueError(
            "model.init_args.positive_label goes with model.init_args.problem single_label, got "
            f"{positive_label!r} with {name}"
        )
    return MultiLabel() if name == "multi_label" else Regression()
