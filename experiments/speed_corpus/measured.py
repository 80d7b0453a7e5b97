"""Run a command and write what it took: `python measured.py FILE.json COMMAND …`.

A process of its own, for Linux gives a child at least the peak memory that its parent had when it started it, and the
process that draws the texts holds all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[2:])
    _, status, usage = os.wait4(process.pid, 0)
    took = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123  (pathlib would be one import more)
        json.dump(took, file)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
