"""Who does the work of a stage: the processes of this machine, or (`datatrove_executor`) those of a cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from bertlab.corpus.stage import Stage


class BuildError(RuntimeError):
    """The build was stopped from outside: the disk is full, a worker was killed. What is finished is kept."""


class Executor(ABC):
    """Runs a stage over shards. What comes out does not depend on it."""

    def check(self) -> None:
        """Called before anything is read: what the executor lacks is said at once.

        Raises:
            ModuleNotFoundError: a package is not installed.
            BuildError: it cannot work here.
        """
        return

    @abstractmethod
    def run(self, stage: Stage, shards: Sequence[int], advance: Callable[[], None]) -> None:
        """Call `stage(shard)` for each of the shards, in any order.

        Args:
            stage: the work.
            shards: numbers of the shards that are not finished.
            advance: to be called when one is finished.

        Raises:
            BuildError: a worker died, or a file could not be written.
        """

    @property
    def threads(self) -> int:
        """Threads that work outside of the shards (training the vocabulary) may use."""
        return cores()


@dataclass(frozen=True)
class Local(Executor):
    """Processes of this machine.

    Attributes:
        workers: how many; all cores that this process may use, if not given.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(
                f"executor.workers: {self.workers} is not accepted: 1 or more, or null for all cores."
            )

    @property
    def threads(self) -> int:
        """As many as there are workers."""
        return self.workers or cores()

    def run(self, stage: Stage, shards: Sequence[int], advance: Callable[[], None]) -> None:
        """As `Executor.run`."""
        workers = min(self.threads, len(shards))
        try:
            if workers == 1:
                for shard in shards:
                    stage(shard)
                    advance()
            elif workers > 1:
                run_pool(stage, shards, workers, advance)
        except BrokenProcessPool as error:
            raise BuildError(
                "A worker process died, perhaps for want of memory (fewer executor.workers need less). What is "
                "finished is kept: run the same command again."
            ) from error
        except OSError as error:
            raise BuildError(f"{error}. What is finished is kept: run the same command again.") from error


def run_pool(
    stage: Stage,
    shards: Sequence[int],
    workers: int,
    advance: Callable[[], None],
    orphaned: Callable[[], object] | None = None,
) -> None:
    """As `Executor.run`, in processes of their own.

    Args:
        stage: the work.
        shards: numbers of the shards.
        workers: how many processes.
        advance: called when a shard is finished.
        orphaned: called by each of them if the process that runs this is killed, before they end themselves.

    Raises:
        BrokenProcessPool: one of them died.
        Exception: what a stage raised.
    """
    # Spawned: a forked child of a process with threads (tokenizers, Arrow) can hang.
    context = multiprocessing.get_context("spawn")
    with _environment(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1"):
        pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(stage, orphaned))
        waiting: set[Future[None]] = set()
        try:
            for shard in shards:
                waiting.add(pool.submit(_work, shard))
                if len(waiting) >= 2 * workers:
                    waiting = _finish_some(waiting, advance)
            while waiting:
                waiting = _finish_some(waiting, advance)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finish_some(waiting: set[Future[None]], advance: Callable[[], None]) -> set[Future[None]]:
    done, rest = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
        advance()
    return rest


_stage: Stage | None = None  # of this worker process


def _start_worker(stage: Stage, orphaned: Callable[[], object] | None) -> None:
    global _stage  # noqa: PLW0603  a process works on one stage
    _stage = stage
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its workers
    threading.Thread(target=_end_with_parent, args=(orphaned,), daemon=True).start()


def _end_with_parent(orphaned: Callable[[], object] | None) -> None:
    """A parent that was killed (-9) cannot end its workers: they end themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        try:
            if orphaned is not None:
                orphaned()
        finally:
            os._exit(1)


def _work(shard: int) -> None:
    if _stage is None:
        raise RuntimeError("the worker was not started by _start_worker")
    _stage(shard)


@contextlib.contextmanager
def _environment(**values: str) -> Generator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
