"""RunDirectory: runs/<name>/<version>/, where a run keeps everything it leaves behind."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Folder beside the versions of a run, for plans of it: a version of each is runs/<name>/plans/<number>/.
PLANS = "plans"
#: What is in the folder of a run before its first step.
BEFORE_IT_BEGINS = re.compile(r"config(-\w+)?\.yaml|wandb")


@dataclass(frozen=True)
class RunDirectory:
    """The folder of one run.

    Attributes:
        root: folder of all runs.
        name: of the run, a folder name.
        version: of the run, a folder name; a number, unless someone has chosen otherwise.
    """

    root: Path
    name: str
    version: str

    def __post_init__(self) -> None:
        for key, value in (("run.name", self.name), ("run.version", self.version)):
            if not re.fullmatch(r"[\w.+-]+", value) or value in {".", ".."}:
                raise ValueError(
                    f"{key} is {value!r}; accepted are names of a folder: letters, digits, and any of . _ + -"
                )
        if self.version == PLANS:
            raise ValueError(
                f"run.version is {PLANS!r}, the folder of the plans of a run; choose another name"
            )

    @classmethod
    def new(cls, root: str | Path, name: str) -> RunDirectory:
        """The next free version of a name. The folder is made, so that another run cannot get it too.

        Raises:
            ValueError: no folder can be made there.
        """
        version = max([int(v) for v in cls.versions(root, name) if v.isdecimal()], default=-1) + 1
        while True:
            run = cls(Path(root), name, str(version))
            try:
                run.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _no_folder(root, error) from error
            try:
                run.path.mkdir()
            except FileExistsError:
                version += 1
            except FileNotFoundError:
                continue  # a run that was refused has taken the folder of the name with it since
            except OSError as error:
                raise _no_folder(root, error) from error
            else:
                return run

    @classmethod
    def newest(cls, root: str | Path, name: str) -> RunDirectory | None:
        """The version made last, None where there is none: the highest number, else the latest made.

        Versions that hold nothing (of a run that was killed before it began) do not count.
        """
        versions = [v for v in cls.versions(root, name) if any((Path(root) / name / v).iterdir())]
        if not versions:
            return None
        numbers = [version for version in versions if version.isdecimal()]
        if numbers:
            return cls(Path(root), name, max(numbers, key=int))
        latest = max(versions, key=lambda version: (Path(root) / name / version).stat().st_mtime)
        return cls(Path(root), name, latest)

    @staticmethod
    def versions(root: str | Path, name: str) -> list[str]:
        """The versions there are of a name, sorted by number."""
        folder = Path(root) / name
        inside = list(folder.iterdir()) if folder.is_dir() else []
        found = [path.name for path in inside if path.is_dir() and path.name != PLANS]
        return sorted(found, key=lambda version: (int(version) if version.isdecimal() else -1, version))

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / self.name / self.version

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt and last.ckpt."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The table of everything that was logged."""
        return self.path / "metrics.csv"

    @property
    def timeline(self) -> Path:
        """The events of strategies."""
        return self.path / "timeline.jsonl"

    @property
    def predictions(self) -> Path:
        """Folder of predictions."""
        return self.path / "predictions"

    @property
    def is_new(self) -> bool:
        """Whether nothing is in the folder yet."""
        return not self.path.is_dir() or not any(self.path.iterdir())

    def remove_if_empty(self) -> None:
        """Remove the folder, if nothing is in it."""
        if self.path.is_dir() and self.is_new:
            self._remove()

    def remove_unless_begun(self) -> None:
        """Remove the folder of a run that has failed, if it holds nothing but what is written before a run begins."""
        if self.path.is_dir() and all(BEFORE_IT_BEGINS.fullmatch(path.name) for path in self.path.iterdir()):
            self._remove()

    def _remove(self) -> None:
        """Remove the folder, and that of the name, or of its plans, where nothing else is in it."""
        shutil.rmtree(self.path)
        parents = [self.path.parent]
        if self.path.parent.name == PLANS:
            parents.append(parents[0].parent)
        with suppress(OSError):  # another version is in it, or is made in it at this moment
            for folder in parents:
                folder.rmdir()

    def checkpoint(self, name: str) -> Path:
        """The file of "best" or "last".

        Raises:
            FileNotFoundError: there is none; the message lists the checkpoints that there are.
        """
        path = self.checkpoints / f"{name}.ckpt"
        if path.exists():
            return path
        here = sorted(file.name for file in self.checkpoints.glob("*.ckpt"))
        elsewhere = [
            version
            for version in self.versions(self.root, self.name)
            if version != self.version
            and (self.root / self.name / version / "checkpoints" / path.name).exists()
        ]
        raise FileNotFoundError(
            f"--ckpt_path {name}: there is no {path}. Checkpoints of this version: {', '.join(here) or 'none'}. "
            f"Other versions of {self.name!r} with {path.name}: {', '.join(elsewhere) or 'none'}"
            + (" (choose one with --run.version)" if elsewhere else "")
        )


def _no_folder(root: str | Path, error: OSError) -> ValueError:
    """The error of a folder of runs in which none can be made."""
    return ValueError(f"run.root is {str(root)!r}, where no folder can be made: {error}")
