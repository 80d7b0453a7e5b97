"""What a strategy changes: to find one that is configured and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from bertlab.callbacks.run import Run

#: What can be seen from a strategy's wishes, with words for a strategy that never does it.
SEEN = {
    "trainable": "freezes nothing",
    "parameters": "trains all parameters",
    "lr": "leaves all rates as they are",
    "class_weights": "weighs all classes alike",
    "loss": "leaves the loss as it is",
    "gradients": "leaves the gradients as they are",
    "length": "leaves sequences whole",
    "mask_rate": "leaves the mask rate as it is",
    "batch_size": "leaves the batch at its full size",
    "order": "leaves the order of the rows as it is",
}

#: So many steps of a stage are looked at, at most, where rates or class weights change from step to step.
LOOKED_AT = 1000


def has_effect(run: Run, until: int) -> bool:
    """Whether the wishes of a strategy change anything of `SEEN` in a stage.

    Of curves, of rates or class weights, the first and the last step of the stage are looked at, and steps evenly
    between them, `LOOKED_AT` in all.

    Args:
        run: as the strategy was handed it for the stage.
        until: optimizer steps taken in the whole training when the stage ends at the latest.
    """
    wishes = run.wishes
    steps = (until if run.stage_end is None else min(until, run.stage_end)) - run.stage_start
    if steps <= 0:
        return False
    if wishes.loss is not None or wishes.gradients is not None:
        return True
    if wishes.course is not None and wishes.course.parts:
        return True
    if wishes.trainable is not None and len(wishes.trainable) < len(run.all_blocks):
        return True
    if wishes.parameters is not None:
        chosen = {id(parameter) for parameter in wishes.parameters}
        if any(id(p) not in chosen for block in run.all_blocks for p in block.parameters()):
            return True
    bends = callable(wishes.class_weights) or any(callable(factor) for _, factor in wishes.factors)
    return any(_weighs(run, since) for since in (_spread(steps) if bends else (0,)))


def _weighs(run: Run, since: int) -> bool:
    """Whether any rate has a factor other than 1, or classes weigh differently, in a step of the stage."""
    if any(factor != 1.0 for _, factor in run.wishes.factors_at(since)):
        return True
    weights = run.wishes.class_weights_at(since)
    return weights is not None and not bool((weights == weights[0]).all())


def _spread(steps: int) -> Iterator[int]:
    """`LOOKED_AT` of the steps, or all of them: the first, the last, and evenly between.

    >>> list(_spread(3)), list(_spread(1)), len(list(_spread(10**6))), max(_spread(10**6))
    ([0, 1, 2], [0], 1000, 999999)
    """
    count = min(steps, LOOKED_AT)
    return (place * (steps - 1) // max(1, count - 1) for place in range(count))
