"""Commands in processes of their own: wall time and peak memory of each."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
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
    if process.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode} ({log}):\n{tail}")
    return Cost(seconds, usage.ru_maxrss / MIB)


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
