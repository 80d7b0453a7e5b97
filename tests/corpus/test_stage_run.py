"""What the build is told by the tasks of a run."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bertlab.corpus.stage_run import StageRun

HOST = f"on {socket.gethostname()}: "
KILLED = HOST + "the process of the task was killed, perhaps for want of memory"


@pytest.fixture
def run(tmp_path: Path) -> StageRun:
    for name in ("failures", "orphans", "workers", "completions"):
        (tmp_path / name).mkdir()
    return StageRun(tmp_path)


def test_an_error_comes_before_the_processes_that_were_ended_for_it(run: StageRun) -> None:
    for task in (0, 1, 2):
        run.start(task, 1)
    run.fail(1, ValueError("not liked"))
    run.orphan(0)
    run.orphan(2)
    assert run.has_errors()
    assert run.failures() == [HOST + "ValueError: not liked"]


def test_processes_that_were_killed_are_told_where_there_is_no_error(run: StageRun) -> None:
    run.start(0, 1)
    run.orphan(0)
    assert run.has_orphans()
    assert not run.has_errors()
    assert run.failures() == [KILLED]


def test_a_task_that_is_tried_again_is_not_what_its_first_try_was(run: StageRun) -> None:
    run.start(0, 1)
    run.orphan(0)
    run.start(0, 2)
    assert not run.has_orphans()
    assert run.failures() == []
    run.fail(0, OSError("no space"))
    assert run.has_errors()
    assert run.failures() == [HOST + "OSError: no space"]
