from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from bertlab.callbacks.reinit_top_layers import ReinitTopLayers
from tests.callbacks.real import fit_bert
from tests.callbacks.tiny import Timeline, TinyTask, fit
from tests.tasks.tiny import tiny_encoder, tiny_task


class AtStart(Callback):
    """The weights that the first step begins with."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer, pl_module) -> None:
        self.weights = {name: p.detach().clone() for name, p in pl_module.named_parameters()}


@pytest.mark.parametrize(
    ("arguments", "drawn"),
    [
        ({"layers": 1}, ["layer.1", "pooler"]),
        ({"layers": 2, "pooler": False}, ["layer.0", "layer.1"]),
        ({"layers": 0}, ["pooler"]),
    ],
)
def test_blocks_that_are_drawn_anew(arguments: dict, drawn: list[str], tmp_path: Path) -> None:
    encoder = tiny_encoder()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    timeline, start = Timeline(), AtStart()
    fit_bert(
        [ReinitTopLayers(**arguments)], tmp_path, task=tiny_task(encoder=encoder), callbacks=(timeline, start)
    )
    chosen = {id(p) for block in encoder.blocks() if block.name in drawn for p in block.parameters()}
    for name, parameter in encoder.named_parameters():
        value = start.weights[f"encoder.{name}"]
        assert torch.equal(value, before[name]) == (id(parameter) not in chosen), name
        if id(parameter) in chosen:
            assert value.abs().max() <= 1.0  # normal with 0.02; biases 0, normalisations 1
    assert (0, "ReinitTopLayers", "drawn_anew", {"blocks": drawn}) in timeline.events


def test_the_seed_of_the_run_decides(tmp_path: Path) -> None:
    start, again = AtStart(), AtStart()
    for seen in (start, again):
        fit([ReinitTopLayers(1)], tmp_path, callbacks=(seen,), epochs=1)
    assert all(torch.equal(value, again.weights[name]) for name, value in start.weights.items())
    assert not torch.equal(start.weights["layers.2.0.weight"], TinyTask().layers[2][0].weight)


def test_more_layers_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layers takes at most the 3 layers of the encoder, got 4"):
        fit([ReinitTopLayers(4)], tmp_path)


def test_a_negative_number() -> None:
    with pytest.raises(ValueError, match=r"ReinitTopLayers.layers takes 0 or more, got -1"):
        ReinitTopLayers(-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"layers": 0},
            "ReinitTopLayers would do nothing.*layers is 0, and the encoder has no pooler in use",
        ),
        ({"layers": 0, "pooler": False}, "layers is 0, and pooler is false"),
    ],
)
def test_nothing_to_draw_is_said(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=message):
        fit([ReinitTopLayers(**arguments)], tmp_path, epochs=1)
