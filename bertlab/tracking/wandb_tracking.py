"""WandbTracking: the run in Weights & Biases. The only file that knows wandb."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from bertlab.tracking.wandb_mode import mode_of
from bertlab.tracking.wandb_settings import WandbSettings

_STEP = "trainer/global_step"


class WandbTracking(WandbLogger):
    """Metrics, events of strategies, plots and the best checkpoint, in the W&B run of a run directory.

    Offline unless asked otherwise: then everything lies under <run>/wandb/ and `wandb sync` sends it. All
    processes that work on one run directory (a resume, a test) log into one W&B run. It is started at first use,
    on rank 0. A run of bertlab never asks for a key, never waits for a network and never fails because of W&B:
    if W&B does, there is one warning and the run goes on without.

    Args:
        directory: the run directory.
        settings: mode, project and so on. The environment variable WANDB_MODE has precedence over the mode.
    """

    def __init__(self, directory: Path, settings: WandbSettings) -> None:
        self._directory, self._settings = directory, settings
        super().__init__(name=f"{directory.parent.name}/{directory.name}", project=settings.project)
        self._run: Any = None
        self._broken = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb run; started when first asked for. A disabled one if W&B does not work."""
        if self._run is None:
            self._run = self._start()
        return self._run

    @property
    def save_dir(self) -> str:
        """The run directory; W&B makes its own folder in it."""
        return str(self._directory)

    @property
    def version(self) -> str | None:
        """Nothing: the run directory is versioned."""
        return None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers against the optimizer steps done."""
        self._try(lambda: self.experiment.log({**metrics, _STEP: step}))

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Keep the resolved configuration."""
        self._try(lambda: super(WandbTracking, self).log_hyperparams(params))

    @rank_zero_only
    def record_event(self, step: int, epoch: int, strategy: str, what: str, facts: Mapping[str, Any]) -> None:
        """Log an event of a strategy as `strategy/<name>/<what>/<fact>`; see `interfaces.RecordsEvents`."""
        entries = dict(_flat(f"strategy/{strategy}/{what}", facts))
        self._try(lambda: self.experiment.log({**entries, _STEP: step}))

    @rank_zero_only
    def log_confusion_matrix(self, key: str, counts: Tensor, names: Sequence[str], step: int) -> None:
        """Log a confusion matrix as a plot.

        Args:
            key: name of the plot.
            counts: (C, C), rows are true classes.
            names: of the C classes.
            step: optimizer steps done.
        """
        rows = [
            [true, predicted, int(counts[i, j])]
            for i, true in enumerate(names)
            for j, predicted in enumerate(names)
        ]
        columns = {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}
        self._plot(key, "wandb/confusion_matrix/v1", columns, rows, step)

    @rank_zero_only
    def log_precision_recall(
        self, key: str, curves: Mapping[str, tuple[Tensor, Tensor]], step: int, points: int = 50
    ) -> None:
        """Log precision over recall of each class as a plot.

        Args:
            key: name of the plot.
            curves: of each class, precision and recall of falling thresholds, each (n,).
            step: optimizer steps done.
            points: at most so many of each curve are shown, evenly chosen.
        """
        rows: list[list[Any]] = []
        for name, (precision, recall) in curves.items():
            count = min(points, len(precision))
            chosen = [round(i * (len(precision) - 1) / max(1, count - 1)) for i in range(count)]
            rows += [[name, round(float(recall[i]), 4), round(float(precision[i]), 4)] for i in chosen]
        columns = {"class": "class", "x": "recall", "y": "precision"}
        self._plot(key, "wandb/area-under-curve/v0", columns, rows, step)

    @rank_zero_only
    def log_best_checkpoint(self, path: Path, score: float | None) -> None:
        """Keep a checkpoint as the artifact of this run; only if `wandb.log_checkpoint` is on."""
        if not self._settings.log_checkpoint or self._mode() == "disabled":
            return

        def send() -> None:
            artifact = wandb.Artifact(
                f"{self._directory.parent.name}-checkpoint", type="model", metadata={"best_score": score}
            )
            # Not copied: checkpoints are replaced, never written into.
            artifact.add_file(str(path), name="best.ckpt", policy="immutable")
            self.experiment.log_artifact(artifact, aliases=["best"])

        self._try(send)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing at the end of fit or test, since one may follow the other; see `close`."""

    @rank_zero_only
    def close(self, exit_code: int = 0) -> None:
        """End the W&B run; also one that something failed in, so that what it was given until then is kept."""
        if self._run is None:
            return
        run, self._run = self._run, None
        self._guard(lambda: run.finish(exit_code=exit_code))

    def _plot(self, key: str, spec: str, fields: dict[str, str], rows: list[list[Any]], step: int) -> None:
        def send() -> None:
            table = wandb.Table(columns=list(fields.values()), data=[tuple(row) for row in rows])
            plot = wandb.plot_table(spec, table, fields, string_fields={"title": key})
            self.experiment.log({key: plot, _STEP: step})

        self._try(send)

    def _mode(self) -> str:
        return "disabled" if self._broken else mode_of(self._settings)

    def _start(self) -> Any:
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,  # the progress bar has the terminal, and log lines would tear it
            console="off",
            init_timeout=20.0,
            x_disable_stats=True,
        )

        def start(mode: Any) -> Any:
            run = wandb.init(
                mode=mode,
                id=_run_id(self._directory) if mode != "disabled" else None,
                resume="allow" if mode == "online" else None,
                project=self._settings.project,
                entity=self._settings.entity,
                group=self._settings.group,
                tags=list(self._settings.tags),
                name=f"{self._directory.parent.name}/{self._directory.name}",
                dir=str(self._directory),
                settings=settings,
                reinit="create_new",
            )
            run.define_metric(_STEP)
            run.define_metric("*", step_metric=_STEP, step_sync=True)
            return run

        try:
            return start(self._mode())
        except Exception as error:  # whatever keeps W&B from starting, training must not depend on it
            self._give_up(error)
            return start("disabled")

    def _try(self, call: Callable[[], Any]) -> None:
        """Do something with W&B, unless it is off or has failed before."""
        if self._mode() != "disabled":
            self._guard(call)

    def _guard(self, call: Callable[[], Any]) -> None:
        """Do something with W&B; if it fails, warn once and go on without W&B."""
        try:
            call()
        except Exception as error:  # its service has died, the disk is full: training must not depend on it
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self._broken:
            warnings.warn(
                f"Weights & Biases does not work, the run goes on without it: {type(error).__name__}: {error}",
                stacklevel=2,
            )
        self._broken = True


def _run_id(directory: Path) -> str:
    """The id of the W&B run of a run directory: made at first need and kept there."""
    file = directory / "wandb" / "run_id"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(6))
    return file.read_text().strip()


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Flat keys of nested facts: numbers and strings as they are, lists as one string."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(f"{key}/{name}", item)
    elif isinstance(value, list | tuple):
        yield key, " ".join(str(item) for item in value)
    elif value is not None:
        yield key, value
