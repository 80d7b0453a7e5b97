"""The steps of a build on datatrove's local executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from bertlab.corpus.datatrove_executor import KILLED, DatatroveExecutor
from bertlab.corpus.executors import BuildError, cores
from bertlab.corpus.stage_run import StageRun


@dataclass(frozen=True, kw_only=True)
class DatatroveLocal(DatatroveExecutor):
    """Processes of this machine, started by datatrove: what to try a cluster's configuration with.

    Attributes:
        workers: tasks that run at the same time; null: as many as there are cores for `cpus_per_task` each.
        tasks: what a stage is divided into at most; null: four for each worker.
        cpus_per_task: processes of a task.
    """

    @property
    def threads(self) -> int:
        """As many as there are workers."""
        return self._workers

    @property
    def _workers(self) -> int:
        return self.workers or max(1, cores() // self.cpus_per_task)

    def execute(self, run: StageRun, shards: int, look: Callable[[], list[int]]) -> None:
        """As `DatatroveExecutor.execute`."""
        import multiprocess.util

        from bertlab.corpus.datatrove_parts import QuietLocalExecutor, StageStep, end_with_parent

        tasks = self.tasks_of(shards, self._workers)
        executor = QuietLocalExecutor(
            pipeline=[StageStep(run.folder, self.cpus_per_task)],
            tasks=tasks,
            workers=min(tasks, self._workers),
            logging_dir=str(run.folder),
        )
        # Its manager of queues is forked, and would outlive a build that is killed.
        multiprocess.util.register_after_fork(executor, lambda _: end_with_parent())

        def look_closer() -> None:
            # After an error datatrove ends by itself, and ends the processes of the other tasks.
            if look() and not run.has_errors() and (run.has_orphans() or run.lost(_is_alive)):
                raise BuildError(KILLED)

        self.beside(executor.run, run, look_closer)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
