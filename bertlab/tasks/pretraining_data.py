"""What a pretraining task asks of its data module."""

from __future__ import annotations

from typing import Any

#: sentence task of the data → the objectives that can learn from it, and from the data of no sentence task.
SENTENCE_TASKS = {"mlm_nsp": "nsp", "mlm_sop": "sop"}


def check_sentence_task(datamodule: Any, objective: str) -> None:
    """Refuse data whose sentence labels are none, or mean something else than the objective.

    Args:
        datamodule: one that says its `sentence_task` ("nsp", "sop", or None or "none"); others are not checked.
        objective: of the model.

    Raises:
        ValueError: they do not fit.
    """
    wanted = SENTENCE_TASKS.get(objective)
    if wanted is None or not hasattr(datamodule, "sentence_task"):
        return
    if datamodule.sentence_task != wanted:
        raise ValueError(
            f"model.init_args.objective {objective!r} takes data with data.init_args.sentence_task {wanted!r}, got "
            f"{datamodule.sentence_task!r}"
        )


def words_of(datamodule: Any, split: str) -> tuple[int, int] | None:
    """Word pieces and words of a split, as the data module counts them.

    Args:
        datamodule: one that has `pieces_and_words(split)`; others have no words.
        split: "val" or "test".

    Returns:
        Both counts, of the whole text of the split; None where the data does not know.
    """
    count = getattr(datamodule, "pieces_and_words", None)
    return None if count is None else count(split)
