from __future__ import annotations

import numpy as np
import pytest

from bertlab.samplers.poisson import PoissonSampler

LENGTHS = np.arange(1, 201)


def test_each_row_is_drawn_by_a_coin_of_its_own() -> None:
    sampler = PoissonSampler(LENGTHS, batch_size=20, seed=3)
    steps = [set(step.tolist()) for epoch in range(200) for step in sampler.steps(epoch)]
    assert sampler.rate == 0.1
    assert len(steps) == 2000
    drawn = np.array([[row in step for row in range(200)] for step in steps])
    # Means within five standard deviations, for each row and over all; sizes spread as binomials do.
    assert np.abs(drawn.mean(0) - 0.1).max() < 5 * np.sqrt(0.09 / 2000)
    sizes = drawn.sum(1)
    assert abs(sizes.mean() - 20) < 5 * np.sqrt(18 / 2000)
    assert sizes.var() == pytest.approx(18, rel=0.15)
    # No row looks at another, or at the step before.
    for other in (drawn[:, 1], np.roll(drawn[:, 0], 1)):
        assert np.corrcoef(drawn[:, 0], other)[0, 1] == pytest.approx(0, abs=5 / np.sqrt(2000))


def test_draws_follow_from_seed_and_epoch() -> None:
    def draws(**options: int) -> list[list[int]]:
        return [
            step.tolist() for step in PoissonSampler(LENGTHS, 20, **options).steps(options.pop("epoch", 0))
        ]

    assert draws(seed=1) == draws(seed=1)
    assert draws(seed=1) != draws(seed=2)
    assert draws(seed=1, entropy=2**100) == draws(seed=2, entropy=2**100)
    assert draws(entropy=2**100) != draws(entropy=2**100 + 1)
    sampler = PoissonSampler(LENGTHS, 20)
    assert [step.tolist() for step in sampler.steps(0)] != [step.tolist() for step in sampler.steps(1)]


def test_ranks_and_micro_batches_share_each_step_and_may_have_nothing() -> None:
    parts = [PoissonSampler(np.ones(40, dtype=np.int64), 4, 2, rank, 2, seed=5) for rank in (0, 1)]
    batches = [list(sampler) for sampler in parts]
    whole = parts[0].steps(0)
    assert min(map(len, whole)) < 4
    for number, step in enumerate(whole):
        shares = [batches[rank][2 * number + i].rows for rank in (0, 1) for i in (0, 1)]
        assert sorted(np.concatenate(shares).tolist()) == step.tolist()
        assert all(b.step_rows is not None and b.micro_batches == 4 for rank in (0, 1) for b in batches[rank])
    assert any(len(batch.rows) == 0 for rank in (0, 1) for batch in batches[rank])


def test_a_step_of_more_rows_than_there_are_takes_all() -> None:
    sampler = PoissonSampler(LENGTHS, 1000)
    assert (sampler.rate, sampler.steps_per_epoch) == (1.0, 1)
    assert sampler.steps(0)[0].tolist() == list(range(200))
