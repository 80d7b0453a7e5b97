from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bertlab.interfaces import TRAINED_WEIGHTS
from bertlab.prediction.checkpoint_average import average_checkpoints


def write(path: Path, value: float, **changes: Any) -> Path:
    weight = torch.full((2, 2), value)
    state: dict[str, Any] = {
        "embedding.weight": weight,
        "decoder.weight": weight,
        "half": torch.full((2,), value, dtype=torch.bfloat16),
        "count": torch.tensor(int(value)),
    }
    checkpoint: dict[str, Any] = {
        "state_dict": state,
        "global_step": int(value),
        "epoch": 0,
        "pytorch-lightning_version": "2.6.0",
        "callbacks": {"Some": {"large": torch.ones(1000)}},
        "optimizer_states": [{}],
        "loops": {},
        "bertlab_task": "Mine",
        TRAINED_WEIGHTS: state,
    }
    torch.save(checkpoint | changes, path)
    return path


def test_what_is_in_it(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{value}.ckpt", value) for value in (1.0, 2.0, 6.0)]
    made = average_checkpoints(files)
    state = made["state_dict"]
    assert list(state) == ["embedding.weight", "decoder.weight", "half", "count"]
    assert state["embedding.weight"].tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert state["decoder.weight"] is state["embedding.weight"]  # tied: written once
    assert state["half"].dtype == torch.bfloat16
    assert state["half"].tolist() == [3.0, 3.0]
    assert state["count"].item() == 6  # cannot be averaged: the last file's
    del made["state_dict"]
    assert made == {
        "global_step": 6,
        "epoch": 0,
        "pytorch-lightning_version": "2.6.0",
        "bertlab_task": "Mine",
        "bertlab_averaged": [str(file) for file in files],
    }


def test_is_tied_only_if_all_are(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ckpt", 1.0)
    untied = torch.load(one, weights_only=True)["state_dict"] | {"decoder.weight": torch.zeros(2, 2)}
    state = average_checkpoints([one, write(tmp_path / "two.ckpt", 2.0, state_dict=untied)])["state_dict"]
    assert state["embedding.weight"].unique().tolist() == [1.0]
    assert state["decoder.weight"].unique().tolist() == [0.5]


def test_the_mean_of_equal_checkpoints_is_each_to_the_bit(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{copy}.ckpt", 0.1) for copy in range(7)]
    state = average_checkpoints(files)["state_dict"]
    assert torch.equal(state["embedding.weight"], torch.full((2, 2), 0.1))
