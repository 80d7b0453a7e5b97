"""Which values the arguments of `PretrainingData` take."""

from __future__ import annotations

from typing import Any

from bertlab.corpus.masking import MODES
from bertlab.corpus.pairs import TASKS
from bertlab.interfaces import Course


def check_options(data: Any) -> None:
    """Refuse arguments that no training can be made of.

    Args:
        data: a `PretrainingData` with its arguments as attributes.

    Raises:
        ValueError: names the YAML key, the value found, and what is accepted.
    """
    _check_among(data, "sentence_task", TASKS)
    _check_among(data, "masking", MODES)
    _check_among(data, "validation_masking", ("token", "whole_word"))
    _check(data, "mask_rate", "a share in (0, 1)", 0.0 < data.mask_rate < 1.0)
    _check(data, "mask_share", "a share in [0, 1]", 0.0 <= data.mask_share <= 1.0)
    rest = 1.0 - data.mask_share
    _check(data, "random_share", f"0 to 1 − mask_share = {rest:g}", 0.0 <= data.random_share <= rest + 1e-9)
    _check(data, "short_fraction", "a share in [0, 1]", 0.0 <= data.short_fraction <= 1.0)
    _check(data, "validation_fraction", "a share in [0, 1)", 0.0 <= data.validation_fraction < 1.0)
    _check(data, "batch_warmup_fraction", "a share in [0, 1]", 0.0 <= data.batch_warmup_fraction <= 1.0)
    _check(data, "validation_length", "at least 8 tokens", data.validation_length >= 8)
    for key in (
        "batch_size",
        "batch_tokens",
        "batch_warmup_start",
        "max_predictions",
        "max_validation_examples",
    ):
        value = getattr(data, key)
        _check(data, key, "a positive number, or null", value is None or value > 0)
    if data.batch_size is None and data.batch_tokens is None:
        raise ValueError(
            "data.init_args.batch_size and batch_tokens are both null. Accepted: one of them, the size of an "
            "optimizer step"
        )
    _check(
        data,
        "evaluation_max_tokens",
        f"at least validation_length, {data.validation_length} tokens",
        data.evaluation_max_tokens >= data.validation_length,
    )


def check_course(data: Any, course: Course, steps: int) -> None:
    """Refuse a course of the training data that a data module cannot follow.

    Args:
        data: a `PretrainingData` with its arguments as attributes.
        course: what strategies ask.
        steps: of the training.

    Raises:
        ValueError: names the YAML key that stands against it.
    """
    if course.length is not None and course.length(0) < 8:
        raise ValueError(
            f"training would begin with sequences of {course.length(0)} tokens; 8 or more are accepted"
        )
    if course.batch_size is not None and data.batch_warmup_fraction > 0.0:
        raise ValueError(
            f"data.init_args.batch_warmup_fraction: {data.batch_warmup_fraction:g} makes the batch grow, and so does a "
            "strategy: set batch_warmup_fraction to 0, or take the strategy out of trainer.callbacks"
        )
    if course.mask_rate is not None:
        _check_rate(data, max(course.mask_rate(0), course.mask_rate(steps)))


def check_positions(data: Any, encoder: Any) -> None:
    """Refuse sequences that are longer than an encoder takes.

    Args:
        data: a `PretrainingData` with its arguments as attributes.
        encoder: with a `max_length`; of others nothing is known.

    Raises:
        ValueError: names the YAML key.
    """
    limit = getattr(encoder, "max_length", None)
    lengths = {"phases": data.longest_sequence, "validation_length": data.validation_length}
    for key, length in lengths.items():
        if limit is not None and length > limit:
            raise ValueError(
                f"data.init_args.{key}: a length of {length} tokens is more than the {limit} positions of the "
                "encoder (model.init_args.encoder). Shorten it, or take an encoder with more positions."
            )


def _check_rate(data: Any, rate: float) -> None:
    wanted = max(1, round(rate * data.longest_sequence))
    if data.max_predictions is not None and data.max_predictions < wanted:
        raise ValueError(
            f"data.init_args.max_predictions: {data.max_predictions} is less than the {wanted} tokens of a sequence of "
            f"{data.longest_sequence} that a mask rate of {rate:g} takes, which a strategy asks for: set it "
            f"to null, or to at least {wanted}"
        )


def _check_among(data: Any, key: str, accepted: Any) -> None:
    _check(data, key, f"one of {', '.join(accepted)}", getattr(data, key) in accepted)


def _check(data: Any, key: str, accepted: str, is_right: bool) -> None:
    if not is_right:
        raise ValueError(
            f"data.init_args.{key}: {getattr(data, key)!r} is not accepted. Accepted: {accepted}"
        )
