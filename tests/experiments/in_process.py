"""The commands that a study compares, run in this process, where they start at once and one after the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bertlab.cli import main as bertlab
from experiments import hf_pretraining
from experiments.commands import BERTLAB, Cost


def in_this_process(command: Sequence[str], log: Path, threads: int | None = None) -> Cost:
    """In the place of `run_command`, for `bertlab` and the peer in pretraining."""
    if command[0] == BERTLAB:
        bertlab(list(command[1:]))
    else:
        assert command[1:3] == ["-m", "experiments.hf_pretraining"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", list(command[2:]))
            hf_pretraining.main()
    return Cost(1.0, 100.0)
