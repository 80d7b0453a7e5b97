"""A checkpoint whose weights are the mean of those of several checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertlab.optimizers.averages import mean_of
from bertlab.tasks.checkpoint import ADAPTERS, LABEL_NAMES, PROBLEM, TASK
from bertlab.tracking.checkpoint_io import read_checkpoint

#: What a checkpoint says of its task: alike in all.
_OF_TASK = {TASK: "task", PROBLEM: "problem", LABEL_NAMES: "label names", ADAPTERS: "adapters"}
#: What else a checkpoint of weights says of itself: that of the last.
_KEPT = ("epoch", "global_step", "pytorch-lightning_version", "hparams_name", "hyper_parameters")


def average_checkpoints(files: Sequence[Path]) -> dict[str, Any]:
    """The equal mean of the weights of checkpoints of one task and shape, as a checkpoint of weights alone.

    With the cycles of `LrRestarts` this is what Izmailov et al. 2018 (arXiv:1803.05407) average, afterwards; with runs
    of other seeds or rates from the same start, a uniform soup (Wortsman et al. 2022, arXiv:2203.05482).
    Floating-point tensors are averaged in float32 or wider and have the type of the first file's; others are the
    last file's. Files are read one after another.

    Args:
        files: two or more; of a checkpoint that holds an average, that counts.

    Returns:
        What `bertlab test`, `predict` and `export` take: weights, task, problem, labels, the epoch and step of the
        last file, and the averaged files under "bertlab_averaged".

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: fewer than two files; a file that is named twice, or no checkpoint; files of other tasks or shapes.
    """
    _check_files(files)
    first = read_checkpoint(files[0], mmap=True)
    last: dict[str, Any] = first

    def weights() -> Iterator[dict[str, Tensor]]:
        nonlocal last
        for file in files:
            last = read_checkpoint(file, mmap=True)
            _check_alike(first, last, files[0], file)
            yield {name: value for name, value in last["state_dict"].items() if _is_averaged(value)}

    mean = mean_of(weights())
    made = {key: value for key, value in last.items() if key in _KEPT or key in _OF_TASK}
    made["state_dict"] = _in_type_of(first["state_dict"], mean, last["state_dict"])
    made["bertlab_averaged"] = [str(file) for file in files]
    return made


def _is_averaged(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _in_type_of(
    first: Mapping[str, Any], mean: Mapping[str, Tensor], others: Mapping[str, Any]
) -> dict[str, Any]:
    """The mean, and what cannot be averaged, in order and types of the first; what is tied there and equal, once."""
    made: dict[str, Any] = {}
    tied: dict[tuple[Any, ...], Tensor] = {}
    for name, value in first.items():
        if name not in mean:
            made[name] = copy.deepcopy(others[name])
            continue
        kept = tied.setdefault((value.data_ptr(), value.shape, value.stride()), mean[name].to(value.dtype))
        made[name] = kept if torch.equal(kept, mean[name].to(value.dtype)) else mean[name].to(value.dtype)
    return made


def _check_files(files: Sequence[Path]) -> None:
    if len(files) < 2:
        raise ValueError(
            f"an average takes two checkpoints or more, got {', '.join(map(str, files)) or 'none'}"
        )
    for index, file in enumerate(files):
        for other in files[:index]:
            # best.ckpt may be another name of the same file.
            if file.exists() and other.exists() and file.samefile(other):
                raise ValueError(
                    f"{other} and {file} are the same file, which would count twice: leave one out"
                )


def _check_alike(first: Mapping[str, Any], other: Mapping[str, Any], first_file: Path, file: Path) -> None:
    for key, what in _OF_TASK.items():
        if first.get(key) != other.get(key):
            raise ValueError(
                f"{first_file} and {file} cannot be averaged: the {what} of the first is {first.get(key)!r}, "
                f"of the other {other.get(key)!r}"
            )
    one, two = first["state_dict"], other["state_dict"]
    for name in [*one, *(name for name in two if name not in one)]:
        if _shape(one, name) != _shape(two, name):
            raise ValueError(
                f"{first_file} and {file} cannot be averaged: they are of different encoders or heads; {name} is "
                f"{_shape(one, name)} in the first and {_shape(two, name)} in the other"
            )


def _shape(weights: Mapping[str, Any], name: str) -> str:
    if name not in weights:
        return "missing"
    value = weights[name]
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
