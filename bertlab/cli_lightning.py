"""fit, validate, test and predict: Lightning's command line, with bertlab's links and defaults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from bertlab.allocator import keep_few_programs, keep_freed_memory
from bertlab.callbacks.optimizer_modes import OptimizerModes
from bertlab.callbacks.step_seed import StepSeed
from bertlab.cli_after_fit import evaluate_best
from bertlab.cli_checkpoint import (
    UNTRAINED,
    check_file,
    check_resumable,
    check_saves_files,
    check_trained,
    tell_label_names,
)
from bertlab.cli_compile import compile_model
from bertlab.cli_hardware import check_fsdp1_has_gpus, warn_of_emulated_bfloat16
from bertlab.cli_links import as_list, data_seed, run_seed, tokenizer_source
from bertlab.cli_overlays import UsageError
from bertlab.cli_parsing import Parser, run_cli
from bertlab.prediction.writer import PredictionWriter
from bertlab.tracking.awaited_validations import AwaitedValidations
from bertlab.tracking.checkpoint_io import AtomicCheckpointIO
from bertlab.tracking.checkpoints import Checkpoints
from bertlab.tracking.config_file import ConfigFile
from bertlab.tracking.evaluation_plots import EvaluationPlots
from bertlab.tracking.final_checkpoint import FinalCheckpoint
from bertlab.tracking.learning_rates import LearningRates
from bertlab.tracking.metrics_csv import MetricsCsv
from bertlab.tracking.progress import Progress
from bertlab.tracking.results import Results
from bertlab.tracking.run_choice import choose_run, default_name
from bertlab.tracking.run_directory import RunDirectory
from bertlab.tracking.run_settings import RunSettings
from bertlab.tracking.time_limit import TimeLimit, duration_of
from bertlab.tracking.timeline import Timeline
from bertlab.tracking.wandb_settings import WandbSettings
from bertlab.tracking.watched_metrics import WatchedMetrics


def run(args: list[str]) -> None:
    """Do what a command line of one of these verbs says."""
    run_cli(BertlabCLI, args)


class BertlabCLI(LightningCLI):
    """The verbs of Lightning's trainer, for any task (`model`) and any data module (`data`).

    Args:
        args: the command line, the verb first.
        at_end: takes what has to be closed when the command ends, however it ends.
    """

    trainer_type: type[Trainer] = Trainer
    config_file: type[ConfigFile] = ConfigFile
    #: whether the verb runs the model often enough to heed `run.compile`.
    compiles = True

    def __init__(self, args: list[str], at_end: ExitStack) -> None:
        self._at_end, self._verb = at_end, args[0]
        self.run_directory: RunDirectory
        self.checkpoint: Path | None = None
        keep_few_programs()
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=self.config_file,
            trainer_class=self.trainer_type,
            trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 10},
            seed_everything_default=42,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The verb, and the arguments that are not keys; the keys of other verbs take long to make."""
        return {self._verb: LightningCLI.subcommands()[self._verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys of bertlab beside Lightning's, and the links."""
        parser.add_class_arguments(RunSettings, "run")
        parser.add_class_arguments(Checkpoints, "checkpoints")
        parser.add_class_arguments(WandbSettings, "wandb")
        # A text has to be cut into the pieces that the encoder knows: its tokenizer, unless another is named.
        parser.link_arguments(("model", "data"), "data.init_args.tokenizer", compute_fn=tokenizer_source)
        # One seed for everything, the order of the training data too, unless that is given its own.
        parser.link_arguments(("seed_everything", "data"), "data.init_args.seed", compute_fn=data_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, choose the run directory, and find the file that --ckpt_path means."""
        self.config = parser.parse_args(args)
        verb: str = self.config.subcommand
        config: Namespace = self.config[verb]
        if config.trainer.max_time is not None:
            _check_max_time(config.trainer.max_time)
        config.run.name = config.run.name or default_name(config.config, config.model.class_path)
        given = config.get("ckpt_path")
        self._wants_untrained = str(given) == UNTRAINED and verb in {"validate", "test", "predict"}
        wanted: str | None = None if self._wants_untrained else given and str(given)
        self._at_end.push(self._remove_empty_run)
        self.run_directory = self.choose_directory(config, verb, wanted)
        self._is_new_run = self.run_directory.is_new
        if wanted in {"best", "last"}:
            self.checkpoint = self.checkpointed_run(config, wanted).checkpoint(wanted)
        elif wanted:
            self.checkpoint = Path(wanted)
        check_file(self.checkpoint)
        # Kept out of the saved configuration, and from Lightning, which would load the file here to look into it.
        if "ckpt_path" in config:
            config.ckpt_path = None

    def choose_directory(self, config: Namespace, verb: str, wanted: str | None) -> RunDirectory:
        """Where the command keeps what it leaves behind."""
        return choose_run(Path(config.run.root), config.run.name, config.run.version, verb, wanted)

    def checkpointed_run(self, config: Namespace, wanted: str) -> RunDirectory:
        """The run whose best or last checkpoint is meant."""
        return self.run_directory

    def before_instantiate_classes(self) -> None:
        """Set what has to hold before any module is made."""
        torch.set_float32_matmul_precision(self._config.run.float32_matmul_precision)

    def instantiate_classes(self) -> None:
        """Make all, and have the model compiled if that is wanted."""
        super().instantiate_classes()
        if self.compiles and self._config.run.compile:
            compile_model(self.model, self.trainer, self._at_end)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with what is always on beside what the configuration asks for."""
        config = self.config_init[str(self.subcommand)]
        wanted = config.trainer
        check_fsdp1_has_gpus(wanted.strategy, wanted.accelerator)
        if self.subcommand in {"test", "validate"}:
            config.verbose = False  # the table of results is ours
        if self.subcommand == "predict":
            config.return_predictions = False  # the writer keeps them
        config.ckpt_path = None if self.checkpoint is None else str(self.checkpoint)
        config.weights_only = True  # for strategies that read checkpoints past our CheckpointIO
        plugins = as_list(wanted.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        callbacks, loggers = self.make_callbacks(config), self.make_loggers(config)
        _check_once(callbacks)
        if any(isinstance(callback, TimeLimit) for callback in callbacks):
            kwargs["max_time"] = None  # which would make a timer of Lightning's
        try:
            trainer = super().instantiate_trainer(
                default_root_dir=str(self.run_directory.path),
                callbacks=callbacks,
                logger=loggers,
                plugins=plugins,
                **kwargs,
            )
        except ValueError as error:  # Lightning's, of values that do not go together
            raise UsageError(f"trainer: {error}") from error
        check_saves_files(trainer.strategy)
        warn_of_emulated_bfloat16(trainer)
        if trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        # Lightning puts checkpoint callbacks last; ours has to save before any other touches the next step.
        trainer.callbacks.sort(key=lambda callback: not isinstance(callback, Checkpoints))  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

    def before_fit(self) -> None:
        """Refuse a checkpoint that training cannot go on from."""
        check_resumable(self.checkpoint)

    def before_validate(self) -> None:
        """Refuse a model that has learnt nothing or something else; tell the data the labels of the checkpoint."""
        if self.checkpoint is not None and self.checkpoint.is_file():
            tell_label_names(self.checkpoint, self.model, self.datamodule)
        elif self.checkpoint is None and not self._wants_untrained:
            check_trained(str(self.subcommand), self.model, self._config.run.name)

    before_test = before_predict = before_validate

    def after_fit(self) -> None:
        """Test the best checkpoint."""
        if self._config.run.test_after_fit:
            evaluate_best(self.trainer, self.model, self.datamodule)

    def _remove_empty_run(self, kind: type[BaseException] | None, *_: Any) -> None:
        """A run that failed before it began leaves no directory."""
        if not hasattr(self, "_is_new_run") or getattr(rank_zero_only, "rank", 0) != 0:
            return
        if kind is not None and self._is_new_run:
            self.run_directory.remove_unless_begun()
        else:
            self.run_directory.remove_if_empty()

    @property
    def _config(self) -> Namespace:
        return self.config[self.config.subcommand]

    def make_callbacks(self, config: Namespace) -> list[Any]:
        """What is always on, and the configured callbacks between, in the order in which they act."""
        wanted: list[Any] = as_list(config.trainer.callbacks)
        if self.subcommand == "predict":
            return [*wanted, PredictionWriter(self.run_directory.predictions)]
        always: list[Any] = [EvaluationPlots(), Results()]
        if config.trainer.enable_progress_bar is not False and not any(
            isinstance(c, ProgressBar) for c in wanted
        ):
            always.append(Progress())
        if self.subcommand != "fit":
            return [*wanted, *always]
        keeper = None if config.trainer.enable_checkpointing is False else config.checkpoints
        first: list[Any] = [] if keeper is None else [keeper]
        if config.trainer.max_time is not None:
            first.append(TimeLimit(config.trainer.max_time, keeper))
        first += [AwaitedValidations(), StepSeed(run_seed(config)), Timeline(self.run_directory.timeline)]
        always += [OptimizerModes(), WatchedMetrics()]
        if keeper is not None:
            always.append(FinalCheckpoint(keeper))
        return [*first, *wanted, LearningRates(), *always]

    def make_loggers(self, config: Namespace) -> list[Logger] | bool:
        """What keeps the metrics; False: nothing does."""
        if config.trainer.logger is False or self.subcommand == "predict":
            return False
        loggers: list[Logger] = [] if config.trainer.logger is True else as_list(config.trainer.logger)
        if config.wandb.mode != "disabled":
            from bertlab.tracking.wandb_tracking import WandbTracking

            tracking = WandbTracking(self.run_directory.path, config.wandb)
            self._at_end.push(lambda kind, *_: tracking.close(exit_code=int(kind is not None)))
            loggers.insert(0, tracking)
        if self.subcommand == "fit":
            loggers.insert(0, MetricsCsv(self.run_directory.metrics))
        return loggers


def _check_once(callbacks: Sequence[Callback]) -> None:
    """Refuse two callbacks that a checkpoint could not tell apart, which Lightning refuses in words for programmers."""
    keeping = [callback for callback in callbacks if is_overridden("state_dict", callback, Callback)]
    twice = [key for key, number in Counter(callback.state_key for callback in keeping).items() if number > 1]
    if twice:
        name = next(type(callback).__name__ for callback in keeping if callback.state_key == twice[0])
        raise UsageError(
            f"trainer.callbacks has {name} more than once: take one of them out of trainer.callbacks"
        )


def _check_max_time(max_time: Any) -> None:
    """Refuse a bad `trainer.max_time` before anything is loaded."""
    try:
        duration_of(max_time)
    except ValueError as error:
        raise UsageError(str(error)) from error
