"""The steps of a build as jobs of Slurm, by datatrove."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bertlab.corpus.awaited_shards import AwaitedShards
from bertlab.corpus.datatrove_executor import DatatroveExecutor
from bertlab.corpus.executors import BuildError
from bertlab.corpus.interrupts import held_interrupts
from bertlab.corpus.slurm_queue import SlurmQueue
from bertlab.corpus.stage import Stage
from bertlab.corpus.stage_run import StageRun

JOBS = "jobs.txt"
SEEN_SECONDS = (
    60.0  # after which what a job has written is seen here, whatever the network file system caches
)
MOST_TASKS = 1000  # of an array: Slurm's MaxArraySize is 1,001, if it is not set


@dataclass(frozen=True, kw_only=True)
class DatatroveSlurm(DatatroveExecutor):
    """Tasks of an array job of Slurm, one job for each stage; the command waits for them in the queue.

    It is given on a login node, or in a job of its own that is no array. Stopped by Ctrl-C it cancels its job; killed
    in another way it leaves it, and the same command waits for it again.

    Attributes:
        partition: that jobs are put into.
        time: limit of a task, as sbatch takes it, in quotes: "90" (minutes), or e.g. "12:00:00", which without quotes
            is a number in YAML. A task that reaches it has kept its finished shards.
        workers: tasks that run at the same time; null: as many as Slurm grants.
        tasks: what a stage is divided into at most; null: four for each worker, or 1,000.
        cpus_per_task: cores that a task gets, and its processes.
        mem_per_cpu_gb: memory for each of them, GB.
        qos: quality of service; null: that of the cluster.
        sbatch_args: further options of sbatch, e.g. `{account: nlp, constraint: ib}`.
        env_command: shell command that prepares a task, e.g. `module load python && source env/bin/activate`; null: the
            environment that this command runs in, which nodes have to see too.
        poll_seconds: how often squeue is asked.
    """

    partition: str
    time: str
    mem_per_cpu_gb: int = 2
    qos: str | None = None
    sbatch_args: dict[str, str | int] | None = None
    env_command: str | None = None
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mem_per_cpu_gb < 1:
            raise ValueError(f"executor.mem_per_cpu_gb: {self.mem_per_cpu_gb} is not accepted: 1 or more.")
        if self.poll_seconds <= 0:
            raise ValueError(f"executor.poll_seconds: {self.poll_seconds} is not accepted: more than 0.")

    def check(self) -> None:
        """As `Executor.check`."""
        super().check()
        missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
        if missing:
            raise BuildError(
                f"executor: {', '.join(missing)} not found: DatatroveSlurm has to be started on a machine of the "
                "cluster from which jobs are submitted."
            )
        if "SLURM_ARRAY_TASK_ID" in os.environ:
            raise BuildError(
                "executor: this is a task of an array job, and datatrove takes such a one for one of its own: start "
                "the command on a login node, or in a job without --array."
            )

    def begin(self, stage: Stage, awaited: AwaitedShards) -> None:
        """As `DatatroveExecutor.begin`, after the jobs that a build left which was killed."""
        try:
            self._wait(SlurmQueue(_jobs(*StageRun.of(stage))), awaited.look)
            if awaited.look():
                super().begin(stage, awaited)
        except KeyboardInterrupt:
            SlurmQueue(_jobs(*StageRun.of(stage))).cancel()
            raise

    def execute(self, run: StageRun, shards: int, look: Callable[[], list[int]]) -> None:
        """As `DatatroveExecutor.execute`."""
        from bertlab.corpus.datatrove_parts import JobNumbers, OneJobSlurmExecutor, StageStep

        executor = OneJobSlurmExecutor(
            pipeline=[StageStep(run.folder, self.cpus_per_task)],
            tasks=self.tasks_of(shards, self.workers or MOST_TASKS // 4),
            time=self.time,
            partition=self.partition,
            cpus_per_task=self.cpus_per_task,
            mem_per_cpu_gb=self.mem_per_cpu_gb,
            workers=self.workers or -1,
            job_name="bertlab_corpus",
            qos=self.qos or "",
            env_command=self.env_command
            or f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"',
            sbatch_args=dict(self.sbatch_args or {}),
            job_id_retriever=JobNumbers(run.folder / JOBS),
            logging_dir=str(run.folder),
        )
        try:
            with held_interrupts():  # a job whose number is not written down could not be cancelled
                executor.run()
        except subprocess.CalledProcessError as error:
            raise BuildError(
                f"sbatch did not take the job (exit status {error.returncode}); what it said stands above. Look at "
                "executor.partition, .time, .qos, .cpus_per_task, .mem_per_cpu_gb and .sbatch_args. Its script: "
                f"{run.folder / 'launch_script.slurm'}"
            ) from error
        self._wait(SlurmQueue(_jobs(run)), look)
        end = time.monotonic() + SEEN_SECONDS
        while look() and not run.failures() and time.monotonic() < end:
            time.sleep(min(1.0, self.poll_seconds))

    def silence(self) -> str:
        """As `DatatroveExecutor.silence`."""
        return (
            "its job has ended, and no task left a word. Slurm may have stopped it (executor.time, "
            "executor.mem_per_cpu_gb: `sacct` tells), or the nodes do not see the folder of `output`, or not this "
            "environment (executor.env_command). What tasks printed is in slurm_logs, beside"
        )

    def _wait(self, queue: SlurmQueue, look: Callable[[], list[int]]) -> None:
        while look() and queue.has_some():
            time.sleep(self.poll_seconds)
        # Tasks whose shards are all there still write datatrove's logs, into the folder that a build deletes.
        end = time.monotonic() + SEEN_SECONDS
        while not look() and queue.has_some() and time.monotonic() < end:
            time.sleep(self.poll_seconds)


def _jobs(*runs: StageRun) -> list[str]:
    """The numbers of the jobs that were submitted."""
    files = [run.folder / JOBS for run in runs]
    return [number for file in files if file.exists() for number in file.read_text("utf-8").split()]
