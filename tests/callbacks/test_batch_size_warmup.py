from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertlab.callbacks.batch_size_warmup import BatchSizeWarmup
from bertlab.callbacks.sequence_length_warmup import SequenceLengthWarmup
from bertlab.samplers.phases import Phase
from tests.callbacks.curriculum_data import pretraining, texts
from tests.callbacks.seen_batches import Watcher, watch

pytestmark = pytest.mark.usefixtures("own_cache")


def sizes(task: Watcher) -> list[int]:
    """Sequences of each optimizer step."""
    steps = sorted({micro.step for micro in task.seen})
    return [sum(len(micro.rows) for micro in task.seen if micro.step == step) for step in steps]


def test_rows_of_texts_are_a_part_of_those_of_a_whole_step(sources: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": 2}
    task = watch([BatchSizeWarmup(4, fraction=0.5)], texts(sources), tmp_path, **common)
    plain = watch([], texts(sources), tmp_path, **common)
    assert sizes(task) == [4 + step for step in range(12)] + [16] * 12
    for step in range(24):
        part, whole = (
            {row for micro in seen if micro.step == step for row in micro.rows}
            for seen in (task.seen, plain.seen)
        )
        assert part <= whole
    for number, batch in enumerate(task.batches):
        assert batch.step_labels.shape == (sizes(task)[number // 2],)
        assert batch.micro_batches == 2


def test_a_token_budget_is_kept(sources: Path, tmp_path: Path) -> None:
    data = texts(sources, batch_size=None, max_tokens=180)
    task = watch([BatchSizeWarmup(2, fraction=0.5)], data, tmp_path, max_epochs=1)
    found = sizes(task)
    assert found[0] == 2
    assert found[: len(found) // 2] == sorted(found[: len(found) // 2])
    assert found[-1] == data.full_batch
    assert all(sum(map(len, micro.rows.values())) <= 180 for micro in task.seen)


@pytest.mark.parametrize("phases", [[Phase(64)], [Phase(32, 0.5), Phase(32, 0.2, 6), Phase(64, 0.3)]])
def test_pretraining_grows_as_by_its_own_option(phases: Any, sources: Path, tmp_path: Path) -> None:
    strategy = watch([BatchSizeWarmup(4, 0.3)], pretraining(sources, phases=phases), tmp_path, max_steps=12)
    own = pretraining(sources, phases=phases, batch_warmup_fraction=0.3, batch_warmup_start=4)
    assert strategy.seen == watch([], own, tmp_path, max_steps=12).seen
    assert sizes(strategy)[:5] == [4, 5, 7, 8, 10]  # 4 + 6 · t / 4
    numbers = [number for micro in strategy.seen for number in micro.rows]
    assert sorted(numbers) == list(range(len(numbers)))  # none is left out


@pytest.mark.parametrize("kind", [texts, pretraining])
def test_resumed_is_never_killed(kind: Any, sources: Path, tmp_path: Path) -> None:
    made = lambda: [BatchSizeWarmup(4, 0.8), SequenceLengthWarmup(8, fraction=0.6)]  # noqa: E731
    whole = watch(made(), kind(sources), tmp_path, max_steps=14).seen
    for stop, workers in ((2, 0), (9, 2)):
        folder = tmp_path / str(stop)
        first = watch(made(), kind(sources), folder, stop=stop + 1, max_steps=14).seen
        data = kind(sources, num_workers=workers)
        second = watch(made(), data, folder, folder / f"step={stop}.ckpt", max_steps=14).seen
        assert [micro for micro in first if micro.step < stop] + second == whole


def test_what_cannot_be_followed_is_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_warmup_fraction: 0.5 makes the batch grow, and so does"):
        watch([BatchSizeWarmup(2)], pretraining(sources, batch_warmup_fraction=0.5), tmp_path, max_steps=2)
    with pytest.raises(ValueError, match=r"start_size 3 cannot be split into 4 micro-batches"):
        watch([BatchSizeWarmup(3)], texts(sources), tmp_path, max_steps=2, accumulate_grad_batches=4)
    for arguments in ({"start_size": 0}, {"fraction": 0.0}):
        with pytest.raises(ValueError, match=f"BatchSizeWarmup.{next(iter(arguments))}"):
            BatchSizeWarmup(**arguments)


def test_a_batch_that_is_full_from_the_start_never_grows(sources: Path, tmp_path: Path) -> None:
    said = "start_size 16 is not less than the 16 sequences of a whole step"
    with pytest.warns(UserWarning, match=said):
        task = watch([BatchSizeWarmup(16)], texts(sources), tmp_path, max_steps=3)
    assert task.seen == watch([], texts(sources), tmp_path, max_steps=3).seen
