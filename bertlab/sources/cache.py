"""The cache folder: what is downloaded, repaired or tokenised once and kept for the next run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs

LOCK_SECONDS = 1800.0  # another process may be downloading 80 MB over a slow line


def cache_folder() -> Path:
    """The folder named by `BERTLAB_CACHE`, else the platform's user cache folder (not made here)."""
    chosen = os.environ.get("BERTLAB_CACHE", "").strip()
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("bertlab"))


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Make the folder `target` by `build(empty folder)` unless it is there already; all of it or nothing.

    The work is done in a temporary neighbour that is renamed when complete, under a lock file, so that two
    processes do it once, and a process that dies half-way leaves nothing that the next one would trust.

    Args:
        target: the folder to have at the end.
        build: fills the empty folder it is given; what it raises is passed on, and nothing is kept.

    Returns:
        `target`.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=LOCK_SECONDS):
        if target.is_dir():
            return target
        for abandoned in target.parent.glob(f".{target.name}.part-*"):
            shutil.rmtree(abandoned)  # of a process that was killed: it held the lock we hold now
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.part-", dir=target.parent))
        try:
            build(work)
            work.chmod(0o755)  # mkdtemp makes it private; a shared cache folder is read by others too
            work.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)  # nothing there after a successful replace
    return target
