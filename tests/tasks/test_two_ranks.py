"""Two ranks, by DDP and by FSDP2: the metrics of one rank, and its training loss and weights to rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from tests.ranks import on_two_ranks
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step > len(self.seen):
            self.seen.append(float(trainer.callback_metrics["train/loss"]))


def fsdp(tensor_parallel_size: int = 1) -> ModelParallelStrategy:
    return ModelParallelStrategy(
        2 // tensor_parallel_size, tensor_parallel_size, save_distributed_checkpoint=False
    )


def run(folder: Path, ranks: int, **settings: Any) -> dict[str, Any]:
    """Metrics before training, then two epochs of four micro-batches a step, with class weights."""
    losses = Losses()
    trainer = tiny_trainer(
        folder,
        devices=ranks,
        accumulate_grad_batches=4 // ranks,
        max_epochs=2,
        callbacks=[losses],
        **settings,
    )
    task, data = tiny_task(optimizer=lambda p: torch.optim.SGD(p, lr=0.5)), TinyData(rows=93, splits=4)
    (before,) = trainer.validate(task, datamodule=data, verbose=False)
    matrix = task.confusion_matrix().tolist()
    task.set_class_weights(torch.tensor([0.3, 1.0, 6.0]))
    trainer.fit(task, datamodule=data)
    path = folder / f"{ranks}-{trainer.strategy.__class__.__name__}.ckpt"
    trainer.save_checkpoint(path)
    weights = torch.load(path, weights_only=True)["state_dict"] if trainer.is_global_zero else {}
    return {"before": before, "matrix": matrix, "losses": losses.seen, "weights": weights}


def ddp_and_fsdp(folder: Path, **settings: Any) -> dict[str, Any]:
    found = {
        "ddp": run(folder, 2, strategy="ddp", **settings),
        "fsdp": run(folder, 2, strategy=fsdp(), **settings),
    }
    with pytest.raises(ValueError, match="takes tensor_parallel_size 1 and data_parallel_size 2 here"):
        run(folder, 2, strategy=fsdp(tensor_parallel_size=2), **settings)
    return found


def compare(kind: dict[str, Any], other_rank: dict[str, Any], one: dict[str, Any]) -> None:
    assert kind["losses"] == other_rank["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert len(one["losses"]) == 12
    assert kind["weights"].keys() == one["weights"].keys()
    for name, weight in one["weights"].items():
        torch.testing.assert_close(kind["weights"][name], weight, rtol=1e-3, atol=1e-5, check_device=False)


def test_two_ranks_are_as_one(tmp_path):
    one = run(tmp_path, 1)
    first, second = on_two_ranks(ddp_and_fsdp, tmp_path, tmp_path)
    for kind in ("ddp", "fsdp"):
        # Metrics are computed from the rows of all ranks in order: not even a rounding apart.
        assert first[kind]["before"] == second[kind]["before"] == one["before"]
        assert first[kind]["matrix"] == second[kind]["matrix"] == one["matrix"]
        compare(first[kind], second[kind], one)


def on_gpus(folder: Path) -> dict[str, Any]:
    return ddp_and_fsdp(folder, accelerator="gpu")


@pytest.mark.gpu
def test_two_gpus_are_as_one(tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    one = run(tmp_path, 1, accelerator="gpu")
    first, second = on_two_ranks(on_gpus, tmp_path, tmp_path)
    for kind in ("ddp", "fsdp"):
        compare(first[kind], second[kind], one)
