"""Against the paper's step in plain PyTorch, and what the strategy refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from torch import Tensor

from bertlab.callbacks.adversarial_weights import AdversarialWeights
from bertlab.callbacks.strategy import Run, Strategy
from bertlab.interfaces import TextBatch
from tests.bits import assert_equal
from tests.callbacks.plain_bert import PlainBert, compare
from tests.callbacks.test_sharpness_aware import at_the_neighbour
from tests.callbacks.tiny import Timeline, fit


def awp(gamma: float) -> Any:
    def gradient(model: PlainBert, batch: TextBatch, step: int, part: int) -> list[Tensor]:
        first = model.gradients(model.losses(batch).mean())
        steps = []
        for (name, weight), slope in zip(model.named_parameters(), first, strict=True):
            matrix = name.endswith("weight") and len(weight.shape) == 2
            length = gamma * weight.detach().norm() if matrix else 0.0
            steps.append(length * slope / slope.norm().clamp_min(1e-300))
        return at_the_neighbour(model, batch, steps)

    return gradient


@pytest.mark.parametrize("parts", [1, 2])
def test_awp(parts: int, tmp_path: Path) -> None:
    compare(AdversarialWeights(gamma=0.05), awp(0.05), tmp_path, parts)


def test_the_default(tmp_path: Path) -> None:
    compare(AdversarialWeights(), awp(0.0003), tmp_path)


def test_it_begins_when_it_is_told(tmp_path: Path) -> None:
    timeline = Timeline()
    plain, _ = fit([], tmp_path, epochs=1)
    late, _ = fit([AdversarialWeights(start_fraction=0.5)], tmp_path, callbacks=(timeline,), epochs=1)
    whole, _ = fit([AdversarialWeights()], tmp_path, epochs=1)
    assert late.losses[:3] == plain.losses[:3]
    assert late.losses[3] > plain.losses[3]
    assert whole.losses[0] > plain.losses[0]
    assert (3, "AdversarialWeights", "stage", {"stage": 1, "ends_at_step": 6}) in timeline.events


class Vectors(Strategy):
    """Trains no matrix."""

    touches: ClassVar[set[str]] = {"parameters"}

    def apply(self, run: Run) -> None:
        run.train_parameters(p for block in run.all_blocks for p in block.parameters() if p.dim() == 1)


def test_where_no_matrix_is_trained_it_says_so_and_trains_as_without_it(tmp_path: Path) -> None:
    plain, _ = fit([Vectors()], tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="AdversarialWeights would do nothing.*frozen from start to end"):
        found, _ = fit([Vectors(), AdversarialWeights()], tmp_path, epochs=1)
    assert_equal(dict(found.state_dict()), dict(plain.state_dict()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.0}, "AdversarialWeights.gamma takes a number above 0, got 0.0"),
        ({"gamma": float("inf")}, "AdversarialWeights.gamma takes a number above 0, got inf"),
        ({"start_fraction": -0.1}, r"start_fraction takes a fraction of training in \[0, 1\), got -0.1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialWeights(**arguments)


def test_weights_in_half_precision_are_refused() -> None:
    trainer: Any = SimpleNamespace(precision="16-true")
    with pytest.raises(ValueError, match=r"less than a rounding of trainer\.precision 16-true: use"):
        AdversarialWeights().prepare(trainer, None, None)  # type: ignore[arg-type]
