"""Where a tokenizer puts its special tokens, and what of a text is left when it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bertlab.data.windows import Numbers, ranges


@dataclass(frozen=True)
class Layout:
    """A sequence: special tokens, a text, and of a pair more special tokens and the second text; special tokens.

    Attributes:
        before: special tokens before the text.
        between: special tokens between the texts of a pair; 0: there are no pairs.
        after: special tokens after the text, or the second one.
        cut: the end of a text that is cut, "right" or "left".
    """

    before: int
    between: int
    after: int
    cut: str = "right"

    @property
    def least(self) -> int:
        """Tokens of the shortest sequence that has something of each text."""
        texts = 2 if self.between else 1
        return self.before + self.between + self.after + texts

    def shortened(
        self, starts: Numbers, lengths: Numbers, seconds: Numbers, limit: int
    ) -> tuple[Numbers, Numbers]:
        """Cut sequences as the tokenizer cuts them: special tokens stay; of a pair the longer text is cut first.

        The same as tokenising with `max_length=limit`, but where an earlier cut has made the texts of a pair equally
        long, so that the odd token may be left to the other one.

        Args:
            starts: (S,) where each sequence begins in a flat array.
            lengths: (S,) tokens of each.
            seconds: (S,) tokens of its second text.
            limit: tokens at most.

        Returns:
            (N,) places in the flat array of the tokens that are left, and the (S,) tokens of each sequence.

        Raises:
            ValueError: nothing would be left of a text.

        >>> Layout(1, 1, 1).shortened(np.array([10]), np.array([9]), np.array([4]), 7)
        (array([10, 11, 12, 13, 14, 15, 18]), array([7]))
        """
        if limit < self.least:
            raise ValueError(
                f"sequences cannot be cut to {limit} tokens: {self.least} are needed, since "
                f"{self.before + self.between + self.after} of them are special"
            )
        room = limit - self.before - self.between - self.after
        firsts = lengths - self.before - self.between - self.after - seconds
        kept_firsts, kept_seconds = _longest_first(firsts, seconds, room)
        from_left = self.cut == "left"
        first_at = starts + self.before
        second_at = first_at + firsts + self.between
        places = [
            starts,
            first_at + (firsts - kept_firsts if from_left else 0),
            first_at + firsts,
            second_at + (seconds - kept_seconds if from_left else 0),
            second_at + seconds,
        ]
        same = np.ones_like(starts)
        counts = [self.before * same, kept_firsts, self.between * same, kept_seconds, self.after * same]
        sizes = np.stack(counts, axis=1)
        return ranges(np.stack(places, axis=1).ravel(), sizes.ravel()), sizes.sum(axis=1)


def layout_of(tokenizer: Any, has_pairs: bool) -> Layout | None:
    """How a tokenizer lays texts out; None where the texts of a pair cannot be told apart, for lack of segments."""
    if has_pairs and "token_type_ids" not in tokenizer.model_input_names:
        return None
    encoded = tokenizer("a", "a" if has_pairs else None, return_special_tokens_mask=True)
    texts = np.flatnonzero(np.array(encoded["special_tokens_mask"]) == 0)
    gap = int(np.diff(texts).max(initial=1)) - 1
    return Layout(
        int(texts[0]), gap, len(encoded["input_ids"]) - int(texts[-1]) - 1, tokenizer.truncation_side
    )


def _longest_first(firsts: Numbers, seconds: Numbers, room: int) -> tuple[Numbers, Numbers]:
    """What is left of each text of a pair, as the `longest_first` of Hugging Face's tokenizers has it."""
    short, long = np.minimum(firsts, seconds), np.maximum(firsts, seconds)
    fits = short + long <= room
    half = room // 2
    kept_short = np.where(fits | (short <= half), short, half)
    kept_long = np.where(fits, long, room - kept_short)
    swapped = firsts > seconds
    return np.where(swapped, kept_long, kept_short), np.where(swapped, kept_short, kept_long)
