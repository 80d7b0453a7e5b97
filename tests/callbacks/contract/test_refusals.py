"""Which strategies are refused together: these and no others, so that a needless refusal is seen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import peft
import pytest

from bertlab.callbacks.combination import claims_of
from bertlab.callbacks.low_rank_adapters import LowRankAdapters
from bertlab.callbacks.private_training import PrivateTraining
from bertlab.callbacks.strategy import Strategy
from tests.callbacks.contract.fragments import FRAGMENTS, clash, strategy
from tests.callbacks.contract.grounds import Vectors
from tests.callbacks.tiny import TinyTask

#: Of each of these one alone can be used, since it decides: which blocks are trained; which parameters of them; what
#: the average is; where word vectors are.
ONE_OF = [
    {"AutoFreeze", "StagedUnfreezing"},
    {"AdaptiveRankAdapters", "BitFit", "LowRankAdapters"},
    {"ExponentialAverage", "LatestAverage", "StochasticAverage"},
    {"FastGradient", "FreeLB"},
]
#: What rows are to frozen blocks differs from pass to pass: not beside `FrozenTrunkCache`.
CHANGES_INPUTS = {"FastGradient", "FreeLB", "MaskRateSchedule", "NeftuneNoise", "SequenceLengthWarmup"}
#: What looks at no row, no label and no gradient: nothing else goes beside `PrivateTraining`.
LOOKS_AT_NOTHING = {
    "BitFit",
    "ExponentialAverage",
    "FrozenTrunkCache",
    "LatestAverage",
    "LowRankAdapters",
    "LrRestarts",
    "ReinitTopLayers",
    "StagedUnfreezing",
    "StochasticAverage",
}
STRATEGIES = {type(found).__name__: found for found in map(strategy, FRAGMENTS)}
PAIRS = list(combinations(sorted(STRATEGIES), 2))


def expected() -> Iterator[tuple[str, str]]:
    for one, other in PAIRS:
        pair = {one, other}
        if (
            any(pair <= alike for alike in ONE_OF)
            or ("FrozenTrunkCache" in pair and pair & CHANGES_INPUTS)
            or ("PrivateTraining" in pair and not pair & LOOKS_AT_NOTHING)
        ):
            yield one, other


def refused(one: Strategy, other: Strategy) -> bool:
    try:
        claims_of([one, other], TinyTask())
    except ValueError:
        return True
    return False


def test_these_pairs_are_refused_and_no_others() -> None:
    found = {(one, other) for one, other in PAIRS if refused(STRATEGIES[one], STRATEGIES[other])}
    assert found == set(expected())
    # What the suite of pairs takes as refused is what bertlab refuses.
    assert found == {(one, other) for one, other in PAIRS if clash(STRATEGIES[one], STRATEGIES[other])}


@pytest.mark.parametrize("names", [*ONE_OF, CHANGES_INPUTS, LOOKS_AT_NOTHING])
def test_the_table_names_strategies_that_are_there(names: set[str]) -> None:
    assert names <= STRATEGIES.keys()


@pytest.mark.parametrize(
    ("beside", "like_a_user", "message"),
    [
        ([], True, r"PrivateTraining: .* share a trained parameter"),
        (
            [peft.IA3Config(target_modules="all-linear", feedforward_modules=[])],
            False,
            r"PrivateTraining: .* with trained parameters of its own",
        ),
    ],
    ids=["tied weights", "scales of (IA)³"],
)
def test_privacy_is_refused_by_name_where_gradients_of_single_sequences_are_not_known(
    beside: list[peft.PeftConfig], like_a_user: bool, message: str, tmp_path: Path
) -> None:
    strategies = [PrivateTraining(noise_multiplier=1.0), *map(LowRankAdapters, beside)]
    common = {"like_a_user": like_a_user, "dropout": 0.0, "before": (), "behind": ()}
    with pytest.raises(ValueError, match=message):
        Vectors().train(strategies, tmp_path, **common)
