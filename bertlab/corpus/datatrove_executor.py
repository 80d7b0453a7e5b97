"""The steps of a build on datatrove: on this machine, under Slurm, or on Ray."""

from __future__ import annotations

import importlib.util
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bertlab.corpus.awaited_shards import AwaitedShards
from bertlab.corpus.executors import BuildError, Executor
from bertlab.corpus.stage import Stage
from bertlab.corpus.stage_run import StageRun

KILLED = "A worker process of datatrove was killed. What is finished is kept: run the same command again."


@dataclass(frozen=True, kw_only=True)
class DatatroveExecutor(Executor):
    """Runs a stage as tasks of datatrove (Penedo et al., github.com/huggingface/datatrove), of several shards each.

    `output` has to lie in a folder that all machines see under the same path; bertlab has to be installed on each. What
    needs all of the text at once (reading it, deciding on duplicates, training the vocabulary) is done where the
    command is run. A build that was stopped goes on with the shards that lack their mark, which is finer than
    datatrove's completions (these tell the tasks of one run); it may go on with another executor.

    Attributes:
        workers: tasks that run at the same time; subclasses say what null is.
        tasks: what a stage is divided into at most; null: four for each worker, so that none waits long for the last.
        cpus_per_task: processes of a task, which work on its shards side by side.
    """

    workers: int | None = None
    tasks: int | None = None
    cpus_per_task: int = 1

    packages: ClassVar[tuple[str, ...]] = ("datatrove",)
    look_seconds: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        for key in ("workers", "tasks", "cpus_per_task"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(
                    f"executor.{key}: {value} is not accepted: 1 or more"
                    + (", or null." if key != "cpus_per_task" else ".")
                )

    def check(self) -> None:
        """As `Executor.check`."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(
                    f"executor: {type(self).__name__} needs {package}, which is not installed: "
                    "pip install 'bertlab[cluster]'."
                )

    @abstractmethod
    def execute(self, run: StageRun, shards: int, look: Callable[[], list[int]]) -> None:
        """Let datatrove do the tasks of a run.

        Args:
            run: which; its folder is that of datatrove's logs too.
            shards: how many there are.
            look: to be called now and then; gives the shards that are still awaited.

        Raises:
            BuildError: they cannot be done.
        """

    def run(self, stage: Stage, shards: Sequence[int], advance: Callable[[], None]) -> None:
        """As `Executor.run`."""
        if shards:
            self.begin(stage, AwaitedShards(stage, shards, advance))

    def begin(self, stage: Stage, awaited: AwaitedShards) -> None:
        """Run a stage over the shards that are awaited.

        Raises:
            BuildError: some of them are not finished.
        """
        from loguru import logger

        run = StageRun.begin(stage, awaited.left)
        logger.disable("datatrove")  # its words would stand between the bars
        try:
            self.execute(run, len(awaited.left), awaited.look)
        finally:
            logger.enable("datatrove")
        lacking = awaited.look()
        if lacking:
            raise BuildError(self._complaint(stage, run, lacking))

    def tasks_of(self, shards: int, workers: int) -> int:
        """Into how many tasks so many shards are divided."""
        return min(shards, self.tasks or 4 * workers)

    def silence(self) -> str:
        """What may have happened to tasks that are not finished, and left no word."""
        return "no task left a word"

    def _complaint(self, stage: Stage, run: StageRun, lacking: list[int]) -> str:
        failures = run.failures()
        what = failures[0] if failures else self.silence()
        more = f" ({len(failures) - 1} more tasks failed)" if len(failures) > 1 else ""
        return (
            f"{stage.title}: {len(lacking)} shards are not finished: {what}{more}. What is finished is kept: run the "
            f"same command again. Logs of the tasks: {run.folder / 'logs'}"
        )

    def beside(self, work: Callable[[], object], run: StageRun, look: Callable[[], object]) -> None:
        """Run datatrove in a thread, and look meanwhile.

        In a thread, so that `look` can end a build whose datatrove waits for a process that was killed.

        Args:
            work: of datatrove.
            run: that it works on.
            look: called about every second.

        Raises:
            BuildError: datatrove raised an error, and no task has written down why.
        """
        errors: list[BaseException] = []

        def target() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        while thread.is_alive():
            look()
            thread.join(self.look_seconds)
        if errors and not run.failures():
            raise BuildError(f"datatrove: {type(errors[0]).__name__}: {errors[0]}") from errors[0]
