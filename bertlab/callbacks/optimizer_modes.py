"""OptimizerModes: optimizers that train other weights than those they are evaluated with."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bertlab.callbacks.strategy import Strategy
from bertlab.interfaces import TRAINED_WEIGHTS
from bertlab.schedules.constant import Constant


@runtime_checkable
class _HasModes(Protocol):
    """An optimizer whose weights are one thing in training and another in evaluation."""

    state: Mapping[Any, Any]
    param_groups: list[dict[str, Any]]

    def train(self) -> None: ...

    def eval(self) -> None: ...


class OptimizerModes(Callback):
    """Switches optimizers that have `train()` and `eval()`, and does nothing for others.

    Schedule-free optimizers (Defazio et al. 2024, arXiv:2405.15682) compute gradients at one point and average
    others, and the average is the result. What this makes sure of:

    - validations during the fit, and all that is done after it, see the evaluation weights;
    - `state_dict` of every checkpoint, whoever saves it and when, holds the evaluation weights, so that testing,
      predicting, exporting and transferring need to know nothing of this;
    - a resumed fit goes on from the training weights, kept under `TRAINED_WEIGHTS`, bit for bit;
    - an evaluation or a checkpoint leaves no trace in training: to switch back and forth is not exact in floating
      point, so the training weights are set aside and put back. That takes the memory of one more copy of the
      weights while it lasts.

    Always on; stands last among the callbacks, so that the others see the evaluation weights at the end of a
    validation.
    """

    def __init__(self) -> None:
        self._optimizers: list[_HasModes] = []
        self._kept: dict[nn.Parameter, Tensor] | None = None
        self._hook: RemovableHandle | None = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the training weights in the place of the evaluation weights, if training goes on."""
        if trainer.state.fn == "fit" and TRAINED_WEIGHTS in checkpoint:
            pl_module.load_state_dict(checkpoint[TRAINED_WEIGHTS], strict=pl_module.strict_loading)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the optimizers that have modes; refuse what cannot work with them, warn of what should not.

        Raises:
            TypeError: parameters are sharded over ranks.
            ValueError: a strategy changes weights behind the optimizer's back.
        """
        self._optimizers = [o for o in trainer.optimizers if isinstance(o, _HasModes)]
        if not self._optimizers:
            return
        name = type(self._optimizers[0]).__name__
        if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy):
            raise TypeError(
                f"the optimizer {name} switches between training and evaluation weights, which cannot be done "
                "with sharded ones: take trainer.strategy ddp, or another optimizer"
            )
        strategies = [c for c in _callbacks(trainer) if isinstance(c, Strategy)]
        for strategy in strategies:
            if "average" in strategy.touches:
                raise ValueError(
                    f"{type(strategy).__name__} averages weights, and so does the optimizer {name}: leave one of them "
                    "out"
                )
            if strategy.sets_weights:
                raise ValueError(
                    f"{type(strategy).__name__} sets weights between the optimizer's steps, of which the optimizer "
                    f"{name} would not know: it keeps an average of its own. Leave one of them out"
                )
            if strategy.puts_weights_back is not None:
                raise ValueError(
                    f"{type(strategy).__name__}.{strategy.puts_weights_back} puts weights back, of which the optimizer "
                    f"{name} would not know: it keeps an average of its own. Leave one of them out"
                )
        _warn_of_schedules(name, pl_module, strategies)
        # torch marks the hook, which cannot be done with a method.
        self._hook = pl_module.register_state_dict_post_hook(partial(self._give_evaluation_weights))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train."""
        for optimizer in self._optimizers:
            optimizer.train()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the evaluation weights."""
        if trainer.state.fn == "fit" and self._optimizers:
            self._to_evaluation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the training weights."""
        if trainer.state.fn == "fit" and self._optimizers:
            self._to_training()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the training weights, and the optimizers as they are in training."""
        if not self._optimizers:
            return
        kept = self._kept or {}  # the training weights, where the checkpoint is saved within a validation
        with self._training():
            checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state(o) for o in trainer.optimizers]
        evaluated = checkpoint["state_dict"]
        weights = {
            name: kept.get(parameter, parameter).detach()
            for name, parameter in pl_module.named_parameters(remove_duplicate=False)
        }
        # What is the same in both is the same tensor, which torch saves once.
        changed = {name: value for name, value in weights.items() if not torch.equal(value, evaluated[name])}
        checkpoint[TRAINED_WEIGHTS] = {**evaluated, **changed}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the evaluation weights in the model."""
        if self._optimizers:
            self._to_evaluation()
            self._kept = None
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the training weights in the model, also where a validation was broken off."""
        if self._kept is not None:
            self._to_training()
        self._leave()

    def _leave(self) -> None:
        self._optimizers = []
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _to_evaluation(self) -> dict[nn.Parameter, Tensor]:
        """Switch to the evaluation weights; returns those of training, which are kept too."""
        # Outside of inference mode, in which Lightning validates: what is kept is used in training again.
        with torch.inference_mode(False), torch.no_grad():
            # A parameter without state has not been trained and is the same in both modes.
            kept: dict[nn.Parameter, Tensor] = {
                parameter: parameter.detach().clone()
                for optimizer in self._optimizers
                for group in optimizer.param_groups
                for parameter in group["params"]
                if optimizer.state.get(parameter)
            }
            for optimizer in self._optimizers:
                optimizer.eval()
        self._kept = kept
        return kept

    def _to_training(self) -> None:
        assert self._kept is not None
        with torch.inference_mode(False), torch.no_grad():
            for optimizer in self._optimizers:
                optimizer.train()
            for parameter, value in self._kept.items():
                parameter.copy_(value)
        self._kept = None

    @contextmanager
    def _training(self) -> Generator[None]:
        """Training mode for a while, also within a validation."""
        evaluating = self._kept is not None
        if evaluating:
            self._to_training()
        yield
        if evaluating:
            self._to_evaluation()

    def _give_evaluation_weights(
        self, module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: Any
    ) -> None:
        """A hook of `state_dict`: the evaluation weights, in copies, since the weights change back."""
        if self._kept is not None:
            return
        # Once, also of a tied weight.
        copies = {parameter: parameter.detach().clone() for parameter in self._to_evaluation()}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if parameter in copies:
                state_dict[f"{prefix}{name}"] = copies[parameter]
        self._to_training()


def _warn_of_schedules(optimizer: str, module: LightningModule, strategies: list[Strategy]) -> None:
    schedule = getattr(module, "schedule", None)
    if schedule is not None and not isinstance(schedule, Constant):
        rank_zero_warn(
            f"the optimizer {optimizer} averages in place of a falling learning rate, and "
            f"model.init_args.schedule is {type(schedule).__name__}: take bertlab.schedules.constant.Constant "
            "(--model.schedule configs/schedules/constant.yaml)"
        )
    for strategy in strategies:
        if strategy.leads == "cycle":
            rank_zero_warn(
                f"the optimizer {optimizer} averages in place of a falling learning rate, and "
                f"{type(strategy).__name__} makes it fall: leave one of them out"
            )


def _callbacks(trainer: Trainer) -> list[Any]:
    return list(trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
