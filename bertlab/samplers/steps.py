"""Pure arithmetic of an epoch: how many optimizer steps it has, and which rows go into each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bertlab.samplers.micro_batch import Rows


def steps_for_rows(rows: int, batch_size: int) -> int:
    """Fewest optimizer steps of at most `batch_size` rows.

    >>> steps_for_rows(100, 32)
    4
    """
    return -(-rows // batch_size)


def steps_for_tokens(lengths: npt.NDArray[np.int64], max_tokens: int) -> int:
    """Fewest optimizer steps K such that `stratified_steps` never makes one of more than `max_tokens`.

    With the lengths in descending order, a step takes one sequence of each run of K neighbours, so the
    heaviest possible step holds every K-th length, whatever the shuffle: the limit is kept in every epoch,
    and K is the same in all of them.

    Args:
        lengths: (n,) tokens of each sequence.
        max_tokens: tokens of an optimizer step at most; not less than the longest sequence.

    >>> steps_for_tokens(np.array([5, 5, 4, 3, 3, 2]), 10)
    3
    """
    descending = np.sort(lengths)[::-1]
    low, high = 1, len(lengths)
    while low < high:
        middle = (low + high) // 2
        if descending[::middle].sum() <= max_tokens:
            high = middle
        else:
            low = middle + 1
    return low


def shuffled_steps(rows: Rows, steps: int, generator: np.random.Generator) -> list[Rows]:
    """Plain shuffling: a random permutation cut into steps whose numbers of rows differ by one at most.

    >>> sorted(len(step) for step in shuffled_steps(np.arange(10), 4, np.random.default_rng(0)))
    [2, 2, 3, 3]
    """
    return np.array_split(generator.permutation(rows), steps)


def stratified_steps(
    rows: Rows, lengths: npt.NDArray[np.int64], steps: int, generator: np.random.Generator
) -> list[Rows]:
    """Shuffling stratified by length: steps of nearly equal numbers of rows *and* of tokens.

    Rows are ordered by length (equal ones at random) and cut into strata of `steps` neighbours; each stratum
    is dealt out at random, one row to a step. Two steps differ by one row at most, and their tokens by the
    spread of the lengths at most.

    Args:
        rows: (n,) rows of the epoch (a row that occurs twice is dealt twice).
        lengths: (n,) tokens of each of them.
        steps: number of steps, at most n.
        generator: source of all randomness.

    Returns:
        The rows of each step.
    """
    shuffled = generator.permutation(len(rows))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    members: list[list[int]] = [[] for _ in range(steps)]
    for start in range(0, len(order), steps):
        stratum = order[start : start + steps]
        for step, position in zip(
            generator.permutation(steps)[: len(stratum)].tolist(), stratum, strict=True
        ):
            members[step].append(int(rows[position]))
    return [np.array(step, dtype=np.int64) for step in members]
