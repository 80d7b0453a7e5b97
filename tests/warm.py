"""Processes that find torch and Lightning imported: forked from a server that has imported them once, and nothing more.

To import them takes seven seconds of a core. A process made here is one like any other: it has an environment, a
working directory and output of its own, it can be killed, and bertlab is not imported in it yet.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: Of other projects alone: modules of this one are found by the path of each process, and not by the server's.
PRELOADED = [
    "torch",
    "lightning.pytorch.cli",
    "torchmetrics",
    "transformers.models.bert.modeling_bert",
    "tokenizers",
    "numba",
    "datasets",
    "pyarrow.parquet",
    "matplotlib.figure",
    "rich.progress",
]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


def rank_environments(ranks: int = 2, nodes: int = 1) -> list[dict[str, str]]:
    """What `torchrun --nnodes --nproc-per-node` sets for each of its processes, which find each other over gloo."""
    port, on_a_node = free_port(), ranks // nodes
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank % on_a_node),
            "GROUP_RANK": str(rank // on_a_node),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(on_a_node),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "tests",
        }
        for rank in range(ranks)
    ]


def slurm_environments(nodes: int = 2) -> list[dict[str, str]]:
    """What Slurm's `srun --nodes --ntasks-per-node 1` sets for each of its tasks, and a port that is free here."""
    port = free_port()
    return [
        {
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NAME": "bertlab",
            "SLURM_NNODES": str(nodes),
            "SLURM_NTASKS": str(nodes),
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_NODELIST": ",".join(f"127.0.0.{node + 1}" for node in range(nodes)),
            "SLURM_PROCID": str(node),
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": "0",
            "MASTER_PORT": str(port),
        }
        for node in range(nodes)
    ]


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Command:
    """A `bertlab` command in a process of its own.

    Args:
        folder: its working directory.
        environment: all of its variables.
        args: the command line, the verb first.
    """

    def __init__(self, folder: Path, environment: dict[str, str], args: list[str]) -> None:
        self.args = args
        number = len(list(folder.glob(".command-*.out")))
        self._files = [folder / f".command-{number}.{kind}" for kind in ("out", "err")]
        for file in self._files:
            file.touch()
        self._process = CONTEXT.Process(target=_run, args=(folder, environment, args, self._files))
        self._process.start()

    def poll(self) -> int | None:
        """How it ended: 0, what it exited with, or minus the signal that killed it; None: it goes on."""
        return self._process.exitcode

    def kill(self) -> None:
        """By SIGKILL."""
        assert self._process.pid is not None
        if self.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)

    def wait(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """What it left when it had ended.

        Raises:
            TimeoutError: it did not end; it is killed.
        """
        self._process.join(seconds)
        code = self._process.exitcode
        out, err = (file.read_text() for file in self._files)
        if code is None:
            self.kill()
            raise TimeoutError(f"bertlab {' '.join(self.args)} did not end:\n{err[-4000:]}")
        return subprocess.CompletedProcess(self.args, code, out, err)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.join()


def _run(folder: Path, environment: dict[str, str], args: list[str], files: list[Path]) -> None:
    take_environment(environment)
    # Workers of a DataLoader are started as in a command of its own: forked by it, so they end when it is killed.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(folder)
    for descriptor, file in enumerate(files, start=1):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = ["bertlab", *args]
    from bertlab.cli import main

    try:
        main(args)
    finally:
        leave_ranks()


def take_environment(environment: dict[str, str]) -> None:
    """Have these variables and no others, and one thread, as the processes of the tests have."""
    import torch

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)


def leave_ranks() -> None:
    """What Lightning does when Python exits, which a process of multiprocessing does not get to."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def finished(commands: list[Command]) -> list[subprocess.CompletedProcess[str]]:
    """What each of them left, once all have ended well.

    Raises:
        AssertionError: one ended otherwise.
    """
    done = [command.wait() for command in commands]
    for one in done:
        said: Any = " ".join(one.args)
        assert one.returncode == 0, f"bertlab {said} ended with {one.returncode}:\n{one.stderr[-4000:]}"
    return done
