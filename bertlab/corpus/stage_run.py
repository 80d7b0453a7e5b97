"""One run of a stage by workers that are told of it through a folder."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertlab.corpus.atomic_files import read_json, write_json, write_whole
from bertlab.corpus.executors import BuildError
from bertlab.corpus.stage import Stage

STAGE = "stage.pickle"


@dataclass(frozen=True)
class StageRun:
    """A folder that the build and its workers see: what is to be done, and what went wrong.

    Beside it datatrove has there what it keeps of a run: `logs/`, `stats/`, `completions/`, the script of a job.

    Attributes:
        folder: of this run; one that was stopped has left another.
    """

    folder: Path

    @classmethod
    def begin(cls, stage: Stage, shards: Sequence[int]) -> StageRun:
        """A new run, of a stage over shards."""
        before = cls.of(stage)
        number = 1 + max((int(run.folder.name.rpartition("-")[2]) for run in before), default=-1)
        run = cls(_parent(stage) / f"{stage.folder.name}-{number}")
        for name in ("failures", "orphans", "workers"):
            (run.folder / name).mkdir(parents=True)
        write_whole(run.folder / STAGE, pickle.dumps((stage, list(shards))))
        return run

    @classmethod
    def of(cls, stage: Stage) -> list[StageRun]:
        """The runs that there were of a stage."""
        return [cls(path) for path in sorted(_parent(stage).glob(f"{stage.folder.name}-*"))]

    def work(self) -> tuple[Stage, list[int]]:
        """The stage and its shards.

        Raises:
            FileNotFoundError: the folder is not there.
        """
        if not (self.folder / STAGE).is_file():
            raise FileNotFoundError(
                f"{socket.gethostname()} does not see {self.folder}: `output` has to lie in a folder that all machines "
                "share, under the same path; or the build was given up."
            )
        return pickle.loads((self.folder / STAGE).read_bytes())

    def fail(self, task: int, error: BaseException) -> None:
        """Write down, for the build, why a task was not finished."""
        text = str(error) if isinstance(error, BuildError) else f"{type(error).__name__}: {error}"
        write_json(self._failure(task), {"host": socket.gethostname(), "error": text})

    def failures(self) -> list[str]:
        """What was written down, by task: errors, or, where there are none, that processes were killed.

        After an error datatrove ends the processes of the other tasks, and those that worked for them take them for
        killed. That is no news beside the error.
        """
        paths = sorted((self.folder / "failures").glob("*.json"))
        found = [read_json(path) for path in self._errors() or paths]
        return [f"on {failure['host']}: {failure['error']}" for failure in found]

    def has_errors(self) -> bool:
        """Whether a task ended with an error of its own, not because its process was killed."""
        return bool(self._errors())

    def start(self, task: int, process: int) -> None:
        """Write down which process of its machine works on a task; what an earlier one said of it is no more true."""
        self._failure(task).unlink(missing_ok=True)
        (self.folder / "orphans" / f"{task:05d}").unlink(missing_ok=True)
        write_json(self.folder / "workers" / f"{task:05d}.json", process)

    def orphan(self, task: int) -> None:
        """Write down, for the build, that the process of a task was killed, which datatrove may not notice."""
        (self.folder / "orphans" / f"{task:05d}").touch()  # first: a failure without it would be an error
        self.fail(task, BuildError("the process of the task was killed, perhaps for want of memory"))

    def has_orphans(self) -> bool:
        """Whether the process of a task was killed, as those say that worked for it."""
        return any((self.folder / "orphans").iterdir())

    def lost(self, is_alive: Callable[[int], bool]) -> bool:
        """Whether a task was begun by a process that is there no more, and neither finished nor failed."""
        for path in (self.folder / "workers").glob("*.json"):
            ended = not is_alive(read_json(path))
            # In this order: a task is marked completed, or failed, while its process is there.
            completed = (self.folder / "completions" / path.stem).exists()
            if ended and not completed and not self._failure(int(path.stem)).exists():
                return True
        return False

    def _errors(self) -> list[Path]:
        paths = sorted((self.folder / "failures").glob("*.json"))
        return [path for path in paths if not (self.folder / "orphans" / path.stem).exists()]

    def _failure(self, task: int) -> Path:
        return self.folder / "failures" / f"{task:05d}.json"


def _parent(stage: Stage) -> Path:
    return stage.folder.parent / "datatrove"
