from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from bertlab.callbacks.child_tuning import ChildTuning, greatest, packed, unpacked
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.fisher import fisher_information
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.unfreezing_plans import Stage
from tests.callbacks.contract.fragments import SaveAfter
from tests.callbacks.real import Gradients, fit_bert, information, still
from tests.callbacks.tiny import Timeline, TinyData, TinyTask, fit
from tests.tasks.tiny import TinyData as TextData
from tests.tasks.tiny import tiny_trainer


def plain_and_masked(strategy: ChildTuning, root: Path) -> tuple[Gradients, Gradients]:
    plain, masked = Gradients(), Gradients()
    fit_bert([], root, callbacks=(plain,), task=still())
    trainer = tiny_trainer(root, callbacks=[StepSeed(0), strategy, masked])  # the watcher sees what is edited
    trainer.fit(still(), datamodule=TextData())
    return plain, masked


def test_task_free_keeps_and_scales_a_share_of_the_layers(tmp_path: Path) -> None:
    plain, masked = plain_and_masked(ChildTuning("task_free", 0.25), tmp_path)
    kept: list[torch.Tensor] = []
    for before, after in zip(plain.steps, masked.steps, strict=True):
        for name, gradient in before.items():
            assert gradient is not None
            assert after[name] is not None
            if ".layer." not in name:
                assert torch.equal(after[name], gradient), name
                continue
            alive = after[name] != 0
            torch.testing.assert_close(after[name][alive], 4 * gradient[alive], rtol=1e-5, atol=0.0)
            if name.endswith("layer.0.output.dense.weight"):
                kept.append(alive)
    assert torch.stack(kept).float().mean() == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(kept[0], kept[1])


def test_task_driven_keeps_the_greatest_fisher_information(tmp_path: Path) -> None:
    """Against squares of gradients that a plain training without dropout shows."""
    timeline = Timeline()
    strategy = ChildTuning("task_driven", 0.1)
    plain, masked = plain_and_masked(strategy, tmp_path)
    names = [name for name in plain.steps[0] if ".layer." in name]
    information = {name: torch.stack([step[name] for step in plain.steps]).square().mean(0) for name in names}
    every = torch.cat([value.flatten() for value in information.values()])
    limit = every.sort(descending=True).values[round(0.1 * len(every)) - 1]
    chosen = 0
    for before, after in zip(plain.steps, masked.steps, strict=True):
        for name, gradient in before.items():
            mask = information[name] >= limit if name in information else torch.ones_like(gradient).bool()
            assert torch.equal(after[name], gradient * mask), name
            chosen += int(mask.sum()) if name in information else 0
    assert chosen == 6 * round(0.1 * len(every))
    fit_bert([ChildTuning("task_driven", 0.1)], tmp_path, callbacks=(timeline,), task=still())
    event = next(facts for *_, what, facts in timeline.events if what == "child_network")
    assert event == {"numbers": round(0.1 * len(every)), "of": len(every), "fisher_steps": 6}


def test_information_of_some_steps_differs(tmp_path: Path) -> None:
    whole, part = information(tmp_path, 1), information(tmp_path, 1, steps=2)
    assert not all(torch.allclose(one, other) for one, other in zip(whole, part, strict=True))


def test_training_data_is_left_where_it_was(tmp_path: Path) -> None:
    """The same batches in the same order as without looking at them first."""
    losses = []
    for strategies in ([], [ChildTuning("task_driven", 1e-9)]):
        seen: list[float] = []

        class Losses(Callback):
            def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
                seen.append(float(outputs["loss"]))  # noqa: B023

        fit_bert(strategies, tmp_path, task=still(), callbacks=(Losses(),), dropout=0.2)
        losses.append(seen)
    assert losses[0] == losses[1]


def test_masks_are_kept_in_checkpoints_and_not_found_again(tmp_path: Path) -> None:
    timeline = Timeline()
    strategy = ChildTuning("task_driven", 0.2)
    _, trainer = fit([strategy], tmp_path, epochs=1)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    state = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]
    masks = next(value["masks"] for key, value in state.items() if "ChildTuning" in key)
    assert all(mask.dtype == torch.uint8 for mask in masks.values())
    numbers = sum(p.numel() for layer in TinyTask().layers for p in layer.parameters())
    assert sum(len(mask) for mask in masks.values()) <= numbers / 8 + len(masks)
    resumed = ChildTuning("task_driven", 0.2)
    fit([resumed], tmp_path, epochs=2, ckpt_path=tmp_path / "end.ckpt", callbacks=(timeline,))
    assert all(torch.equal(mask, resumed.masks[name]) for name, mask in masks.items())
    assert "child_network" not in {what for _, _, what, _ in timeline.events}


