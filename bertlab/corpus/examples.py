"""Examples: which stretches of a corpus's tokens make an example."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Examples(NamedTuple):
    """E examples as stretches of a corpus's tokens.

    Attributes:
        starts: (E, 2) int64 first token of A and of B.
        sizes: (E, 2) int64 tokens of A and of B; B is empty where there is no sentence task.
        labels: (E,) int64 1 where B is random (next sentence) or the two are swapped (sentence order).
    """

    starts: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def take(self, rows: Any) -> Examples:
        """Some of them, by number or slice."""
        return Examples(self.starts[rows], self.sizes[rows], self.labels[rows])


def empty_examples(count: int) -> Examples:
    """Room for `count` examples."""
    return Examples(
        np.zeros((count, 2), dtype=np.int64),
        np.zeros((count, 2), dtype=np.int64),
        np.zeros(count, dtype=np.int64),
    )
