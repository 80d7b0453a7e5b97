"""ConfigFile: the resolved configuration, kept with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from bertlab.tracking.atomic import atomic_file
from bertlab.tracking.changed_settings import changed_settings

#: Keys that say how long a run is, where it is kept and what is shown of it, and nothing else of the training.
OF_THE_RUN = ("run.", "wandb.", "checkpoints.", "config", "trainer.max_", "trainer.enable_", "trainer.logger")


class ConfigFile(SaveConfigCallback):
    """Writes config.yaml into the run directory, whole or not at all, and hands it to the loggers.

    `bertlab fit --config runs/<name>/<version>/config.yaml` runs the same again. A file that is there from
    before (a resumed run) is replaced. Verbs other than fit write config-<verb>.yaml beside it.

    A training that goes on from the checkpoint of a run with other settings than that run had says which.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})
        #: the configuration of a fit, and the one that stood in its file before.
        self._own: dict[str, Any] = {}
        self._replaced: dict[str, Any] | None = None

    #: keys that the configuration of a fit does not have.
    left_out: ClassVar[tuple[str, ...]] = ()

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file and tell the loggers; on rank 0 only, which Lightning sees to."""
        verb = TrainerFn(stage).value  # an f-string of the enum itself gives its name in Python
        name = "config.yaml" if verb == "fit" else f"config-{verb}.yaml"
        config = self.config.clone()
        for key in self.left_out:
            config.pop(key)
        text = self.parser.dump(config, skip_link_targets=False, skip_unset=False)
        file, written = Path(trainer.default_root_dir) / name, yaml.safe_load(text)
        if verb == "fit":
            self._own, self._replaced = written, _read(file)
        with atomic_file(file) as opened:
            opened.write(text.encode())
        for logger in trainer.loggers:
            logger.log_hyperparams(written)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what has changed, now that training stands where the checkpoint does."""
        changed = self._changed(trainer)
        if not changed:
            return
        shown = "; ".join(f"{key}: {_shown(was)} → {_shown(now)}" for key, (was, now) in changed.items())
        rank_zero_warn(
            f"training goes on with other settings than it had: {shown}. What the checkpoint holds is kept; "
            "strategies go on in the stages that they have reached"
        )

    def _changed(self, trainer: Trainer) -> dict[str, tuple[Any, Any]]:
        """The settings in which a training differs from the run whose checkpoint it goes on from; on rank 0."""
        if trainer.ckpt_path is None or not self._own:
            return {}
        run, before = Path(trainer.ckpt_path).resolve().parent.parent, self._replaced
        if run != Path(trainer.default_root_dir).resolve():
            before = _read(run / "config.yaml")
        changed = changed_settings(before or {}, self._own)
        return {key: values for key, values in changed.items() if not key.startswith(OF_THE_RUN)}


def _read(file: Path) -> dict[str, Any] | None:
    """The configuration of a run; None where there is none that can be read, which is no reason not to go on."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        rank_zero_warn(f"{file} cannot be read, so nobody knows what has changed since: {error}")
        return None
    return found if isinstance(found, dict) else None


def _shown(value: Any) -> str:
    return "(nothing)" if value == "" else f"{value!s:.80}"
