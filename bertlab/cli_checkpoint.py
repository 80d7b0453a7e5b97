"""--ckpt_path: what a verb needs of a checkpoint, which verbs do without one, and what it tells the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.cli_overlays import UsageError
from bertlab.tasks.checkpoint import LABEL_NAMES, TASK, check_is_of
from bertlab.tracking.checkpoint_io import NO_FOLDER, read_checkpoint

#: What --ckpt_path says to evaluate a model as it is before any training.
UNTRAINED = "untrained"


def check_file(checkpoint: Path | None) -> None:
    """Refuse a checkpoint that is a folder.

    Raises:
        UsageError: it is one.
    """
    if checkpoint is not None and checkpoint.is_dir():
        raise UsageError(f"--ckpt_path {checkpoint}: {NO_FOLDER}. Accepted: a file")


def check_saves_files(strategy: Strategy) -> None:
    """Refuse a strategy of the trainer that saves checkpoints as folders, a part of each rank.

    Raises:
        UsageError: it would.
    """
    if isinstance(strategy, ModelParallelStrategy) and strategy._save_distributed_checkpoint:  # pyright: ignore[reportPrivateUsage]
        found, accepted = ".init_args.save_distributed_checkpoint: true", "false"
    elif isinstance(strategy, FSDPStrategy) and strategy._state_dict_type == "sharded":  # pyright: ignore[reportPrivateUsage]
        found, accepted = ".init_args.state_dict_type: sharded", "full"
    elif isinstance(strategy, DeepSpeedStrategy):
        found, accepted = (
            f": {type(strategy).__name__}",
            "ddp, or ModelParallelStrategy as in configs/hardware/fsdp.yaml",
        )
    else:
        return
    raise UsageError(f"trainer.strategy{found} saves such checkpoints: {NO_FOLDER}. Accepted: {accepted}")


def check_resumable(checkpoint: Path | None) -> None:
    """Refuse a checkpoint that training cannot go on from, before anything is made ready for it.

    Raises:
        ValueError: it holds weights alone.
    """
    if checkpoint is None or not checkpoint.is_file():
        return
    if "optimizer_states" not in read_checkpoint(checkpoint, mmap=True):
        raise ValueError(
            f"--ckpt_path {checkpoint}: the checkpoint holds weights alone, from which training cannot go on; "
            "bertlab test, predict and export take it"
        )


def check_trained(verb: str, task: LightningModule, run: str) -> None:
    """Refuse a task without a checkpoint whose head is made anew, and so can say nothing; of others, warn.

    Args:
        verb: validate, test or predict.
        task: one that says whether it `needs_training`; one that does not may have been trained elsewhere, as a masked
            language model whose head comes with the encoder's checkpoint.
        run: its name, for the message.

    Raises:
        UsageError: it needs training.
    """
    if getattr(task, "needs_training", False):
        raise UsageError(
            f"bertlab {verb} without --ckpt_path: the head of {type(task).__name__} is made anew, and has learnt "
            f"nothing. Give --ckpt_path best or last, of the newest run named {run} (run.name, run.version), or a "
            f"file; --ckpt_path {UNTRAINED} takes the model as it is"
        )
    rank_zero_warn(
        f"bertlab {verb} without --ckpt_path: the weights are those that the model was made with; what was not read "
        "from a pretrained one is as it was initialised"
    )


def tell_label_names(checkpoint: Path, task: LightningModule, data: Any) -> None:
    """Tell a data module the labels that a checkpoint knows, in their order.

    The data to test or to predict may lack a class, or have none at all.

    Raises:
        ValueError: the checkpoint is of another task of bertlab, whose labels would say nothing to this data.
    """
    kept = read_checkpoint(checkpoint, mmap=True)
    name = getattr(task, "name", None)
    if TASK in kept and name is not None:
        check_is_of(kept, name)
    names = kept.get(LABEL_NAMES)
    if names is not None and hasattr(type(data), "label_names"):
        # Of several tasks each has names of its own.
        data.label_names = names if isinstance(names, dict) else tuple(names)
