"""Draw the schedules of configs/schedules as their files set them.

python -m experiments.draw_schedules configs/schedules/schedules.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from jsonargparse import ArgumentParser

from bertlab.schedules.schedule import Schedule
from experiments.commands import ROOT

POINTS = 1000


def schedule(path: Path) -> Schedule:
    """The schedule of a file."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(Schedule, "schedule")
    return parser.instantiate(parser.parse_args([f"--schedule={path}"])).schedule


def main(picture: str) -> None:
    """A panel for each file, all of one scale."""
    files = sorted((ROOT / "configs" / "schedules").glob("*.yaml"))
    figure, axes = plt.subplots(3, 3, figsize=(9, 5), sharex=True, sharey=True, layout="constrained")
    for axis, path in zip(axes.flat, files, strict=True):
        made = schedule(path)
        progress = [index / POINTS for index in range(POINTS + 1)]
        axis.plot(progress, [made(value) for value in progress], color="#1b2a41")
        axis.set_title(path.stem, fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("part of training done", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("factor of the rate", fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
