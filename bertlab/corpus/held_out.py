"""Which documents are held out for validation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bertlab.corpus.random_numbers import key_of, permuted_range

Documents = npt.NDArray[np.int64]


def hold_out(
    documents: int, fraction: float, seed: int, least: int, called: str = "documents"
) -> tuple[Documents, Documents]:
    """Divide a corpus by document, at random.

    Args:
        documents: of the corpus.
        fraction: share that is held out, in [0, 1); more than 0 holds out `least` documents at least.
        seed: of the choice.
        least: documents that each part needs to make examples.
        called: what they are, for messages.

    Returns:
        The documents to train on, and those held out, each ascending.

    Raises:
        ValueError: one of the parts would have fewer than `least` documents.

    >>> [part.tolist() for part in hold_out(6, 0.3, seed=0, least=1)]
    [[0, 1, 3, 5], [2, 4]]
    """
    held = 0 if fraction == 0.0 else max(least, round(fraction * documents))
    if documents - held < least:
        parts = "document" if least == 1 else "documents (a random next sentence comes from another document)"
        advice = [
            *(["data.init_args.validation_fraction: 0 to train on all of them"] if held else []),
            *(["data.init_args.sentence_task: sentence_order or none"] if least > 1 else []),
        ]
        both = " and " if documents < least else ", or "
        raise ValueError(
            f"the store has {documents} {called}, of which {held} would be held out for validation "
            f"(data.init_args.validation_fraction: {fraction}); training, and validation, need {least} {parts} each: "
            f"take a larger corpus, or set {both.join(advice)}"
        )
    is_held = np.zeros(documents, dtype=np.bool_)
    is_held[permuted_range(0, held, max(documents, 1), key_of(seed))] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
