"""Which task a step is of, and which rows of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bertlab.samplers.task_mixture import (
    Taken,
    TaskMixtureSampler,
    TaskParts,
    annealed,
    draw_tasks,
    task_probabilities,
)
from bertlab.samplers.token_budget import TokenBudgetSampler

ROWS = {"large": 60, "middle": 30, "small": 12}


def sampler(
    rank: int = 0,
    ranks: int = 1,
    micro_batches: int = 1,
    alpha: float = 1.0,
    tasks_per_step: int = 1,
    steps: int | None = None,
) -> TaskMixtureSampler:
    own = {
        name: TokenBudgetSampler(1 + np.arange(rows) % 5, 6, None, ranks, rank, micro_batches, seed=2)
        for name, rows in ROWS.items()
    }
    return TaskMixtureSampler(own, ROWS, lambda _: alpha, tasks_per_step, steps, seed=5)


def test_probabilities_are_powers_of_the_sizes():
    assert task_probabilities([64, 16, 4], 0.5) == pytest.approx([8 / 14, 4 / 14, 2 / 14])
    assert task_probabilities([64, 16, 4], 0.0) == pytest.approx([1 / 3] * 3)


def test_annealing_is_that_of_the_paper():
    for epochs in (2, 7):
        for e in range(1, epochs + 1):
            assert annealed(1.0, 0.2, e - 1, epochs) == pytest.approx(1 - 0.8 * (e - 1) / (epochs - 1))
    assert annealed(1.0, 0.2, 0, 1) == 1.0


def test_draws_have_the_frequencies_of_drawing_without_putting_back():
    chances = np.array([0.6, 0.3, 0.1])
    one = draw_tasks(chances, 20_000, 1, np.random.default_rng(0)).ravel()
    assert np.bincount(one) / 20_000 == pytest.approx(chances, abs=0.015)
    two = Counter(map(tuple, draw_tasks(chances, 20_000, 2, np.random.default_rng(1)).tolist()))
    for (a, b), count in two.items():
        both = chances[a] * chances[b] / (1 - chances[a]) + chances[b] * chances[a] / (1 - chances[b])
        assert count / 20_000 == pytest.approx(both, abs=0.015)
    assert len(two) == 3
    assert (draw_tasks(chances, 5, 3, np.random.default_rng(2)) == [0, 1, 2]).all()


def test_epochs_differ_and_seeds_decide():
    made = sampler(alpha=0.5, steps=40)
    assert made.tasks(0) == sampler(alpha=0.5, steps=40).tasks(0)
    assert made.tasks(0) != made.tasks(1)
    made.seed = 6
    assert made.tasks(0) != sampler(alpha=0.5, steps=40).tasks(0)


def test_an_epoch_has_the_steps_of_one_epoch_of_each_task():
    assert len(sampler()) == 10 + 5 + 2
    assert len(sampler(micro_batches=3)) == 3 * 17
    assert len(sampler(tasks_per_step=2)) == 9
    assert len(sampler(steps=40)) == 40


def test_each_task_goes_through_its_rows_in_its_own_epochs():
    made = sampler(steps=30)
    taken = Taken(0, 0, dict.fromkeys(ROWS, 0))
    seen: dict[str, list[int]] = {name: [] for name in ROWS}
    for epoch in range(4):
        taken = made.advanced(taken, epoch, 0, 30)
        made.resume(taken)
        for parts in made:
            ((name, part),) = parts.items()
            seen[name].extend(part.rows.tolist())
    for name, rows in ROWS.items():
        assert len(seen[name]) > rows
        for start in range(0, len(seen[name]) - rows + 1, rows):
            assert sorted(seen[name][start : start + rows]) == list(range(rows))
        if len(seen[name]) >= 2 * rows:
            assert seen[name][:rows] != seen[name][rows : 2 * rows]


def rows_of(parts: list[TaskParts]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in parts:
        for name, share in part.items():
            found.setdefault(name, []).extend(share.rows.tolist())
    return {name: sorted(rows) for name, rows in found.items()}


@pytest.mark.parametrize("tasks_per_step", [1, 2, 3])
def test_ranks_and_micro_batches_share_each_step(tasks_per_step):
    whole = list(sampler(tasks_per_step=tasks_per_step))
    for ranks, micro_batches in ((2, 1), (1, 3), (2, 2)):
        split = [list(sampler(rank, ranks, micro_batches, 1.0, tasks_per_step)) for rank in range(ranks)]
        for step, one in enumerate(whole):
            own = slice(step * micro_batches, (step + 1) * micro_batches)
            parts = [part for rank in split for part in rank[own]]
            assert rows_of(parts) == rows_of([one])
            assert all(part.keys() == one.keys() for part in parts)
            assert all(p.micro_batches == ranks * micro_batches for part in parts for p in part.values())
            assert all(
                (p.step_rows == one[name].step_rows).all() for part in parts for name, p in part.items()
            )


@pytest.mark.parametrize("stop", [0, 1, 7, 17])
def test_it_goes_on_from_any_step(stop):
    made, begin = sampler(tasks_per_step=2, steps=17), Taken(0, 0, dict.fromkeys(ROWS, 0))
    made.resume(made.advanced(begin, 1, 0, 17))
    whole = [rows_of([parts]) for parts in made]
    made.resume(made.advanced(begin, 1, stop, 17))
    assert [rows_of([parts]) for parts in made] == whole[stop:]
    if stop < 17:
        assert [rows_of([parts]) for parts in made.first_step()] == whole[stop : stop + 1]
    between = made.advanced(made.advanced(begin, 0, 9, 17), 1, stop, 17)
    assert between == made.advanced(begin, 1, stop, 17)


def test_epochs_that_are_cut_short_count_what_was_taken():
    made, begin = sampler(steps=20), Taken(0, 0, dict.fromkeys(ROWS, 0))
    counts = made.advanced(begin, 2, 1, 4).by_task
    drawn = [task for epoch, stop in ((0, 4), (1, 4), (2, 1)) for (task,) in made.tasks(epoch)[:stop]]
    assert counts == {name: drawn.count(name) for name in ROWS}


def test_a_step_beyond_the_epoch_is_refused():
    with pytest.raises(ValueError, match="after step 18 of an epoch of 17 steps"):
        sampler().resume(Taken(0, 18, dict.fromkeys(ROWS, 0)))
