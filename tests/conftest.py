"""What all tests share: a search path for the small doubles, and few threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent

# Tests that start `bertlab` as a process name classes of tests/doubles in their configurations too.
sys.path.insert(0, str(HERE / "doubles"))
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "doubles"), os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors here are small: more threads cost more than they bring, and pytest-xdist has its own processes."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """The environment as it was: `seed_everything` and W&B leave variables in it that later tests would heed."""
    # Of a module's fixture, which runs before: a test that ends this service would get its address back, and the ranks
    # that a test starts would take this seed.
    for left in ("WANDB_SERVICE", "PL_GLOBAL_SEED"):
        os.environ.pop(left, None)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _own_precision() -> Iterator[None]:
    """float32 as it was: a command of the tests' own process sets `run.float32_matmul_precision` for all of it."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
