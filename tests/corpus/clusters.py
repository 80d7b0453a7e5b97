"""Executors to build small corpora with: datatrove's own, a Ray of this machine, a Slurm that is a double."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "corpus" / "executors"
DOUBLE = ROOT / "tests" / "doubles" / "slurm.py"
#: Flags for each overlay, that make it quick and of this machine.
FLAGS = {
    "datatrove": ("--executor.tasks", "2"),
    "ray": ("--executor.tasks", "2", "--executor.address", "null", "--executor.workers", "2"),
    "slurm": ("--executor.tasks", "2", "--executor.poll_seconds", "0.05"),
}
KINDS = ("datatrove", pytest.param("ray", marks=pytest.mark.ray), "slurm")


def flags_of(kind: str) -> list[str]:
    """The overlay, and what makes it quick."""
    return ["--config", str(CONFIGS / f"{kind}.yaml"), *FLAGS[kind]]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of Slurm on PATH; returns the folder of its state."""
    home = tmp_path / "slurm"
    commands = home / "bin"
    commands.mkdir(parents=True)
    for name in ("sbatch", "squeue", "scancel", "scontrol", "srun"):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {DOUBLE} {name} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.fixture(scope="module")
def ray_of_this_machine() -> Iterator[None]:
    """Ray, once for all tests of a module."""
    # As in bertlab; Ray reads it when it is imported. Threads of builds that have failed outlive it here too.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the executors, ready; jobs find the same bertlab as the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    needed = {"slurm": "slurm", "ray": "ray_of_this_machine"}.get(request.param)
    if needed:
        request.getfixturevalue(needed)
    return request.param
