"""Run a command and write what it took: `python measured.py FILE.json COMMAND …`.

A process of its own, for Linux gives a child at least the peak memory that its parent had when it started it, and the
process that draws the texts holds all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

MIB = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
EVERY_SECONDS = 0.2


class Memory(threading.Thread):
    """Watches a process and all that it starts, in /proc, so on Linux alone.

    Attributes:
        parent: peak resident memory of the process, KiB; as the system keeps it, so nothing is missed in between.
        worker: that of the largest of its descendants.
        together: highest sum of what all of them held at a time; pages that they share count in each.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.parent = self.worker = self.together = 0

    def run(self) -> None:
        """Look again and again."""
        while True:
            found = {pid: memory for pid in descendants(self._pid) if (memory := memory_of(pid))}
            own, others = found.get(self._pid, (0, 0)), [m for pid, m in found.items() if pid != self._pid]
            self.parent = max(self.parent, own[0])
            self.worker = max([self.worker, *(peak for peak, _ in others)])
            self.together = max(self.together, sum(now for _, now in found.values()))
            time.sleep(EVERY_SECONDS)


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
            children = [int(child) for child in file.read().split()]
    except OSError:  # it has ended
        return []
    return [pid, *(below for child in children for below in descendants(child))]


def memory_of(pid: int) -> tuple[int, int] | None:
    """Peak and present resident memory, in KiB; None of a process that has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            status = dict(line.split(":", 1) for line in file)
        return int(status["VmHWM"].split()[0]), int(status["VmRSS"].split()[0])
    except (OSError, KeyError):
        return None


def main() -> None:
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[2:])
    memory = Memory(process.pid)
    if sys.platform == "linux":
        memory.start()
    _, status, usage = os.wait4(process.pid, 0)
    took = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / MIB,
        "parent_mib": memory.parent / 2**10,
        "worker_mib": memory.worker / 2**10,
        "together_mib": memory.together / 2**10,
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123  (pathlib would be one import more)
        json.dump(took, file)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
