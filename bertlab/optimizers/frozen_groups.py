"""A group of parameters that is frozen does not age."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


def hold_frozen_groups(optimizer: Optimizer) -> None:
    """Leave a group as it was by each step in which none of its parameters has a gradient.

    torch's optimizers count the steps of each parameter; others (pytorch-optimizer, schedulefree) count those of a
    group, with or without a gradient. A block that thaws after n steps would then be corrected for n steps of
    moments that it does not have: Adam's second moment, begun at 0, would be taken for a mean over n steps, and the
    first updates be up to 1/√(1 - β₂), 32 with β₂ = 0.999, times too long. Held back, the counters of a group are
    those of its parameters.

    Of a group that is trained in part the counters go on: what joins it late is corrected for steps that it has not
    made, where the optimizer counts by group. That happens to the position embeddings, where a tied decoder trains the
    word embeddings before the rest of their block.

    Args:
        optimizer: whose groups are frozen and thawed as wholes.
    """
    before: list[dict[str, Any]] = []

    def remember(optimizer: Optimizer, *_: Any) -> None:
        before[:] = [_settings(group) for group in optimizer.param_groups]

    def put_back(optimizer: Optimizer, *_: Any) -> None:
        for group, settings in zip(optimizer.param_groups, before, strict=True):
            # Known only now: Lightning computes the gradients inside the step.
            if all(parameter.grad is None for parameter in group["params"]):
                for key in _settings(group).keys() - settings.keys():
                    del group[key]
                group.update(settings)

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(put_back)


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
