from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bertlab.callbacks.latest_average import LatestAverage
from tests.callbacks.averaging import Watch, plain
from tests.callbacks.tiny import fit


@pytest.mark.parametrize(
    ("arguments", "windows"),
    [
        # Which weights, by optimizer steps done, are averaged when that many steps are done.
        ({"last": 2}, {6: [6], 11: [6], 12: [6, 12], 18: [12, 18], 24: [18, 24]}),
        ({"last": 9}, {6: [6], 12: [6, 12], 18: [6, 12, 18], 24: [6, 12, 18, 24]}),
        (
            {"last": 3, "at": "steps", "every_steps": 4, "start_step": 2},
            {2: [2], 5: [2], 6: [2, 6], 10: [2, 6, 10], 14: [6, 10, 14], 24: [14, 18, 22]},
        ),
        ({"last": 2, "start_fraction": 0.5}, {12: [12], 18: [12, 18], 24: [18, 24]}),
    ],
)
def test_is_the_mean_of_the_last(
    arguments: dict[str, Any], windows: dict[int, list[int]], tmp_path: Path
) -> None:
    _, alone = plain(tmp_path, epochs=4)
    watch, strategy = Watch(), LatestAverage(**arguments)
    fit([strategy], tmp_path, callbacks=(watch,), epochs=4, val_check_interval=1)
    for step, window in windows.items():
        for name, value in watch.validated[step].items():
            taken = [alone.trained[one][name].double() for one in window]
            expected = sum(taken[1:], taken[0]) / len(window)
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=2e-7)
    before = min(windows) - 1
    assert torch.equal(watch.validated[before]["head.weight"], alone.trained[before]["head.weight"])
    assert len(strategy._latest) == min(strategy.taken, arguments["last"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"last": 1}, "LatestAverage.last takes 2 or more, got 1"),
        ({"at": "step"}, "LatestAverage.at: 'step'; accepted are 'epoch', 'cycle', 'steps'"),
        ({"every_steps": 2}, "LatestAverage: `every_steps` goes with at: steps"),
        ({"start_fraction": -0.5}, r"LatestAverage.start_fraction takes \[0, 1\], got -0.5"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatestAverage(**arguments)
