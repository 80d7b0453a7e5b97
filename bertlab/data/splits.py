"""Pure functions that divide rows: duplicates out, splits by a seed, stratified, no text in two of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def first_occurrences(keys: Sequence[Hashable]) -> Rows:
    """Rows whose key has not occurred before.

    >>> first_occurrences(["a", "b", "a"]).tolist()
    [0, 1]
    """
    first: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    return np.array(sorted(first.values()), dtype=np.int64)


def split_rows(
    keys: Sequence[Hashable], strata: Sequence[Hashable], fractions: Mapping[str, float], seed: int
) -> dict[str, Rows]:
    """Divide rows at random so that equal keys stay together and every stratum is divided alike.

    Of each stratum, a split gets its fraction of the groups of equal keys; what is lost or won by rounding is
    carried to the next stratum, so that many small strata add up to the right size. What no split claims is
    `train`, which keeps at least one group of every stratum.

    Args:
        keys: (n,) what must not be in two splits: the text.
        strata: (n,) what is to be represented alike: the label. A group belongs to that of its first row.
        fractions: share of each split beside `train`, with a sum below 1.
        seed: of the division; the same rows and seed give the same splits.

    Returns:
        Rows of `train` and of every key of `fractions`, each in ascending order.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    members: dict[Hashable, list[list[int]]] = {}
    for group in groups.values():
        members.setdefault(strata[group[0]], []).append(group)
    generator = np.random.default_rng(seed)
    split_groups: dict[str, list[list[int]]] = {name: [] for name in ("train", *fractions)}
    owed = dict.fromkeys(fractions, 0.0)  # what rounding kept from a split, for the next stratum
    for stratum in sorted(members, key=str):
        total = len(members[stratum])
        rest = [members[stratum][position] for position in generator.permutation(total)]
        for name, fraction in fractions.items():
            wanted = owed[name] + fraction * total
            take = max(0, min(round(wanted), len(rest) - 1))
            owed[name] = min(max(wanted - take, -0.5), 0.5)
            split_groups[name].extend(rest[:take])
            rest = rest[take:]
        split_groups["train"].extend(rest)
    return {
        name: np.array(sorted(row for group in chosen for row in group), dtype=np.int64)
        for name, chosen in split_groups.items()
    }
