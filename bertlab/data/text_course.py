"""Whether the training rows of texts can follow what strategies ask from step to step."""

from __future__ import annotations

from bertlab.data.tokenised_texts import TokenisedTexts
from bertlab.interfaces import Course


def check_text_course(course: Course, rows: TokenisedTexts) -> None:
    """Refuse a course that training rows cannot follow.

    Args:
        course: what strategies ask.
        rows: of the training split.

    Raises:
        ValueError: they cannot be cut, or not to so few tokens; an order of other rows.
    """
    if course.length is not None:
        least, first = rows.least_limit, course.length(0)
        if least is None:
            raise ValueError(
                "data.init_args.tokenizer gives no segments, so that the texts of a pair cannot be told apart and "
                "be cut to a length that changes. Accepted: a tokenizer with token_type_ids, or single texts."
            )
        if first < least:
            raise ValueError(
                f"training would begin with sequences of {first} tokens, and the training rows cannot be cut to "
                f"fewer than {least} (special tokens, and a word to be read in each): begin with {least} or more."
            )
    if course.order is not None and len(course.order.ranks) != len(rows):
        raise ValueError(
            f"an order of {len(course.order.ranks)} rows does not fit {len(rows)} training rows."
        )
