from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertlab.callbacks.mask_rate_schedule import MaskRateSchedule
from tests.callbacks.curriculum_data import pretraining, texts
from tests.callbacks.seen_batches import watch
from tests.callbacks.tiny import Timeline, fit

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("masking", ["token", "whole_word"])
def test_the_rate_falls_and_validation_keeps_its_own(masking: Any, sources: Path, tmp_path: Path) -> None:
    options = {"masking": masking, "short_fraction": 0.0}
    common: dict[str, Any] = {"max_steps": 12, "accumulate_grad_batches": 2}
    task = watch(
        [MaskRateSchedule(0.4, 0.1, fraction=0.5)], pretraining(sources, **options), tmp_path, **common
    )
    plain = watch([], pretraining(sources, **options), tmp_path, **common)
    rates = [0.4 - 0.05 * min(step, 6) for step in range(12)]
    for number, batch in enumerate(task.batches):
        whole_step = task.batches[number - number % 2 : number - number % 2 + 2]
        assert batch.step_masked == sum(len(part.masked_positions) for part in whole_step)
        wanted = sum(max(1, round(rates[number // 2] * length)) for length in batch.lengths.tolist())
        if masking == "token":
            assert len(batch.masked_positions) == wanted
        else:  # a word that would exceed the number is skipped
            assert 0.6 * wanted < len(batch.masked_positions) <= wanted
    assert [sorted(micro.rows) for micro in task.seen] == [sorted(micro.rows) for micro in plain.seen]
    assert task.validated == plain.validated
    for micro in task.validated:
        assert micro.masked == sum(max(1, round(0.15 * len(ids))) for ids in micro.rows.values())


def test_resumed_is_never_killed(sources: Path, tmp_path: Path) -> None:
    whole = watch([MaskRateSchedule()], pretraining(sources), tmp_path, max_steps=10).seen
    for stop, workers in ((1, 0), (6, 2)):
        folder = tmp_path / str(stop)
        first = watch([MaskRateSchedule()], pretraining(sources), folder, stop=stop + 1, max_steps=10).seen
        data = pretraining(sources, num_workers=workers)
        second = watch([MaskRateSchedule()], data, folder, folder / f"step={stop}.ckpt", max_steps=10).seen
        assert [micro for micro in first if micro.step < stop] + second == whole


def test_what_cannot_be_followed_is_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TypeError, match=r"MaskRateSchedule changes mask_rate.*TextClassificationData cannot do"
    ):
        watch([MaskRateSchedule()], texts(sources), tmp_path, max_steps=2)
    with pytest.raises(ValueError, match=r"max_predictions: 10 is less than the 19 tokens"):
        watch([MaskRateSchedule()], pretraining(sources, max_predictions=10), tmp_path, max_steps=2)
    rising = MaskRateSchedule(start_rate=0.1, end_rate=0.3)
    with pytest.raises(
        ValueError, match=r"max_predictions: 10 is less than the 19 tokens.*a mask rate of 0.3 takes"
    ):
        watch([rising], pretraining(sources, max_predictions=10), tmp_path, max_steps=2)
    for arguments in ({"start_rate": 0.0}, {"end_rate": 1.0}, {"start_rate": 0.15}, {"fraction": 2.0}):
        with pytest.raises(ValueError, match=f"MaskRateSchedule.*{next(iter(arguments))}"):
            MaskRateSchedule(**arguments)


def test_less_than_a_step_is_the_last_rate_throughout(sources: Path, tmp_path: Path) -> None:
    """Not that of the data, which says nothing of a training with a schedule."""
    data = pretraining(sources, short_fraction=0.0)
    with pytest.warns(
        UserWarning, match=r"MaskRateSchedule.fraction 0.01.*is not one step.*end_rate, 0.4, from the"
    ):
        task = watch([MaskRateSchedule(0.5, 0.4, fraction=0.01)], data, tmp_path, max_steps=3)
    assert data.mask_rate != 0.4
    for batch in task.batches:
        assert len(batch.masked_positions) == sum(max(1, round(0.4 * n)) for n in batch.lengths.tolist())


def test_the_timeline_says_what_changes(tmp_path: Path) -> None:
    timeline = Timeline()
    fit([MaskRateSchedule(0.3, 0.2, fraction=0.5)], tmp_path, callbacks=(timeline,))
    noted = (0, "MaskRateSchedule", "mask_rate", {"start": 0.3, "end": 0.2, "steps": 9})
    assert noted in timeline.events
