"""What a pretraining task asks of its data module."""

from __future__ import annotations

from typing import Any

#: objectives with a sentence task → that of the data.
SENTENCE_TASKS = {"mlm_nsp": "next_sentence", "mlm_sop": "sentence_order"}
SPLITS = {"val": "validation", "test": "test"}


def check_sentence_task(datamodule: Any, objective: str) -> None:
    """Refuse data whose sentence labels are none, or mean something else than the objective.

    Args:
        datamodule: one that says its `sentence_task` ("next_sentence", "sentence_order", "none"); others are
            not checked.
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


def tokens_and_words(datamodule: Any, split: str) -> tuple[int, int] | None:
    """Tokens and words of the text of a split, as the data module counts them.

    Args:
        datamodule: one that has `tokens_and_words(split)`; others have no words.
        split: "val" or "test".

    Returns:
        Both counts, without special tokens; None where the data does not know.
    """
    count = getattr(datamodule, "tokens_and_words", None)
    if count is None:
        return None
    tokens, words = count(SPLITS[split])
    return None if words is None else (tokens, words)
