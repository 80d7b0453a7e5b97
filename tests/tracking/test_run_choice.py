"""Which run directory a command works in, where many processes have to agree on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bertlab.tracking.run_choice import choose_run, default_name, forget_run


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SLURM_JOB_ID", "SLURM_PROCID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    forget_run()


def test_processes_started_by_this_one_take_its_run(tmp_path: Path) -> None:
    first = choose_run(tmp_path, "a", None, "fit", None)
    assert choose_run(tmp_path, "a", None, "fit", None) == first
    forget_run()
    assert choose_run(tmp_path, "a", None, "fit", None).version == "1"


def test_processes_of_a_slurm_job_take_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert choose_run(tmp_path, "a", None, "fit", None).version == "4711"


def test_processes_started_from_outside_need_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"run\.version is needed"):
        choose_run(tmp_path, "a", None, "fit", None)
    assert choose_run(tmp_path, "a", "mine", "fit", None).version == "mine"


def test_a_checkpoint_of_a_run_is_looked_at_in_place(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a" / "3"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("x: 1")
    chosen = choose_run(tmp_path / "elsewhere", "b", None, "test", str(run / "checkpoints" / "best.ckpt"))
    assert chosen.path == run
    forget_run()
    fresh = choose_run(tmp_path / "elsewhere", "b", None, "fit", str(run / "checkpoints" / "best.ckpt"))
    assert fresh.path == tmp_path / "elsewhere" / "b" / "0"


@pytest.mark.parametrize(
    ("files", "name"), [(["configs/x.yaml", "cpu.yaml"], "x"), ([], "Task"), (None, "Task"), ([None], "Task")]
)
def test_default_name(files: list[str | None] | None, name: str) -> None:
    assert default_name(files, "package.Task") == name
