"""average: one checkpoint with the mean of the weights of several."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from bertlab.cli_overlays import UsageError
from bertlab.prediction.checkpoint_average import average_checkpoints
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"bertlab average: {message}")


def run(args: list[str]) -> None:
    """Do what a command line says; the first word of it is the verb."""
    parser = _Parser(
        prog="bertlab average",
        allow_abbrev=False,
        description="Write a checkpoint whose weights are the equal mean of those of several checkpoints of one task "
        "and model, such as runs/sms_spam/0/checkpoints/cycle-*.ckpt. bertlab test, predict and export take it by "
        "--ckpt_path; training does not go on from it.",
    )
    parser.add_argument("checkpoints", nargs="+", type=Path, help="two files or more")
    parser.add_argument(
        "--output", type=Path, help="file to make; average.ckpt beside the first checkpoint, if not given"
    )
    found = parser.parse_args(args[1:])
    files: list[Path] = found.checkpoints
    output: Path = found.output or files[0].parent / "average.ckpt"
    if output.exists():
        raise FileExistsError(f"--output: {output} is there already; name a file that is not")
    checkpoint = average_checkpoints(files)
    AtomicCheckpointIO().save_checkpoint(checkpoint, output)
    count = sum(value.numel() for value in checkpoint["state_dict"].values())
    print(f"{output}: the mean of {len(files)} checkpoints, {count:,} numbers: {', '.join(map(str, files))}")
