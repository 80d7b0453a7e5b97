"""Results: the table at the end of a test, and results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bertlab.interfaces import HasClassCounts, HasConfusionMatrix
from bertlab.tracking.atomic import atomic_file

#: Metrics that have a better name than their key, in the order in which they are shown; others follow.
_NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "strict_f1": "strict F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "positive_precision": "{positive} precision",
    "positive_recall": "{positive} recall",
    "positive_f1": "{positive} F1",
    "positive_average_precision": "{positive} average precision",
    "mcc": "MCC",
    "calibration_error": "calibration error",
    "loss": "loss",
}
#: Metrics that each type of entity has too, under `<name>_<type>`.
_OF_KINDS = ("precision", "recall", "f1")
#: Confusion matrices of more classes are not printed: they would not fit the terminal.
_MOST_CLASSES = 12


class Results(Callback):
    """Prints the metrics of a test or validation as tables, with the confusion matrix, and keeps them.

    They are kept in <run directory>/results.json, under the name of the split.
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show and keep the metrics of the test."""
        self._show(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same for `bertlab validate`, not for the validations of a fit."""
        if trainer.state.fn == "validate":
            self._show(trainer, pl_module, "val")

    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {
            key.removeprefix(f"{split}/"): float(value)
            for key, value in trainer.callback_metrics.items()
            if key.startswith(f"{split}/") and value.numel() == 1
        }
        matrix = pl_module.confusion_matrix() if isinstance(pl_module, HasConfusionMatrix) else None
        data = getattr(trainer, "datamodule", None)
        names = (data.label_names if isinstance(data, HasClassCounts) else None) or ()
        positive = getattr(pl_module, "positive_label", None) or (names[1] if len(names) == 2 else "positive")
        path = Path(trainer.default_root_dir)
        console = Console()
        kinds = kinds_in(metrics)
        of_kinds = {f"{name}_{kind}" for name in _OF_KINDS for kind in kinds}
        shown = {key: value for key, value in metrics.items() if key not in of_kinds}
        console.print(metrics_table(shown, f"{path.parent.name}/{path.name}: {split} split", positive))
        if kinds:
            console.print(kinds_table(metrics, kinds))
        if matrix is not None and names:
            if len(names) <= _MOST_CLASSES:
                console.print(confusion_table(matrix, names))
            else:
                console.print(f"confusion matrix of {len(names)} classes: see results.json")
        self._keep(path / "results.json", split, metrics, matrix, names)

    @staticmethod
    def _keep(
        path: Path, split: str, metrics: dict[str, float], matrix: Tensor | None, names: Sequence[str]
    ) -> None:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        kept[split] = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        if matrix is not None:
            kept[split]["confusion_matrix"] = {"labels": list(names), "counts": matrix.tolist()}
        with atomic_file(path) as file:
            file.write(json.dumps(kept, indent=2, ensure_ascii=False).encode())


def metrics_table(metrics: dict[str, float], title: str, positive: str) -> Table:
    """A table of metrics, the well-known first.

    Args:
        metrics: without the prefix of their split.
        title: above the table.
        positive: name of the class that `positive_…` metrics are of.
    """
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key in [*(k for k in _NAMES if k in metrics), *sorted(k for k in metrics if k not in _NAMES)]:
        table.add_row(_NAMES.get(key, key).format(positive=positive), f"{metrics[key]:.4f}")
    return table


def kinds_in(metrics: dict[str, float]) -> list[str]:
    """The types of entities that have metrics of their own, in the order of the metrics.

    >>> kinds_in({"f1": 0.5, "precision_geo-loc": 0.5, "recall_geo-loc": 0.5, "f1_geo-loc": 0.5, "f1_x": 1.0})
    ['geo-loc']
    """
    kinds = (key.removeprefix("f1_") for key in metrics if key.startswith("f1_"))
    return [kind for kind in kinds if all(f"{name}_{kind}" in metrics for name in _OF_KINDS)]


def kinds_table(metrics: dict[str, float], kinds: Sequence[str]) -> Table:
    """A row for each type of entity.

    Args:
        metrics: without the prefix of their split.
        kinds: of `kinds_in`.
    """
    table = Table(title="types of entities")
    table.add_column("type")
    for name in _OF_KINDS:
        table.add_column(_NAMES[name], justify="right")
    for kind in kinds:
        table.add_row(kind, *(f"{metrics[f'{name}_{kind}']:.4f}" for name in _OF_KINDS))
    return table


def confusion_table(matrix: Tensor, names: Sequence[str]) -> Table:
    """A confusion matrix as a table.

    Args:
        matrix: (C, C) counts, rows are true classes.
        names: of the C classes.
    """
    table = Table(title="confusion matrix")
    table.add_column("true ↓  predicted →")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, matrix.tolist(), strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    return table
