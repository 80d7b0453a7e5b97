"""What datatrove runs, here and on other machines: to be imported where it is installed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from pathlib import Path
from typing import Any

import multiprocess.process
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats

from bertlab.corpus.atomic_files import write_whole
from bertlab.corpus.executors import BuildError, run_pool
from bertlab.corpus.stage import Stage
from bertlab.corpus.stage_run import StageRun

Documents = Generator[Document] | None


class StageStep(PipelineStep):
    """A stage as a step of datatrove: task `rank` does every n-th of the shards.

    The work is done by processes below that of datatrove. They are spawned, so neither the threads of a Ray worker nor
    an earlier shard get in their way; and one that is killed, for want of memory, is noticed (a pool of datatrove's
    own would wait for it for ever).

    Args:
        folder: of the `StageRun`.
        processes: how many; shards are worked on side by side.
    """

    name = "shards of a stage"
    type = "bertlab corpus"

    def __init__(self, folder: Path, processes: int) -> None:
        super().__init__()
        self.folder, self.processes = str(folder), processes

    def run(self, data: Documents = None, rank: int = 0, world_size: int = 1) -> Documents:
        """Do the shards of a task that nobody has done yet; documents are not handed from step to step."""
        end_with_parent()
        run = StageRun(Path(self.folder))
        stage, shards = run.work()
        run.start(rank, os.getpid())
        try:
            missing = [shard for shard in shards[rank::world_size] if not stage.is_finished(shard)]
            self._do(stage, missing, partial(run.orphan, rank))
        except Exception as error:
            run.fail(rank, error)
            raise
        return data

    def _do(self, stage: Stage, shards: list[int], orphaned: Callable[[], object]) -> None:
        if not shards:
            return
        workers = min(self.processes, len(shards))
        try:
            run_pool(stage, shards, workers, lambda: self.stat_update("shards"), orphaned)
        except BrokenProcessPool as error:
            raise BuildError(
                "a process that worked on a shard was killed, perhaps for want of memory: fewer executor.cpus_per_task "
                "or executor.workers need less, executor.mem_per_cpu_gb of Slurm and Ray grants more"
            ) from error


class QuietLocalExecutor(LocalPipelineExecutor):
    """Without the logs of its pool on the terminal, where the bars are; they are in the files of the tasks."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        if multiprocess.process.parent_process() is not None:
            sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for the life of the process
        return super()._run_for_rank(rank, local_rank, node_rank)


class OneJobSlurmExecutor(SlurmPipelineExecutor):
    """Without the second job, which adds up statistics, and waits for ever after a first one that failed."""

    def launch_merge_stats(self) -> None:
        """Nothing."""


class JobNumbers:
    """Takes the number of a job out of what `sbatch` prints, and writes it down for a build that is resumed.

    Args:
        path: of the file, a number a line.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __call__(self, printed: str) -> str:
        """The number of the job: of `Submitted batch job 17` it is the last word, of `17;cluster` the first part."""
        number = printed.rsplit(maxsplit=1)[-1].partition(";")[0]
        path = Path(self._path)
        before = path.read_bytes() if path.exists() else b""
        write_whole(path, before + f"{number}\n".encode())
        return number


def end_with_parent() -> None:
    """Processes of datatrove's do not notice that the one that made them was killed: this one ends itself.

    And those that it has made, first: they would take it for killed.
    """
    _watch_parent(os.getpid())


@cache
def _watch_parent(_: int) -> None:
    parent: Any = multiprocess.process.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()
