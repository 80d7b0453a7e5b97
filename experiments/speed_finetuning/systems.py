"""The commands that are compared, each run in a process of its own, and what is read from what they leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from experiments.commands import BERTLAB, PYTHON, Cost, flags_of, run_command
from experiments.fits import FIT, clock_flags, read_scores, run_flags
from experiments.rates import read_clock, throughput
from experiments.turns import Place, options_of

BATCH_SIZE, LEARNING_RATE, WARMUP = 32, 5e-5, 0.1  # of finetune.yaml, which has bertlab's defaults


@dataclass(frozen=True)
class Bench:
    """What all runs of a part of the study have in common.

    Attributes:
        config: of bertlab.
        source: folder of train.csv, validation.csv, test.csv.
        work: folder for what runs leave.
        warm_up_epochs: left out of rates.
    """

    config: str
    source: str
    work: Path
    warm_up_epochs: int

    def fit(
        self,
        system: str,
        settings: Mapping[str, Any],
        seed: int,
        epochs: int,
        place: Place | None = None,
    ) -> dict[str, Any]:
        """Train one system, alone or in turn with others; its row of results."""
        folder = self.folder("fit", system, seed)
        if system.startswith("bertlab"):
            cost = self.bertlab_fit(folder, settings.get("overlay"), seed, epochs, place)
            scores = read_scores(folder / FIT)
        else:
            command = [PYTHON, "-m", "experiments.hf_trainer", "fit", *self._hf_options(settings, folder)]
            command += ["--seed", str(seed), "--epochs", str(epochs), "--batch_size", str(BATCH_SIZE)]
            command += ["--learning_rate", str(LEARNING_RATE), "--warmup_fraction", str(WARMUP)]
            command += [] if place is None else options_of(place)
            cost = run_command(command, folder / "log.txt")
            scores = json.loads((folder / "results.json").read_text(encoding="utf-8"))["best"]
        clock = read_clock(folder / "clock.json")
        rates = throughput(clock, self.warm_up_epochs)
        return {
            "examples_per_second": rates.examples,
            "tokens_per_second": rates.tokens,
            "step_seconds": rates.step_seconds,
            "rows_per_epoch": clock["rows_per_epoch"],
            "tokens_per_epoch": clock["tokens_per_epoch"],
            "peak_mib": cost.peak_mib,
            "test_loss": float(scores["loss"]),
            "macro_f1": float(scores["macro_f1"]),
        }

    def bertlab_fit(
        self,
        folder: Path,
        overlay: str | None,
        seed: int,
        epochs: int,
        place: Place | None = None,
        flags: Sequence[str] = (),
    ) -> Cost:
        """`bertlab fit` with everything it logs by default, and the clock."""
        command = [BERTLAB, "fit", *self._bertlab_options(overlay, folder, place), *run_flags(folder)]
        command += ["--seed_everything", str(seed), "--trainer.max_epochs", str(epochs), *flags]
        return run_command(command, folder / "log.txt")

    def predict(
        self, system: str, settings: Mapping[str, Any], seed: int, checkpoint: Path
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Predict the test split with the weights of a checkpoint; the row of results, (n, C) probabilities."""
        folder = self.folder("predict", system, seed)
        if system.startswith("bertlab"):
            command = [BERTLAB, "predict", *self._bertlab_options(settings.get("overlay"), folder)]
            command += [*run_flags(folder, "predict"), "--ckpt_path", str(checkpoint)]
        else:
            command = [PYTHON, "-m", "experiments.hf_trainer", "predict", *self._hf_options(settings, folder)]
            command += ["--checkpoint", str(checkpoint), "--batch_size", str(BATCH_SIZE)]
        cost = run_command(command, folder / "log.txt")
        clock = read_clock(folder / "clock.json")
        row = {
            "examples_per_second": clock["rows"] / clock["seconds"],
            "rows_per_epoch": clock["rows"],
            "command_seconds": cost.seconds,
            "peak_mib": cost.peak_mib,
        }
        return row, _probabilities(folder)

    def folder(self, verb: str, system: str, seed: int) -> Path:
        """Where a run leaves what it makes."""
        return self.work / f"{verb}_{system}_{seed}"

    def _bertlab_options(self, overlay: str | None, folder: Path, place: Place | None = None) -> list[str]:
        configs = ["--config", self.config, *(["--config", overlay] if overlay else [])]
        return [
            *configs,
            *("--data.init_args.source", self.source, "--data.init_args.deduplicate", "false"),
            *clock_flags(folder / "clock.json", place),
        ]

    def _hf_options(self, settings: Mapping[str, Any], folder: Path) -> list[str]:
        options = ["--config", self.config, "--source", self.source, "--output", str(folder)]
        return options + flags_of(settings)


def _probabilities(folder: Path) -> np.ndarray:
    """(n, C): of the peer a numpy file, of bertlab the columns of its table of predictions."""
    if (folder / "probabilities.npy").exists():
        return np.load(folder / "probabilities.npy")
    table = pq.read_table(folder / "predict" / "0" / "predictions" / "test.parquet")
    columns = [name for name in table.column_names if name.startswith("probability_")]
    return np.stack([table.column(name).to_numpy() for name in columns], axis=1)
