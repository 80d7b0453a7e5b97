"""find-lr: which learning rates a training can begin with, from a short sweep over them."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng
from rich.console import Console

from bertlab import cli_lightning
from bertlab.callbacks.optimizer_modes import OptimizerModes
from bertlab.callbacks.rate_sweep import RateSweep
from bertlab.callbacks.step_seed import StepSeed
from bertlab.cli_lightning import BertlabCLI
from bertlab.cli_links import as_list, run_seed
from bertlab.cli_overlays import UsageError, files_with, without_flags
from bertlab.cli_parsing import run_cli
from bertlab.schedules.range_test import RangeTest
from bertlab.tasks.finite_loss import NonFiniteLossError
from bertlab.tracking.progress import Progress
from bertlab.tracking.range_report import RangeReport
from bertlab.tracking.run_choice import choose_run
from bertlab.tracking.run_directory import RunDirectory

#: The keys of this verb alone.
OWN = (*(field.name for field in dataclasses.fields(RangeTest)), "then_fit")
LR = "model.init_args.optimizer.init_args.lr"


def run(args: list[str]) -> None:
    """Do what a command line of `bertlab find-lr` says, and then, if it says so, the fit.

    The fit is the one of the same command line with `--model.optimizer.lr` added: the sweep has run in objects of
    its own, and the generators of random numbers are put back.
    """
    rates: list[float] = []

    def sweep(args: list[str], at_end: ExitStack) -> None:
        rate = FindLrCLI(args, at_end).rate
        if rate is not None:
            rates.append(rate)

    # Lightning's verbs are methods of a trainer, whose names have no hyphens.
    with isolate_rng():
        run_cli(sweep, ["find_lr", *args[1:]])
    for rate in rates:
        print(f"bertlab fit … --{LR} {rate:g}", flush=True)
        cli_lightning.run(["fit", *without_flags(args[1:], OWN), f"--{LR}", str(rate)])


class RateFinder(Trainer):
    """Stands where the command line expects the verbs."""

    def find_lr(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        lr_min: float = RangeTest.lr_min,
        lr_max: float = RangeTest.lr_max,
        steps: int = RangeTest.steps,
        smoothing: float = RangeTest.smoothing,
        divergence: float = RangeTest.divergence,
        then_fit: Literal["steepest", "minimum_tenth"] | None = None,
    ) -> None:
        """Train for some steps at ever higher learning rates, and say which are good ones to begin with.

        Args:
            model: the task.
            datamodule: its training batches, in their real order.
            lr_min: rate of the first step, above 0.
            lr_max: rate of the last step.
            steps: optimizer steps, 10 or more.
            smoothing: of the loss, in [0, 1): weight of the mean so far in the next one.
            divergence: give up when the loss is so many times the lowest it has been; above 1.
            then_fit: fit with a rate that was found: where the loss fell fastest, or a tenth of the lowest loss's.
        """
        with suppress(NonFiniteLossError):  # the end of the sweep: the rates up to here count
            self.fit(model, datamodule=datamodule)


class FindLrCLI(BertlabCLI):
    """The keys of fit, and those of the sweep.

    Attributes:
        rate: to fit with; None: no fit was asked for.
    """

    trainer_type = RateFinder

    def subcommands(self) -> dict[str, set[str]]:
        """The verb, and the arguments that are not keys."""
        return {"find_lr": {"model", "datamodule"}}

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse, and refuse what the sweep cannot do before anything is loaded."""
        self.rate: float | None = None
        super().parse_arguments(parser, args)
        config = self._config
        try:
            self.test = RangeTest(
                **{field.name: config[field.name] for field in dataclasses.fields(RangeTest)}
            )
        except ValueError as error:
            raise UsageError(f"bertlab find-lr: {error}") from error
        if config.get(LR) is None:
            raise UsageError(
                f"bertlab find-lr sets {LR}, and {config.model.class_path} has no such key: it takes a task with an "
                "argument `optimizer`, and an optimizer with `lr`"
            )
        if config.then_fit and (named := files_with(" ".join(f"'{key}'" for key in OWN), args)):
            raise UsageError(
                f"--then_fit hands the configuration on to fit, which does not know {', '.join(OWN)}: give them as "
                f"flags{named}"
            )

    def choose_directory(self, config: Namespace, verb: str, wanted: str | None) -> RunDirectory:
        """One beside that of the run, whose versions are those of trainings."""
        name = f"{config.run.name}-find-lr"
        return choose_run(Path(config.run.root), name, config.run.version, verb, wanted)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """One that trains and does nothing else: no validation, no checkpoints, no minimum length."""
        trainer = super().instantiate_trainer(
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            min_epochs=None,
            min_steps=None,
            max_time=None,
            **kwargs,
        )
        if self._config.then_fit and trainer.world_size > 1:
            raise UsageError(
                f"--then_fit takes one device, got {trainer.world_size}: find the rate first, which does not depend on "
                f"the number of devices (--trainer.devices 1), then fit with --{LR}"
            )
        return trainer

    def after_find_lr(self) -> None:
        """Report, and take the rate to fit with.

        Raises:
            ValueError: a fit was asked for, and there is no rate to fit with.
        """
        report = RangeReport(self.test, self._sweep.losses)
        if self.trainer.is_global_zero:
            report.write(self.run_directory.path)
            report.show(Console(), self._left_out)
            print(f"{self.run_directory.path}: lr_range.csv, lr_range.png")
        wanted = self._config.then_fit
        if wanted and report.suggestions is None:
            raise ValueError("--then_fit: the loss has not fallen at any rate, so there is none to fit with")
        if wanted:
            self.rate = getattr(report.suggestions, wanted)

    def make_callbacks(self, config: Namespace) -> list[Any]:
        """What shapes the loss, the sweep, and a progress bar."""
        kept, self._left_out = RateSweep.undisturbed(as_list(config.trainer.callbacks))
        for strategy in kept:
            if "privacy" in strategy.touches:
                raise ValueError(
                    f"trainer.callbacks: {type(strategy).__name__} would spend privacy on the test of rates, which no "
                    "account of the training holds: find the rate on data that need not be protected, or choose it"
                )
        bars = [c for c in as_list(config.trainer.callbacks) if isinstance(c, ProgressBar)]
        self._left_out = [name for name in self._left_out if name not in {type(bar).__name__ for bar in bars}]
        if not bars and config.trainer.enable_progress_bar is not False:
            bars = [Progress()]
        self._sweep = RateSweep(self.test)
        return [StepSeed(run_seed(config)), *kept, self._sweep, *bars, OptimizerModes()]

    def make_loggers(self, config: Namespace) -> list[Logger] | bool:
        """None: the report is the log."""
        return False
