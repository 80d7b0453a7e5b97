"""Which run directory a command works in: a new one, or that of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from bertlab.tracking.run_directory import PLANS, RunDirectory

#: The run directory of this process, for the processes that Lightning starts for the other ranks.
_RUN_VARIABLE = "BERTLAB_RUN_DIRECTORY"


def choose_run(
    root: Path, name: str, version: str | int | None, verb: str, checkpoint: str | None
) -> RunDirectory:
    """The directory of this run.

    Args:
        root: `run.root`.
        name: `run.name`.
        version: `run.version`; None: found by the rules of that key.
        verb: fit, find_lr, validate, test or predict.
        checkpoint: what --ckpt_path says.

    Raises:
        FileNotFoundError: "best" or "last" of a name that has no run.
        ValueError: a version that exists already; processes that somebody else has started and that could not
            agree on a version.
    """
    return _inherited() or _handed_on(
        existing_run(root, name, version, verb, checkpoint) or _fresh(root, name, version, verb)
    )


def choose_plan(root: Path, name: str) -> RunDirectory:
    """The directory of a plan: a new one, beside the versions of the run.

    Args:
        root: `run.root`.
        name: `run.name`.

    Raises:
        ValueError: processes that somebody else has started and that could not agree on a directory.
    """
    if inherited := _inherited():
        return inherited
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("bertlab plan starts the processes that it needs itself: call it without torchrun")
    return _handed_on(RunDirectory.new(root / name, PLANS))


def _inherited() -> RunDirectory | None:
    path = os.environ.get(_RUN_VARIABLE)
    return None if not path else RunDirectory(Path(path).parents[1], Path(path).parent.name, Path(path).name)


def _handed_on(chosen: RunDirectory) -> RunDirectory:
    os.environ[_RUN_VARIABLE] = str(chosen.path.absolute())
    return chosen


def existing_run(
    root: Path, name: str, version: str | int | None, verb: str, checkpoint: str | None
) -> RunDirectory | None:
    """The run that a checkpoint belongs to and that is continued or looked at in place; None: a new one."""
    if checkpoint in {"best", "last"}:
        run = RunDirectory.newest(root, name) if version is None else RunDirectory(root, name, str(version))
        if run is None:
            names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
            raise FileNotFoundError(
                f"--ckpt_path {checkpoint}: there is no run {name!r} in {root}/ (run.name, run.root); "
                f"runs there: {', '.join(names) or 'none'}"
            )
        return run
    if checkpoint and verb != "fit" and version is None:
        folder = Path(checkpoint).absolute().parent
        if folder.name == "checkpoints" and (folder.parent / "config.yaml").exists():
            return RunDirectory(folder.parents[2], folder.parents[1].name, folder.parent.name)
    return None


def _fresh(root: Path, name: str, version: str | int | None, verb: str) -> RunDirectory:
    if version is None and "SLURM_JOB_ID" in os.environ and "SLURM_PROCID" in os.environ:
        version = os.environ["SLURM_JOB_ID"]
    if version is not None:
        run = RunDirectory(root, name, str(version))
        trains = verb in {"fit", "find_lr"}
        if trains and getattr(rank_zero_only, "rank", 0) == 0 and (run.path / "config.yaml").exists():
            raise ValueError(
                f"run.version {version!r}: {run.path} has a run already; go on with it by --ckpt_path last, or "
                "choose another version"
            )
        return run
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "run.version is needed where the processes of a run are started from outside (torchrun): each of them "
            "would choose a version of its own"
        )
    return RunDirectory.new(root, name)


def default_name(files: Sequence[Any] | None, task: str) -> str:
    """What a run is called that nobody has named: as its first configuration file, else as its task's class.

    Args:
        files: what --config was given, in order; None in it is a configuration that was given as a string.
        task: class path.
    """
    return Path(str(files[0])).stem if files and files[0] is not None else task.rsplit(".", 1)[-1]


def forget_run() -> None:
    """The next command of this process chooses anew."""
    os.environ.pop(_RUN_VARIABLE, None)
