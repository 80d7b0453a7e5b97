"""A checkpoint that is a folder, as of distributed training, is refused by every verb; nothing in it is executed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from bertlab.cli import main
from bertlab.cli_checkpoint import check_saves_files
from bertlab.cli_overlays import UsageError
from tests.doubles.evil import Evil
from tests.system.tiny_project import write_project

#: With it, Lightning leaves folders to torch, which unpickles what it finds there.
SHARDED = {
    "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
    "init_args": {
        "data_parallel_size": 1,
        "tensor_parallel_size": 1,
        "save_distributed_checkpoint": False,
    },
}


@pytest.fixture
def folder(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as `torch.distributed.checkpoint` writes it, whose metadata wants to make a file."""
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    made = in_tmp / "runs/run/0/checkpoints/last.ckpt"
    made.mkdir(parents=True)
    torch.save({}, made / "meta.pt")
    (made / ".metadata").write_bytes(pickle.dumps(Evil(in_tmp / "executed")))
    return made


@pytest.mark.parametrize("named", ["last", "by path"])
@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict", "plan", "export"])
def test_every_verb_refuses_it(
    verb: str, named: str, folder: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_project(in_tmp, callbacks=[], max_epochs=1)
    flags = ["--output=out"] if verb == "export" else [f"--trainer.strategy={json.dumps(SHARDED)}"]
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    with pytest.raises(SystemExit):
        main([verb, "--config", str(config), *flags, f"--ckpt_path={'last' if named == 'last' else folder}"])
    said = capsys.readouterr().err
    assert "last.ckpt: a checkpoint that is a folder is refused" in said
    assert "Accepted: a file" in said
    assert not (in_tmp / "executed").exists()
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before


def test_so_does_average(folder: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["average", str(folder), "other.ckpt", "--output=average.ckpt"])
    assert "last.ckpt: a checkpoint that is a folder is refused" in capsys.readouterr().err
    assert not (in_tmp / "executed").exists()
    assert not (in_tmp / "average.ckpt").exists()


def test_strategies_of_the_trainer_that_would_save_one() -> None:
    for fine in (DDPStrategy(), FSDPStrategy(), ModelParallelStrategy(save_distributed_checkpoint=False)):
        check_saves_files(fine)
    with pytest.raises(UsageError, match=r"save_distributed_checkpoint: true .*Accepted: false"):
        check_saves_files(ModelParallelStrategy())
    with pytest.raises(UsageError, match=r"state_dict_type: sharded .*Accepted: full"):
        check_saves_files(FSDPStrategy(state_dict_type="sharded"))
    with pytest.raises(UsageError, match=r"trainer\.strategy: DeepSpeedStrategy .*Accepted: ddp"):
        check_saves_files(DeepSpeedStrategy.__new__(DeepSpeedStrategy))  # without DeepSpeed
