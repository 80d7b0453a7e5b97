"""Jobs in the queue of Slurm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

from bertlab.corpus.executors import BuildError

FAILURES = (
    30  # of squeue in a row, until it is an error: a controller that is started anew is away for minutes
)


class SlurmQueue:
    """Jobs that were submitted, as `squeue` shows them.

    Args:
        numbers: of the jobs; of an array, the one that `sbatch` prints.
    """

    def __init__(self, numbers: Iterable[str]) -> None:
        self.numbers = frozenset(numbers)
        self._failures = 0

    def has_some(self) -> bool:
        """Whether one of the jobs waits or runs.

        Raises:
            BuildError: squeue failed again and again.
        """
        return bool(self.numbers and self._queued())

    def cancel(self) -> None:
        """End the jobs."""
        queued = self._queued() if self.numbers else frozenset[str]()
        if queued:
            subprocess.run(["scancel", *sorted(queued)], check=False)

    def _queued(self) -> frozenset[str]:
        # All jobs of the user: asked for one that has ended, squeue fails as if Slurm were down. %F: of an array, its
        # own number instead of those of its tasks.
        command = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%F"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            self._failures += 1
            if self._failures >= FAILURES:
                raise BuildError(
                    f"squeue failed {FAILURES} times: {result.stderr.strip()}. The jobs may still run: the same "
                    "command waits for them."
                )
            return self.numbers  # as far as is known
        self._failures = 0
        return self.numbers.intersection(result.stdout.split())
