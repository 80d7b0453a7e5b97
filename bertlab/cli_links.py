"""What a configuration leaves open and another part of it tells: where task and data meet."""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import Namespace


def tokenizer_source(model: Namespace, data: Namespace) -> str | None:
    """Whose tokenizer the data module uses: the one it names itself, else the encoder's.

    Args:
        model: class_path and init_args of the task.
        data: of the data module.
    """
    named = data.get("init_args.tokenizer")
    return named if named is not None else model.get("init_args.encoder.init_args.source")


def data_seed(seed_everything: bool | int, data: Namespace) -> int | None:
    """The seed of the data module: the one it is given itself, else the run's.

    Args:
        seed_everything: of the run; True and False are no seed.
        data: class_path and init_args of the data module.
    """
    named = data.get("init_args.seed")
    return seed_everything if named is None and not isinstance(seed_everything, bool) else named


def run_seed(config: Namespace) -> int:
    """The seed of a run: the one that was set; without seed_everything, one drawn now."""
    return torch.initial_seed() % 2**32 if config.seed_everything is False else int(config.seed_everything)


def as_list(value: Any) -> list[Any]:
    """A key that takes one thing or several, as several."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
