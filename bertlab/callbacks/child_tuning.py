"""ChildTuning: in each step only a part of the encoder, its child network, gets a gradient."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.data_pass import DataPass
from bertlab.callbacks.fisher import add_squares, fisher_information, zeros_beside
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.encoders.dropout import dropout


class ChildTuning(Strategy):
    """Masks the gradient of the encoder's layers, number by number.

    Xu et al. 2021, arXiv:2109.05687, section 2:

    - "task_free" (F): a random mask for each optimizer step, the same on all ranks; what is kept is scaled by 1/share.
    - "task_driven" (D): one mask for the whole training: the numbers with the greatest Fisher information, the mean
      square of their gradient over the training data, found before the first step and kept in checkpoints.

    Embeddings, pooler and head are trained in full. Deviations: the random mask, too, is of the layers alone (the
    authors' code masks all): a new head has nothing to hold on to, and most rows of a table get no gradient anyway. The
    Fisher information is that of whole optimizer steps, without dropout and clipping. The gradient is masked before
    clipping. An optimizer's momentum and weight decay still move what is masked, as in
    the authors' code; of "task_driven" that is weight decay alone.

    Args:
        mode: "task_free" or "task_driven".
        share: of the numbers that get a gradient, in (0, 1]: p_F or p_D. The paper has 0.2 to 0.4, and 0.1 to 0.3.
        fisher_steps: of "task_driven": optimizer steps whose data is looked at; None: one epoch, whose forward and
            backward passes it costs.

    Raises:
        ValueError: an argument is out of range, or does not go with the mode.
        TypeError: "task_driven" with trainer.precision 16-mixed.
    """

    touches: ClassVar[set[str]] = {"gradients"}

    def __init__(
        self,
        mode: Literal["task_free", "task_driven"] = "task_free",
        share: float = 0.3,
        fisher_steps: int | None = None,
    ) -> None:
        if mode not in ("task_free", "task_driven"):
            raise ValueError(f"ChildTuning.mode: {mode!r}; accepted are 'task_free', 'task_driven'")
        if not 0 < share <= 1:
            raise ValueError(f"ChildTuning.share takes a number in (0, 1], got {share}")
        if fisher_steps is not None and (mode == "task_free" or fisher_steps < 1):
            raise ValueError(
                "ChildTuning.fisher_steps takes 1 or more, and goes with mode: task_driven alone; got "
                f"{fisher_steps} with {mode}"
            )
        self.mode, self.share, self.fisher_steps = mode, share, fisher_steps
        self.masks: dict[str, Tensor] = {}  # as bits

    def works_on(self, blocks: Blocks) -> Iterable[nn.Parameter]:
        """The layers."""
        return _layer_parameters(blocks).values()

    def never_acts(self, run: Run) -> str | None:
        """Nothing is masked."""
        return "share is 1" if self.share == 1 else None

    def untimed(self, run: Run) -> str | None:
        """That gradients are masked, where the mask is not found yet."""
        if not self._is_to_find():
            return None
        return "the child network is not known yet, so gradients are not masked in the steps that are timed"

    def pass_before(self, run: Run) -> DataPass | None:
        """The one that finds the mask, before the first step."""
        if not self._is_to_find():
            return None
        epoch = run.horizon.steps_per_epoch
        steps = min(self.fisher_steps or epoch, epoch)
        parameters = list(_layer_parameters(run.blocks).values())

        def pieces() -> Generator[int]:
            return add_squares(zeros_beside(parameters), run.trainer, parameters, steps)

        what = f"finds the child network: the data of {steps:,} steps, forward and backward"
        return DataPass(what, "child network", steps, pieces)

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Refuse half precision that squares of gradients do not survive."""
        if self.mode == "task_driven" and trainer.precision == "16-mixed":
            raise TypeError(
                "ChildTuning of mode task_driven computes gradients of its own, which would underflow without the "
                "scaling of trainer.precision 16-mixed: use bf16-mixed"
            )

    def apply(self, run: Run) -> None:
        """Mask the gradients of each step."""
        if self.share == 1:
            return
        parameters = _layer_parameters(run.blocks)
        masks: dict[str, Tensor] = {}  # unpacked at first need

        def mask_by_information() -> None:
            if not self.masks:  # a plan takes steps without finding them
                return
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    if name not in masks:
                        masks[name] = unpacked(self.masks[name], parameter.shape).to(parameter.device)
                    parameter.grad.mul_(masks[name])

        def mask_at_random() -> None:
            generator = run.generator(device=run.trainer.strategy.root_device)
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter.grad.copy_(dropout(parameter.grad, 1 - self.share, True, generator))

        run.edit_gradients(mask_by_information if self.mode == "task_driven" else mask_at_random)

    def on_stage_start(self, run: Run) -> None:
        """Find the mask of the whole training."""
        if self.mode != "task_driven" or self.share == 1:
            return
        parameters = _layer_parameters(run.blocks)
        found, steps = fisher_information(run.trainer, list(parameters.values()), self.fisher_steps)
        chosen = greatest(dict(zip(parameters, found, strict=True)), self.share)
        self.masks = {name: packed(mask) for name, mask in chosen.items()}
        kept, total = (
            sum(f(mask) for mask in chosen.values()) for f in (lambda m: int(m.sum()), Tensor.numel)
        )
        run.note("child_network", numbers=kept, of=total, fisher_steps=steps)

    def state_dict(self) -> dict[str, Any]:
        """The masks, eight numbers a byte."""
        return super().state_dict() | {"masks": self.masks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            ValueError: the mask of this mode is not among it.
        """
        self.masks = state_dict["masks"]
        super().load_state_dict(state_dict)
        if self.entered >= 0 and self._is_to_find():
            raise ValueError(
                "ChildTuning.mode: task_driven, and the checkpoint has no child network: it was saved in mode "
                "task_free, or before the network was found. Go on with the mode that the training began with, or "
                "begin anew"
            )

    def _is_to_find(self) -> bool:
        """Whether there is a mask to find, and it is not found yet."""
        return self.mode == "task_driven" and self.share != 1 and not self.masks


def greatest(values: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Masks of the given share of the greatest numbers of all tensors together; zeros are never among them.

    Args:
        values: tensors of 0 or more.
        share: in (0, 1]; where several equal the least that is taken, all of them are.

    Returns:
        Tensors of bool, of the same shapes, on the CPU.

    Examples:
        >>> greatest({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([[3.0], [0.0]])}, 0.5)
        {'a': tensor([ True, False]), 'b': tensor([[ True],
                [False]])}
    """
    every = torch.cat([value.flatten().float().cpu() for value in values.values()])
    count = max(1, round(share * len(every)))
    limit = every.kthvalue(len(every) - count + 1).values
    return {name: (value.float().cpu() >= limit) & (value.cpu() > 0) for name, value in values.items()}


def packed(mask: Tensor) -> Tensor:
    """A mask of bool as bytes of eight, on the CPU.

    >>> packed(torch.tensor([True, False, True]))
    tensor([5], dtype=torch.uint8)
    """
    bits = torch.nn.functional.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def unpacked(data: Tensor, shape: torch.Size) -> Tensor:
    """What `packed` was given, of the shape that it had.

    >>> unpacked(torch.tensor([5], dtype=torch.uint8), torch.Size([3]))
    tensor([ True, False,  True])
    """
    bits = (data[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten()[: shape.numel()].bool().view(shape)


def _layer_parameters(blocks: Blocks) -> dict[str, nn.Parameter]:
    """Every parameter of the layers under a name that is the same in every process."""
    return {f"{block.name}/{i}": p for block in blocks.layers for i, p in enumerate(block.parameters())}
