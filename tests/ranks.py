"""Run a function in two processes that find each other over gloo, as `torchrun --nproc-per-node 2` starts them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp


def on_two_ranks(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """What `function(*args)` returned on rank 0 and on rank 1.

    In the function a Trainer made with `devices=2, strategy="ddp"` uses the two processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, folder, function, args), nprocs=2)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]


def _rank(rank: int, port: int, folder: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "tests",
    }
    torch.set_num_threads(1)
    torch.save(function(*args), folder / f"rank-{rank}.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