def test_it_sees_the_task_as_it_is_and_not_what_is_frozen_at_first(tmp_path: Path) -> None:
    stages = [Stage(["head"], until_step=2), Stage(["all"])]
    alone, together = ChildTuning("task_driven", 0.3), ChildTuning("task_driven", 0.3)
    fit([alone], tmp_path, epochs=1)
    task, _ = fit([together, StagedUnfreezing(stages=stages)], tmp_path, epochs=1)
    assert all(torch.equal(mask, together.masks[name]) for name, mask in alone.masks.items())
    assert isinstance(task.layers[0], nn.Sequential)


def test_it_sees_the_loss_that_the_first_step_is_trained_on(tmp_path: Path) -> None:
    class Seen(TinyTask):
        def training_loss(self, batch: Any) -> Any:
            seen.append(None if self.class_weights is None else self.class_weights.tolist())
            return super().training_loss(batch)

    seen: list[Any] = []
    weights = CostWeightedLoss(weights="costs", costs={"ham": 1, "spam": 1, "news": 50})
    fit([ChildTuning("task_driven"), weights], tmp_path, task=Seen(), epochs=1)
    assert len(seen) == 12  # six of each
    assert all(found == [1.0, 1.0, 50.0] for found in seen)


def test_information_in_bfloat16_is_added_up_in_float32(tmp_path: Path) -> None:
    """In bfloat16 the sum of 300 ones is 256."""

    class Constant(TinyTask):
        def training_loss(self, batch: Any) -> Any:
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum()

    class Find(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            found.extend(fisher_information(trainer, list(pl_module.layers.parameters()))[0])

    found: list[torch.Tensor] = []
    data, settings = TinyData(300), {"precision": "bf16-true", "limit_val_batches": 0}
    fit([], tmp_path, task=Constant(), data=data, epochs=1, callbacks=(Find(),), max_steps=1, **settings)
    assert all(torch.equal(value, torch.ones(value.shape)) for value in found)


def test_a_checkpoint_of_the_other_mode_has_no_mask(tmp_path: Path) -> None:
    fit(
        [ChildTuning("task_free")],
        tmp_path,
        epochs=1,
        callbacks=(SaveAfter(tmp_path, {3}),),
        enable_checkpointing=True,
    )
    with pytest.raises(
        ValueError, match=r"ChildTuning.mode: task_driven, and the checkpoint has no child network"
    ):
        fit([ChildTuning("task_driven")], tmp_path, epochs=1, ckpt_path=tmp_path / "step=3.ckpt")


def test_greatest_takes_ties_and_no_zeros() -> None:
    values = {"a": torch.tensor([1.0, 3.0, 1.0]), "b": torch.tensor([0.0, 0.0, 0.0])}
    assert {name: mask.tolist() for name, mask in greatest(values, 1 / 3).items()} == {
        "a": [True, True, True],
        "b": [False] * 3,
    }
    assert greatest(values, 1.0)["b"].tolist() == [False] * 3


@pytest.mark.parametrize("shape", [(3,), (8,), (4, 5), (1, 7, 3)])
def test_packed_bits_come_back(shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
    assert len(packed(mask)) == -(-mask.numel() // 8)
    assert torch.equal(unpacked(packed(mask), mask.shape), mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "driven"}, "ChildTuning.mode: 'driven'; accepted are 'task_free', 'task_driven'"),
        ({"share": 0.0}, r"ChildTuning.share takes a number in \(0, 1\], got 0.0"),
        ({"share": 1.5}, r"ChildTuning.share takes a number in \(0, 1\], got 1.5"),
        ({"fisher_steps": 3}, "fisher_steps takes 1 or more, and goes with mode: task_driven alone; got 3"),
        ({"mode": "task_driven", "fisher_steps": 0}, "fisher_steps takes 1 or more"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChildTuning(**arguments)


def test_half_precision_without_scaling_is_refused(tmp_path: Path) -> None:
    trainer: Any = type("Stub", (), {"precision": "16-mixed"})()
    with pytest.raises(TypeError, match="ChildTuning of mode task_driven computes gradients of its own"):
        ChildTuning("task_driven").prepare(trainer, None, None)  # type: ignore[arg-type]


def test_nothing_to_mask_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="ChildTuning would do nothing in this training: share is 1"):
        fit([ChildTuning(share=1.0)], tmp_path, epochs=1)
    stages = [Stage(["head"])]
    with pytest.warns(UserWarning, match="ChildTuning would do nothing.*frozen from start to end"):
        fit([ChildTuning(), StagedUnfreezing(stages=stages)], tmp_path, epochs=1)
