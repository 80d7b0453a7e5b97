"""run.test_after_fit: what is tested when a fit has ended."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.tracking.time_limit import stopped_by_time


def evaluate_best(trainer: Trainer, task: LightningModule, data: LightningDataModule) -> None:
    """Test the best checkpoint; without one the weights at the end of training, unless that is still to come.

    Args:
        trainer: has ended a fit.
        task: that was trained.
        data: that it was trained on.
    """
    if not _has_test(task, data):
        return
    keeper = trainer.checkpoint_callback
    best: str | None = (keeper and keeper.best_model_path) or None  # pyright: ignore
    if best is None and keeper is not None and trainer.enable_validation and stopped_by_time(trainer):
        rank_zero_warn(
            "nothing is tested: there is no best checkpoint yet, since trainer.max_time stopped training before a "
            "validation; bertlab test … --ckpt_path last tests the weights as they are"
        )
        return
    if best is None:
        rank_zero_warn("there is no best checkpoint, so the weights at the end of training are tested")
    trainer.test(task, datamodule=data, ckpt_path=best, verbose=False)


def _has_test(task: LightningModule, data: LightningDataModule) -> bool:
    """Whether task and data module both say how to test, and the data module does not say that there is nothing."""
    return (
        type(task).test_step is not LightningModule.test_step
        and type(data).test_dataloader is not LightningDataModule.test_dataloader
        and getattr(data, "has_test", True)
    )
