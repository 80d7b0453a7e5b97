"""What a strategy changes: to find one that is configured and changes nothing."""

from __future__ import annotations

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


def effects_of(run: Run, step: int) -> set[str]:
    """What the wishes of a strategy change in an optimizer step, of the things in `SEEN`.

    Args:
        run: as the strategy was handed it for the stage that it is in.
        step: optimizer steps taken in the whole training.
    """
    wishes, since = run.wishes, step - run.stage_start
    found: set[str] = set()
    if wishes.trainable is not None and len(wishes.trainable) < len(run.all_blocks):
        found.add("trainable")
    if wishes.parameters is not None:
        chosen = {id(parameter) for parameter in wishes.parameters}
        if any(id(p) not in chosen for block in run.all_blocks for p in block.parameters()):
            found.add("parameters")
    if any(factor != 1.0 for _, factor in wishes.factors_at(since)):
        found.add("lr")
    weights = wishes.class_weights_at(since)
    if weights is not None and not bool((weights == weights[0]).all()):
        found.add("class_weights")
    if wishes.loss is not None:
        found.add("loss")
    if wishes.gradients is not None:
        found.add("gradients")
    return found if wishes.course is None else found | wishes.course.parts.keys()
