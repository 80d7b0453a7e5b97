"""ConfigFile: the resolved configuration, kept with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from bertlab.tracking.atomic import atomic_file


class ConfigFile(SaveConfigCallback):
    """Writes config.yaml into the run directory, whole or not at all, and hands it to the loggers.

    `bertlab fit --config runs/<name>/<version>/config.yaml` runs the same again. A file that is there from
    before (a resumed run) is replaced. Verbs other than fit write config-<verb>.yaml beside it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

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
        with atomic_file(Path(trainer.default_root_dir) / name) as file:
            file.write(text.encode())
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(text))
