"""Commands in processes of their own: wall time and peak memory of each."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: The `bertlab` command and the interpreter of the environment that this process runs in.
BERTLAB = str(Path(sys.executable).with_name("bertlab"))
PYTHON = sys.executable
#: How many units of `ru_maxrss` are a MiB: it is in bytes on macOS, in KiB on Linux.
MIB = 2**20 if sys.platform == "darwin" else 2**10


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        seconds: wall time from its start to its end.
        peak_mib: highest resident memory of the largest of its processes, in MiB.
    """

    seconds: float
    peak_mib: float


def run_command(command: Sequence[str], log: Path, threads: int | None = None) -> Cost:
    """Run a command from the root of the repository and wait for it.

    Args:
        command: program and arguments.
        log: takes what it prints.
        threads: that it computes with; as many as there are cores.

    Raises:
        RuntimeError: it failed; the message ends with what it printed last.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",  # neither side waits for a network that it does not need
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        # wait4 gives the memory of this very child; RUSAGE_CHILDREN is the maximum over all there ever were.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    raise_if_failed(command, process.returncode, log)
    return Cost(seconds, usage.ru_maxrss / MIB)


def run_forked(arguments: Sequence[str], log: Path, threads: int) -> None:
    """Run a command of bertlab in a process that has its imports already: for many runs whose start does not count.

    Args:
        arguments: behind `bertlab`.
        log: takes what it prints.
        threads: that it computes with, the same for all commands of a study.

    Raises:
        RuntimeError: it failed; the message ends with what it printed last.
    """
    # The server that all are forked from reads it once, as it loads torch.
    os.environ.update(OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bertlab.cli_lightning"])
    log.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_run_in_this_process, args=(list(arguments), log))
    process.start()
    process.join()
    raise_if_failed(["bertlab", *arguments], process.exitcode, log)


def _run_in_this_process(arguments: list[str], log: Path) -> None:
    from bertlab.cli import main

    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(ROOT)
    try:
        main(arguments)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


def raise_if_failed(command: Sequence[str], code: int | None, log: Path) -> None:
    """The error of a command that did not end with 0, with the last lines of its log."""
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{shlex.join(command)} ended with {code} ({log}):\n{tail}")


def flags_of(settings: Mapping[str, Any]) -> list[str]:
    """The settings of a system as options of its command; what is true has no value.

    >>> flags_of({"padding": "dynamic", "bf16": True})
    ['--padding', 'dynamic', '--bf16']
    """
    return [
        word
        for flag, value in settings.items()
        for word in ([f"--{flag}"] if value is True else [f"--{flag}", str(value)])
    ]
