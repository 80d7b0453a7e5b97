"""plan: what a fit would do, before it does it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from bertlab.callbacks.optimizer_modes import OptimizerModes
from bertlab.callbacks.step_seed import StepSeed
from bertlab.cli_lightning import BertlabCLI
from bertlab.cli_links import as_list, run_seed
from bertlab.cli_parsing import run_cli
from bertlab.planning.page import page
from bertlab.planning.picture import draw
from bertlab.planning.plan_settings import PlanSettings
from bertlab.planning.rehearsal import Rehearsal
from bertlab.planning.steps_csv import write_steps
from bertlab.planning.table import show
from bertlab.tracking.atomic import atomic_file
from bertlab.tracking.awaited_validations import AwaitedValidations
from bertlab.tracking.config_file import ConfigFile
from bertlab.tracking.run_choice import choose_plan, existing_run
from bertlab.tracking.run_directory import RunDirectory
from bertlab.tracking.watched_metrics import WatchedMetrics


def run(args: list[str]) -> None:
    """Do what a command line of `bertlab plan` says."""
    run_cli(PlanCLI, args)


class PlannedConfigFile(ConfigFile):
    """What was planned, for `bertlab fit --config` to do it."""

    left_out = ("plan",)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: a plan that cannot be made leaves no file."""


class Planner(Trainer):
    """A trainer that is set up for a fit, and plans it."""

    def plan(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Show what a fit with the same options would do: what trains when, at which rate, for how long.

        Args:
            model: the task.
            datamodule: its data.
            ckpt_path: `best`, `last` or a file, to plan what a resumed fit would do.
        """
        # A plan has not all callbacks of the fit: what the others left in the checkpoint is not asked for.
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
        self.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)


class PlanCLI(BertlabCLI):
    """The keys of fit, and those of the plan."""

    trainer_type = Planner
    config_file = PlannedConfigFile
    compiles = False

    def subcommands(self) -> dict[str, set[str]]:
        """The verb, and the arguments that are not keys."""
        return {"plan": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys of fit, and `plan.*`."""
        super().add_arguments_to_parser(parser)
        # Not as a group, since the arguments of the method `plan` are one of this name.
        parser.add_class_arguments(PlanSettings, "plan", as_group=False)

    def choose_directory(self, config: Namespace, verb: str, wanted: str | None) -> RunDirectory:
        """A directory of the plan's own: nothing in that of a run is touched."""
        return choose_plan(Path(config.run.root), config.run.name)

    def checkpointed_run(self, config: Namespace, wanted: str) -> RunDirectory:
        """The run that would be resumed."""
        found = existing_run(Path(config.run.root), config.run.name, config.run.version, "fit", wanted)
        assert found is not None  # there is one for "best" and "last", or an error
        return found

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Fit's trainer, without what shows or checks a training under way."""
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
        return super().instantiate_trainer(**kwargs, **quiet)

    def after_plan(self) -> None:
        """Show the plan, and write it.

        Raises:
            ValueError: the training has no step that is still to be taken.
        """
        plan, trainer = self._rehearsal.plan, self.trainer
        if plan is None:
            raise ValueError(
                f"there is nothing to plan: {trainer.global_step} optimizer steps have been taken, and training ends "
                f"there (trainer.max_epochs {trainer.max_epochs}, trainer.max_steps {trainer.max_steps}, "
                f"trainer.limit_train_batches {trainer.limit_train_batches})"
            )
        if not trainer.is_global_zero:
            return
        folder = self.run_directory.path
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        for callback in callbacks:
            if isinstance(callback, PlannedConfigFile):
                callback.save_config(trainer, self.model, "fit")
        picture = draw(plan)
        write_steps(plan, folder / "plan.csv")
        for name, content in (("plan.png", picture), ("report.html", page(plan, picture).encode())):
            with atomic_file(folder / name) as file:
                file.write(content)
        show(plan)
        if self._config.run.compile:
            print(
                "run.compile: times are those of the model as it is; fit compiles its layers when they first run"
            )
        print(f"{folder}: report.html, plan.png, plan.csv")

    def make_callbacks(self, config: Namespace) -> list[Any]:
        """Those of the fit that have a say in what will be, and the one that writes it down."""
        self._rehearsal = Rehearsal(config.run.name, PlanSettings(**vars(config.plan)))
        wanted = [c for c in as_list(config.trainer.callbacks) if not isinstance(c, ProgressBar)]
        checkpoints = [] if config.trainer.enable_checkpointing is False else [config.checkpoints]
        first = [
            *checkpoints,
            AwaitedValidations(),
            StepSeed(run_seed(config)),
            OptimizerModes(),
            self._rehearsal,
        ]
        return [*first, *wanted, WatchedMetrics()]

    def make_loggers(self, config: Namespace) -> list[Logger] | bool:
        """None."""
        return False
