"""Commands of a study in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.commands import run_forked


def test_forked_commands_run_and_fail_as_others(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    run_forked(["--version"], log, threads=1)
    assert log.read_text(encoding="utf-8").startswith("bertlab ")
    with pytest.raises(RuntimeError, match=r"(?s)bertlab fti ended with 2.*did you mean 'fit'"):
        run_forked(["fti"], log, threads=1)
