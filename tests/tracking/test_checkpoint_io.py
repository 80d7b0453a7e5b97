"""AtomicCheckpointIO: whole or absent, and harmless."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bertlab.tracking.checkpoint_io import AtomicCheckpointIO
from tests.doubles.evil import Evil

CHECKPOINT = {"state_dict": {"w": torch.arange(6.0)}, "epoch": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "last.ckpt"


def test_round_trip_leaves_one_file(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    found = AtomicCheckpointIO().load_checkpoint(path)
    assert torch.equal(found["state_dict"]["w"], CHECKPOINT["state_dict"]["w"])
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_malicious_pickle_is_refused_and_not_executed(writer: str, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    content = {"state_dict": {}, "evil": Evil(tmp_path / "executed")}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    # Even when Lightning or its user asks to trust the file.
    with pytest.raises(ValueError, match=r"last\.ckpt.*refused") as refused:
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert "weights_only" not in str(refused.value), "no advice to let it run"
    assert ("it names posix.system" in str(refused.value)) == (writer == "torch")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_truncated(part: float, path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_damaged_in_the_middle(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    whole = bytearray(path.read_bytes())
    middle = whole.index(b"data.pkl") + 20
    whole[middle : middle + 30] = b"x" * 30
    path.write_bytes(bytes(whole))
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_not_a_checkpoint(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*last\.ckpt"):
        AtomicCheckpointIO().load_checkpoint(path)
    path.parent.mkdir()
    path.write_text("epoch: 3")
    with pytest.raises(ValueError, match="no checkpoint"):
        AtomicCheckpointIO().load_checkpoint(path)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"no 'state_dict' \(found \['weights'\]\)"):
        AtomicCheckpointIO().load_checkpoint(path)


SAVE_BIG = """
import resource, signal, sys, torch
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.zeros(1_000_000)}}, sys.argv[1])
except OSError as error:
    print("refused", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
def test_full_disk_leaves_the_old_file(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", SAVE_BIG, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert "refused" in done.stdout
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


KILLED = """
import os, signal, sys, torch
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(100_000)}}, sys.argv[1])
"""


def test_killed_inside_a_save_leaves_the_old_file(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=120, check=False)
    assert done.returncode == -9
    assert AtomicCheckpointIO().load_checkpoint(path)["epoch"] == 3


def test_storage_options_are_not_supported(path: Path) -> None:
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint(CHECKPOINT, path, storage_options={})
