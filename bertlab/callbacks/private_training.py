"""PrivateTraining: differentially private training, by clipped gradients of single sequences and noise."""

from __future__ import annotations

import math
import secrets
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.privacy_budget import Accounting, PrivacyBudget
from bertlab.callbacks.strategy import EachEpoch, Run, Strategy, TrainingPass
from bertlab.interfaces import DrawsPoisson, PoissonDraw
from bertlab.losses.sequence_gradients import SequenceGradients
from bertlab.losses.with_gradients import with_gradients

#: By how much sums of gradients of single sequences may differ from the gradient of their sum, which rounds otherwise.
TOLERANCE = 0.05


class PrivateTraining(Strategy):
    """Bounds what the trained model tells of any one row of the training split: (ε, δ) differential privacy.

    DP-SGD (Abadi et al. 2016, arXiv:1607.00133, algorithm 1): in each optimizer step the gradient of each sequence is
    scaled down to a norm of at most C, the sum of all is noised with a standard deviation of σ·C in each number, and
    divided by the *expected* number of sequences; any optimizer takes it from there. Steps are Poisson samples: the
    data draws each row for each step by a coin of its own (`bertlab.samplers.poisson`), as the accountants of opacus
    assume, which say what has been spent. `batch_size` is the expected number; more of it is less noise for the same ε.

    Gradients of single sequences come from one pass over the packed batch (`bertlab.losses.sequence_gradients`); in the
    first step, and where others are trained, their sum is compared with the gradient of the sum, and training ends if
    they differ. Clipping is per sequence before micro-batches and ranks are added up, the noise is drawn once a step,
    the same on all ranks: one device, two, or gradient accumulation do the same. The accountant's state is in the
    checkpoint. Noise does not grow with the model but per number that is trained: fewer of them, as with
    `LowRankAdapters` or `BitFit`, or frozen embeddings, often do better (Yu et al. 2022, arXiv:2110.06500).

    What the guarantee is of: the weights of each step, averages and checkpoints of them, for neighbouring training
    splits that differ by one row added or removed. It is not of: rows that say the same of one person; what is taken
    as known, namely the number of rows, the labels, the settings and the encoder; the validation split, which chooses
    the best checkpoint and ends plateaus; `train/loss` and the sizes of steps in the run directory, which are not
    noised: keep them to yourself. Runs with other settings on the same rows add up.

    Noise and draws follow from the seed of the run unless `secure`, so that a resumed run is the same to the bit; who
    knows or guesses the 32-bit seed can take the noise away again. With `secure` each step's noise, and the draws of a
    process, come from 128 bits of the operating system's entropy, put through NumPy's PCG64, which is not a
    cryptographic generator; a resume then goes on with other numbers, and the same guarantee. Neither guards against
    attacks on the rounding of floating-point noise (Mironov 2012).

    Strategies beside it may choose what is trained, rates, first weights and averages. Those that change the loss or
    its passes, look at gradients, or count classes are refused: what they learn of the rows is in no account.

    Args:
        target_epsilon: ε at the end of training; the noise follows from it. Above 0; give this or `noise_multiplier`.
        noise_multiplier: σ, above 0.
        delta: δ, in (0, 1); less than 1 over the number of rows.
        max_gradient_norm: C, above 0: the norm to which gradients of single sequences are scaled down.
        accounting: "rdp", or "prv", which is tighter and takes seconds.
        secure: whether noise and draws come from the operating system's entropy.

    Raises:
        ValueError: an argument is out of range; δ is too large for the rows; ε cannot be kept.
        TypeError: data that draws no Poisson samples.
    """

    when = EachEpoch()
    touches: ClassVar[set[str]] = {"loss", "passes", "gradients", "privacy"}

    def __init__(
        self,
        target_epsilon: float | None = None,
        noise_multiplier: float | None = None,
        delta: float = 1e-5,
        max_gradient_norm: float = 1.0,
        accounting: Accounting = "rdp",
        secure: bool = False,
    ) -> None:
        given = {"target_epsilon": target_epsilon, "noise_multiplier": noise_multiplier}
        if sum(value is not None for value in given.values()) != 1:
            raise ValueError(
                f"PrivateTraining takes target_epsilon or noise_multiplier, one of them; got {given}"
            )
        for name, value in {**given, "max_gradient_norm": max_gradient_norm}.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"PrivateTraining.{name} takes a number above 0, got {value}")
        if not 0 < delta < 1:
            raise ValueError(f"PrivateTraining.delta takes a number in (0, 1), got {delta}")
        self.target_epsilon, self.noise_multiplier, self.delta = target_epsilon, noise_multiplier, delta
        self.max_gradient_norm, self.secure = max_gradient_norm, secure
        self.accounting: Accounting = accounting
        self.budget = PrivacyBudget(accounting, delta)
        self._noise = noise_multiplier or 0.0
        self._draw = PoissonDraw(1.0, 1)
        #: the task whose weights have cost what the account says.
        self._account_of: LightningModule | None = None
        #: optimizer steps of the checkpoint that training goes on from.
        self._resumed_at = 0
        #: steps that the last event on the timeline was about.
        self._told = 0
        #: the parameters that were trained when gradients were last compared.
        self._compared: list[int] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the data draw Poisson samples, before a loader is made."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, DrawsPoisson):
            raise TypeError(
                "PrivateTraining needs data that draws Poisson samples of rows, such as TextClassificationData; "
                f"{type(data).__name__} has no draw_poisson()"
            )
        entropy = trainer.strategy.broadcast(secrets.randbits(128)) if self.secure else None
        self._draw = data.draw_poisson(entropy)

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Find the noise for the target; refuse a δ that protects nobody, and to exceed the target."""
        rate, rows = self._draw
        if self.delta * rows >= 1:
            raise ValueError(
                f"PrivateTraining.delta is {self.delta}, and the training split has {rows} rows: with 1 over their "
                "number or more, whole rows could be published; take less"
            )
        if self.target_epsilon is not None and not self._noise:
            try:
                self._noise = self.budget.noise_multiplier(self.target_epsilon, rate, horizon.total_steps)
            except ValueError as error:  # opacus's
                raise ValueError(
                    f"PrivateTraining.target_epsilon: no noise keeps {self.target_epsilon} in {horizon.total_steps} "
                    f"steps that draw {rate:.2%} of the rows each ({error}): take a larger one"
                ) from error
        # A trainer takes its step from a checkpoint after this.
        self._check_target(horizon.total_steps - (self._resumed_at if self.resumed else trainer.global_step))
        if not self.secure:
            rank_zero_warn(
                "PrivateTraining.secure is false: noise and draws follow from seed_everything, so that ε holds only "
                "for those who do not know the seed"
            )

    def _check_target(self, left: int) -> None:
        """Refuse so many more steps as would exceed the target."""
        if self.target_epsilon is None:
            return
        planned = self.budget.epsilon_after(left, self._noise, self._draw.rate)
        if planned > self.target_epsilon * (1 + 1e-6):
            raise ValueError(
                f"PrivateTraining.target_epsilon is {self.target_epsilon}, and ε would be {planned:.4g} after the "
                f"{left} steps to come: {self.budget.steps} were taken with a noise of {self._noise:.4g} for a shorter "
                "training; take as many steps, or a higher target"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep account of this task from now on."""
        super().on_fit_start(trainer, pl_module)
        self._account_of = pl_module

    def begin_anew(self, task: LightningModule) -> None:
        """Be as before any training, but for what the weights of the task have cost already."""
        account = self.budget.state_dict() if task is self._account_of else {"history": []}
        super().begin_anew(task)
        if not self.resumed:
            self.budget.load_state_dict(account)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over what weights have cost that come from a checkpoint, also where it is only evaluated."""
        state = checkpoint["callbacks"].get(self.state_key)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if self.resumed:
            self._resumed_at = checkpoint["global_step"]
        if self.resumed or state is None:
            return
        there = PrivacyBudget(self.accounting, self.delta)
        there.load_state_dict(state["budget"])
        if pl_module is not self._account_of or there.steps > self.budget.steps:
            self.budget, self._account_of = there, pl_module

    def apply(self, run: Run) -> None:
        """Clip in each pass, and noise each step."""
        module = run.trainer.lightning_module
        run.wrap_loss(lambda p: self._clipped(p, module))
        run.edit_gradients(lambda: self._add_noise(run, module))

    def on_stage_start(self, run: Run) -> None:
        """Put on the timeline with which noise training begins."""
        if run.stage == 0:
            facts = {"rate": self._draw.rate, "rows": self._draw.rows, "secure": self.secure}
            run.note("noise", noise_multiplier=self._noise, max_gradient_norm=self.max_gradient_norm, **facts)

    def on_stage_end(self, run: Run) -> None:
        """Put on the timeline what has been spent by the end of an epoch; once, if training goes on from its end."""
        if self.budget.steps > self._told:
            self._told = self.budget.steps
            run.note("spent", epsilon=self.budget.epsilon(), delta=self.delta, steps=self._told)

    def after_step(self, run: Run) -> None:
        """Account for the step."""
        self.budget.step(self._noise, self._draw.rate)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what has been spent."""
        super().on_train_epoch_end(trainer, pl_module)
        spent = {"privacy/epsilon": self.budget.epsilon(), "privacy/delta": self.delta}
        for name, value in spent.items():
            pl_module.log(name, value, batch_size=1, sync_dist=trainer.world_size > 1)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the data draw as ever again."""
        data = getattr(trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, DrawsPoisson):
            data.end_poisson()
        super().teardown(trainer, pl_module, stage)

    def state_dict(self) -> dict[str, Any]:
        """The stage, what was spent, and the noise."""
        return super().state_dict() | {"budget": self.budget.state_dict(), "noise": self._noise}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the account; with the noise that a target was given, unless a noise is given."""
        super().load_state_dict(state_dict)
        self.budget.load_state_dict(state_dict["budget"])
        self._noise = self.noise_multiplier or state_dict["noise"]

    def _clipped(self, p: TrainingPass, module: LightningModule) -> Tensor:
        """The loss of a micro-batch; its gradient is the sum of clipped ones over the expected number of sequences."""
        batch, parameters = p.batch, p.parameters
        share = batch.micro_batches / (self._draw.rate * self._draw.rows)
        if len(batch.labels) == 0:  # nothing was drawn for it
            zeros = [torch.zeros_like(parameter) for parameter in parameters]
            return with_gradients(torch.zeros((), device=module.device), parameters, zeros)
        lengths = getattr(batch, "lengths", torch.ones(len(batch.labels), dtype=torch.int64))
        try:
            seen = SequenceGradients(module, lengths)
        except ValueError as error:
            raise ValueError(f"PrivateTraining: {error}") from error
        with seen:
            loss = p.loss()
        # The task's loss is the mean over the sequences of the step; what a sequence gives must not depend on others.
        total = loss * (len(batch.step_labels) / batch.micro_batches)
        trained = [id(parameter) for parameter in parameters]
        own = seen.backward(total, [] if trained == self._compared else parameters)
        if own:
            _compare(parameters, own, seen.sums(torch.ones(len(batch.labels))))
            self._compared = trained
        factors = (self.max_gradient_norm / (seen.norms() + 1e-6)).clamp(max=1.0)
        sums = seen.sums(factors * share)
        gradients = [sums[p].to(p.dtype) if p in sums else torch.zeros_like(p) for p in parameters]
        return with_gradients(loss, parameters, gradients)

    def _add_noise(self, run: Run, module: LightningModule) -> None:
        """To the gradients of an optimizer step, which are sums over the expected number of sequences."""
        deviation = self._noise * self.max_gradient_norm / (self._draw.rate * self._draw.rows)
        noisy = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        if self.secure:
            entropy = run.trainer.strategy.broadcast(secrets.randbits(128))
            numbers = np.random.default_rng(entropy)
            for gradient in noisy:
                drawn = torch.from_numpy(numbers.standard_normal(tuple(gradient.shape), np.float32))
                gradient.add_(drawn.to(gradient), alpha=deviation)
            return
        generator = run.generator(device=run.trainer.strategy.root_device)
        for gradient in noisy:
            gradient.add_(torch.empty_like(gradient).normal_(generator=generator), alpha=deviation)


def _compare(parameters: list[Any], own: list[Tensor | None], sums: dict[Any, Tensor]) -> None:
    """Raise if the gradients of single sequences do not add up to that of the loss: then some are not known."""
    known = [
        torch.zeros_like(p) if gradient is None else gradient
        for p, gradient in zip(parameters, own, strict=True)
    ]
    slack = TOLERANCE / 100 * float(torch.stack([gradient.float().norm() for gradient in known]).norm())
    for parameter, expected in zip(parameters, known, strict=True):
        found = sums.get(parameter, torch.zeros_like(expected))
        norms = float(found.norm()), float(expected.norm())
        if float((found - expected).norm()) > TOLERANCE * norms[1] + slack:
            raise RuntimeError(
                f"PrivateTraining: the gradients of single sequences for a parameter of shape {tuple(parameter.shape)} "
                f"add up to a norm of {norms[0]:.3g}, that of the loss has {norms[1]:.3g}: the model uses it otherwise "
                "than by calling its layer, or mixes sequences"
            )
