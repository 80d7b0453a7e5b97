"""WeightAverage: the base of the strategies that average the weights on their way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from bertlab.callbacks.average_times import AverageTimes
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.callbacks.undone import Undone
from bertlab.interfaces import TRAINED_WEIGHTS
from bertlab.optimizers.averages import move_towards, started


class WeightAverage(Strategy, ABC):
    """Averages weights while they are trained, which goes on as if there were no average.

    The average is what is validated (so metrics, the best checkpoint and plateaus are those of the average), saved
    and kept: it stands in the model during each validation of the training, in the `state_dict` of each checkpoint,
    and in the model when training has ended. The trained weights are put back bit for bit after a validation, stand
    beside the average in the checkpoint, and are what a resume, or another `fit` of the same trainer, goes on from.
    Until the first weights are taken, all this is done with the trained weights.

    Averaged is every floating-point tensor of the model's `state_dict`, shared ones once, in float32 (float64 where
    the weights are): the parameters and, where there are any, running statistics. Other buffers are the model's.

    Args:
        times: when weights are taken.
    """

    touches: ClassVar[set[str]] = {"average"}

    def __init__(self, times: AverageTimes) -> None:
        self.when = times
        #: under the names of `averaged_tensors`; empty until the average begins.
        self.average: dict[str, Tensor] = {}
        self.taken, self._taken_at = 0, -1
        #: the trained weights while the average stands in the model.
        self.trained: dict[str, Tensor] | None = None
        self._fitted: LightningModule | None = None

    @abstractmethod
    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of the model into `self.average`; `self.taken` counts those taken before."""

    def move(self, weights: Mapping[str, Tensor], share: float) -> None:
        """Move the average towards weights by a share; the first ones are the average."""
        if not self.average:
            self.average = started(weights)
            return
        # A checkpoint has brought the average into main memory.
        self.average = {name: value.to(weights[name].device) for name, value in self.average.items()}
        move_towards(self.average, weights, share)

    @property
    def times(self) -> AverageTimes:
        """When weights are taken."""
        assert isinstance(self.trigger, AverageTimes)
        return self.trigger

    def never_acts(self, run: Run) -> str | None:
        """Whether training ends before there is anything to average."""
        horizon = run.horizon
        first = self.times.first(horizon)
        if first is None:
            first = self.times.start(horizon)
        if not self.times.complete(horizon) or first < horizon.total_steps:
            return None
        return (
            f"the first weights would be taken after step {first}, and training ends after step "
            f"{horizon.total_steps} (start_…, at, every_steps)"
        )

    def leaves_out(self, run: Run) -> str | None:
        """Whether weights would be taken but once, so that nothing is averaged."""
        times, horizon = self.times, run.horizon
        second = times.second(horizon)
        if not times.complete(horizon) or (second is not None and second <= horizon.total_steps):
            return None
        return (
            f"weights would be taken but once, after step {times.first(horizon)} of {horizon.total_steps}: kept and "
            "exported would be those, and no average (start_…, at, every_steps)"
        )

    def left_undone(self, run: Run) -> Undone | None:
        """Whether no weights were ever taken, or once, so that nothing was averaged."""
        if self.taken > 1:
            return None
        if self.taken == 1:
            second = self.times.second(run.horizon)
            return Undone(
                what=f"took weights but once, after step {self._taken_at},",
                waited_for=f"the next end of a cycle, that is {self.times.awaited(run.horizon)}"
                if second is None
                else f"step {second}",
                instead="What was validated, kept and is exported are those weights, and nothing of later steps",
                advice="take weights more often (start_…, every_steps), or by time (at: epoch, at: steps)",
            )
        first, start = self.times.first(run.horizon), self.times.start(run.horizon)
        unknown = f"the end of a cycle from step {start} on, that is {self.times.awaited(run.horizon)}"
        return Undone(
            what="took no weights",
            waited_for=unknown if first is None else f"step {first}",
            instead="What was validated, kept and is exported are the trained weights",
            advice="begin earlier (start_…, every_steps), or take them by time (at: epoch, at: steps)",
        )

    def apply(self, run: Run) -> None:
        """Say when the average has begun."""
        if run.stage_start == self.times.first(run.horizon):
            run.note("average", begins_at_step=run.stage_start, at=self.times.at)

    def after_step(self, run: Run) -> None:
        """Take the weights, if it is time to."""
        self._take_if_due(run)

    def on_stage_end(self, run: Run) -> None:
        """Take the weights of the end of a cycle that nobody knew of before it came: on a plateau.

        Not when training ends with it: what is kept then is the average that was validated.
        """
        if run.trainer.global_step < run.horizon.total_steps and not run.trainer.should_stop:
            self._take_if_due(run)

    def before_validation(self, module: LightningModule) -> None:
        """Put the average into the model."""
        if self.average and self.trained is None:
            with torch.inference_mode(False), torch.no_grad():
                tensors = averaged_tensors(module)
                self.trained = {name: tensor.detach().clone() for name, tensor in tensors.items()}
                _copy(self.average, tensors)

    def after_validation(self, module: LightningModule) -> None:
        """Put the trained weights back."""
        if self.trained is not None:
            with torch.inference_mode(False), torch.no_grad():
                _copy(self.trained, averaged_tensors(module))
            self.trained = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the trained weights, where the model holds the average of a checkpoint or of another fit."""
        if self._fitted not in (None, pl_module) and not self.resumed:
            self.trained = None  # of another task
        self._fitted = pl_module
        self.after_validation(pl_module)
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Be asked for checkpoints of weights alone, too, which Lightning does not show to callbacks."""
        super().on_train_start(trainer, pl_module)
        own = pl_module.on_save_checkpoint

        def on_save_checkpoint(checkpoint: dict[str, Any]) -> None:
            if TRAINED_WEIGHTS not in checkpoint:
                self._put_into(checkpoint, pl_module)
            own(checkpoint)

        # On the instance: the class is left alone.
        vars(pl_module)["on_save_checkpoint"] = on_save_checkpoint

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model."""
        self.before_validation(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back, if a validation within training was broken off, and leave no other trace."""
        vars(pl_module).pop("on_save_checkpoint", None)
        if trainer.state.fn == "fit":
            self.after_validation(pl_module)
        super().on_exception(trainer, pl_module, exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the average, and no other trace."""
        vars(pl_module).pop("on_save_checkpoint", None)
        super().teardown(trainer, pl_module, stage)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average into the checkpoint's weights, and keep the trained ones beside it."""
        trained = self._put_into(checkpoint, pl_module)
        if trained is not None:
            checkpoint[TRAINED_WEIGHTS] = trained

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the trained weights, which a fit goes on from."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if not self.resumed:
            return
        self.average, self.taken, self._taken_at = {}, 0, -1
        self.trained = checkpoint.get(TRAINED_WEIGHTS)

    def state_dict(self) -> dict[str, Any]:
        """The stage, the average, and what has gone into it."""
        return super().state_dict() | {
            "average": self.average,
            "taken": self.taken,
            "taken_at": self._taken_at,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self.average = state_dict["average"]
        self.taken, self._taken_at = state_dict["taken"], state_dict["taken_at"]

    def _take_if_due(self, run: Run) -> None:
        step = run.trainer.global_step
        if step == self._taken_at or not self.times.due(step, run.horizon):
            return
        self.take(averaged_tensors(run.trainer.lightning_module))
        self.taken, self._taken_at = self.taken + 1, step

    def _put_into(self, checkpoint: dict[str, Any], module: LightningModule) -> dict[str, Tensor] | None:
        """Put the average into the `state_dict` of a checkpoint; returns that of the trained weights."""
        if not self.average:
            return None
        state = checkpoint["state_dict"]
        trained = dict(state)
        for name, of in _first_names(module).items():
            if self.trained is not None:
                trained[name] = self.trained[of]
            # The same tensor as in this strategy's own state wherever it can be, which torch saves once.
            state[name] = self.average[of].to(state[name].dtype)
        return trained


def averaged_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every floating-point tensor of a module's `state_dict` once, under the first of its names."""
    state = module.state_dict(keep_vars=True)
    return {of: state[of] for of in dict.fromkeys(_first_names(module, state).values())}


def _first_names(module: nn.Module, state: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Of each floating-point tensor of a `state_dict` the first name that it has there."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(value), name)
        for name, value in (module.state_dict(keep_vars=True) if state is None else state).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }


def _copy(values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
