"""Tests that need TensorFlow are collected only where its environment is named."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

VARIABLE = "BERTLAB_TENSORFLOW_PYTHON"
ROOT = Path(__file__).parents[2]

collect_ignore = [] if os.environ.get(VARIABLE) else ["test_tensorflow.py"]


@pytest.fixture(scope="session")
def under_tensorflow() -> Callable[..., None]:
    """Run a module of this folder in the other environment; what it prints is shown where it fails."""
    python = os.environ[VARIABLE]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}

    def run(module: str, *arguments: object) -> None:
        command = [python, "-m", f"tests.tensorflow.{module}", *map(str, arguments)]
        result = subprocess.run(
            command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"

    return run
