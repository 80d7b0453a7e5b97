"""Run a function in two processes that find each other over gloo, as `torchrun --nproc-per-node 2` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from tests.warm import leave_ranks, rank_environments, take_environment


def on_two_ranks(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """What `function(*args)` returned on rank 0 and on rank 1.

    In the function a Trainer made with `devices=2, strategy="ddp"` uses the two processes.
    """
    environments = [dict(os.environ) | rank for rank in rank_environments()]
    mp.start_processes(
        _rank, args=(environments, folder, function, args), nprocs=2, start_method="forkserver"
    )
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


def _rank(
    rank: int,
    environments: list[dict[str, str]],
    folder: Path,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    take_environment(environments[rank])
    torch.save(function(*args), folder / f"rank-{rank}.pt")
    leave_ranks()
