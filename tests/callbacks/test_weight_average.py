"""What holds for every average: training goes on as without one, and neither of the two weights is ever lost."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from bertlab.callbacks.exponential_average import ExponentialAverage
from bertlab.callbacks.latest_average import LatestAverage
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.stochastic_average import StochasticAverage
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.callbacks.weight_average import WeightAverage, averaged_tensors
from bertlab.interfaces import TRAINED_WEIGHTS
from tests.bits import assert_equal
from tests.callbacks.averaging import Save, Watch, plain, weights
from tests.callbacks.tiny import Timeline, TinyTask, fit
from tests.tasks.tiny import TinyData as TextData
from tests.tasks.tiny import tiny_task, tiny_trainer
from tests.tasks.tiny_pretraining import TinyData as PretrainingData
from tests.tasks.tiny_pretraining import tiny_task as tiny_pretraining

Make = Callable[[], WeightAverage]
AVERAGES: list[Make] = [
    lambda: ExponentialAverage(decay=0.8, start_step=4),
    lambda: StochasticAverage(at="steps", every_steps=3, start_step=4),
    lambda: LatestAverage(last=3, at="steps", every_steps=2, start_step=4),
]
each = pytest.mark.parametrize("make", AVERAGES, ids=["exponential", "stochastic", "latest"])


def different(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return any(not torch.equal(one[name], other[name]) for name in one)


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@each
def test_training_goes_on_as_without(make: Make, tmp_path: Path) -> None:
    task, alone = plain(tmp_path, val_check_interval=2)
    watch, strategy = Watch(), make()
    averaged, _ = fit([strategy], tmp_path, callbacks=(watch,), val_check_interval=2)
    assert averaged.losses == task.losses
    del alone.trained[18]
    assert_equal(watch.trained, alone.trained)
    assert_equal(dict(strategy.trained or {}), weights(task))


@each
def test_the_average_is_validated_and_left_in_the_model(make: Make, tmp_path: Path) -> None:
    watch, strategy = Watch(), make()
    task, _ = fit([strategy], tmp_path, callbacks=(watch,), val_check_interval=2)
    assert sorted(watch.validated) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert_equal(watch.validated[2], watch.trained[2])  # before it has begun
    assert_equal(watch.validated[4], watch.trained[4])  # the first weights are the average
    for step in (8, 12, 16):
        assert different(watch.validated[step], watch.trained[step])
    assert_equal(watch.validated[18], weights(task))
    assert_equal(weights(task), dict(strategy.average))


@each
def test_a_checkpoint_holds_both(make: Make, tmp_path: Path) -> None:
    watch, strategy = Watch(), make()
    callbacks = (watch, Save(tmp_path))
    task, trainer = fit(
        [strategy], tmp_path, callbacks=callbacks, val_check_interval=2, enable_checkpointing=True
    )
    for step in (0, 2):
        kept = read(tmp_path / f"before-{step}.ckpt")
        assert TRAINED_WEIGHTS not in kept
        assert_equal(dict(kept["state_dict"]), watch.trained[step])
    for step in (6, 8, 16):
        for where in ("before", "inside"):
            kept = read(tmp_path / f"{where}-{step}.ckpt")
            assert_equal(dict(kept["state_dict"]), watch.validated[step], where)
            assert_equal(dict(kept[TRAINED_WEIGHTS]), watch.trained[step], where)
    # The same after the fit, whoever asks for it.
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    kept = read(tmp_path / "after.ckpt")
    assert_equal(dict(kept["state_dict"]), weights(task))
    assert_equal(dict(kept[TRAINED_WEIGHTS]), dict(strategy.trained or {}))


@each
def test_a_checkpoint_of_weights_alone_is_the_average(make: Make, tmp_path: Path) -> None:
    watch = Watch()
    callbacks = (watch, Save(tmp_path, weights_only=True))
    task, _ = fit([make()], tmp_path, callbacks=callbacks, val_check_interval=2, enable_checkpointing=True)
    for step in (2, 8, 16):
        for where in ("before", "inside"):
            kept = read(tmp_path / f"{where}-{step}.ckpt")
            assert_equal(dict(kept["state_dict"]), watch.validated[step], where)
            assert TRAINED_WEIGHTS not in kept
    assert "on_save_checkpoint" not in vars(task)


def test_the_average_is_written_once(tmp_path: Path) -> None:
    """It stands in `state_dict` and among the strategy's own: a file of two models and Adam's two moments."""
    task = TinyTask(layers=40)
    size = sum(value.numel() * 4 for value in task.parameters())
    fit(
        [ExponentialAverage()],
        tmp_path,
        task=task,
        callbacks=(Save(tmp_path),),
        epochs=1,
        enable_checkpointing=True,
    )
    tensors: dict[int, int] = {}

    def collect(value: Any) -> None:
        if isinstance(value, Tensor):
            tensors[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict | list | tuple):
            for item in value.values() if isinstance(value, dict) else value:
                collect(item)

    collect(read(tmp_path / "before-5.ckpt"))
    assert sum(tensors.values()) == pytest.approx(4 * size, rel=0.05)


@each
def test_a_second_fit_goes_on_from_the_trained_weights(make: Make, tmp_path: Path) -> None:
    """Trap 9: a fit that leaves the average behind must not lose what was trained."""
    watch, strategy = Watch(), make()
    task, trainer = fit([strategy], tmp_path, callbacks=(watch,))
    trained = {name: value.clone() for name, value in (strategy.trained or {}).items()}
    assert different(trained, weights(task))
    trainer.fit_loop.max_epochs = 4
    trainer.fit(task, datamodule=trainer.datamodule)  # type: ignore[attr-defined]
    assert_equal(watch.trained[18], trained)


@each
def test_a_validation_that_fails_puts_the_trained_weights_back(make: Make, tmp_path: Path) -> None:
    class Fails(Callback):
        def on_validation_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 12:
                raise OSError("a disk has failed")

    _, alone = plain(tmp_path)
    task = TinyTask()
    with pytest.raises(OSError, match="a disk has failed"):
        fit([make()], tmp_path, task=task, callbacks=(Fails(),))
    assert_equal(weights(task), alone.trained[12])
    assert "on_save_checkpoint" not in vars(task)


@each
def test_a_test_takes_the_weights_it_is_told_to(make: Make, tmp_path: Path) -> None:
    class Task(TinyTask):
        seen: dict[str, Tensor]

        def test_step(self, batch: Tensor, batch_idx: int) -> None:
            self.seen = weights(self)

        def test_dataloader(self) -> Any:
            return self.trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]

    watch, strategy = Watch(), make()
    task, trainer = fit(
        [strategy], tmp_path, task=Task(), callbacks=(watch, Save(tmp_path)), enable_checkpointing=True
    )
    assert isinstance(task, Task)
    trainer.test(task, verbose=False)
    assert_equal(task.seen, watch.validated[18])
    trainer.test(task, ckpt_path=tmp_path / "inside-12.ckpt", verbose=False, weights_only=True)
    assert_equal(task.seen, watch.validated[12])
    assert different(watch.validated[12], watch.validated[18])
    # Without the strategy, a checkpoint says the same.
    alone = Task()
    other = fit([], tmp_path, task=Task(), epochs=1)[1]
    other.test(alone, ckpt_path=tmp_path / "inside-12.ckpt", verbose=False, weights_only=True)
    assert_equal(alone.seen, watch.validated[12])


@each
def test_one_update_for_each_optimizer_step(make: Make, tmp_path: Path) -> None:
    strategy, whole = make(), make()
    fit([strategy], tmp_path, accumulate_grad_batches=2, epochs=6, task=TinyTask(dropout=0.0))
    fit([whole], tmp_path, task=TinyTask(dropout=0.0))
    assert strategy.taken == whole.taken > 3
    for name, value in strategy.average.items():
        torch.testing.assert_close(value, whole.average[name], rtol=1e-3, atol=1e-5)


@each
def test_frozen_weights_are_averaged_to_the_bit(make: Make, tmp_path: Path) -> None:
    task = TinyTask()
    before = weights(task)
    strategy = make()
    only_head = StagedUnfreezing(stages=[Stage(["head"])])
    fit([strategy, only_head], tmp_path, task=task)
    after = weights(task)
    for name in before:
        if name.startswith("head"):
            assert not torch.equal(after[name], (strategy.trained or {})[name])
        else:
            assert torch.equal(after[name], before[name]), name


@each
def test_the_best_weights_of_a_stage_are_refused_beside_it(make: Make, tmp_path: Path) -> None:
    """What is validated is the average, and what would be put back are the trained weights."""
    staged = StagedUnfreezing(plan="top_k", top=1, stage_epochs=2, restore_best="val/loss")
    for strategies in ([make(), staged], [staged, make()]):
        with pytest.raises(
            ValueError, match=r"StagedUnfreezing\.restore_best .* beside \w+Average it is the"
        ):
            fit(strategies, tmp_path)


@each
def test_restarts_keep_the_average_of_the_end_of_the_cycle(make: Make, tmp_path: Path) -> None:
    watch = Watch()
    restarts = LrRestarts(cycle_epochs=1, save_cycles=True)
    fit([restarts, make()], tmp_path, callbacks=(watch,))
    for cycle, step in ((1, 12), (2, 18)):
        kept = read(tmp_path / f"checkpoints/cycle-{cycle}.ckpt")
        assert_equal(dict(kept["state_dict"]), watch.validated[step])
        assert TRAINED_WEIGHTS in kept


@pytest.mark.parametrize(
    "late",
    [
        ExponentialAverage(start_fraction=1.0),
        ExponentialAverage(every_steps=40),
        StochasticAverage(start_epoch=3),
        LatestAverage(start_step=13),
    ],
)
def test_an_average_that_never_begins_is_said_and_changes_nothing(late: Any, tmp_path: Path) -> None:
    task, _ = plain(tmp_path)
    with pytest.warns(UserWarning, match=rf"{type(late).__name__} would do nothing.*first weights.*step 18"):
        averaged, _ = fit([late], tmp_path, callbacks=(Save(tmp_path),), enable_checkpointing=True)
    if not late.average:
        assert TRAINED_WEIGHTS not in read(tmp_path / "before-17.ckpt")
    assert_equal(weights(averaged), weights(task))


@each
def test_an_average_that_begins_is_on_the_timeline_and_no_warning(make: Make, tmp_path: Path) -> None:
    timeline, strategy = Timeline(), make()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*would do nothing.*")
        fit([strategy], tmp_path, callbacks=(timeline,))
    begun = [event for event in timeline.events if event[2] == "average"]
    name = type(strategy).__name__
    assert begun == [(4, name, "average", {"begins_at_step": 4, "at": "steps"})]


@each
def test_weights_in_bfloat16_are_averaged_in_float32(make: Make, tmp_path: Path) -> None:
    watch, strategy = Watch(), make()
    fit(
        [strategy],
        tmp_path,
        callbacks=(watch, Save(tmp_path)),
        precision="bf16-true",
        enable_checkpointing=True,
    )
    kept = read(tmp_path / "before-17.ckpt")
    (state,) = (state for name, state in kept["callbacks"].items() if "Average" in name)
    for name, value in kept["state_dict"].items():
        assert value.dtype == torch.bfloat16
        assert state["average"][name].dtype == torch.float32
        assert torch.equal(state["average"][name].bfloat16(), value)
        assert torch.equal(kept[TRAINED_WEIGHTS][name], watch.trained[17][name])
    resumed = Watch()
    fit(
        [make()],
        tmp_path,
        callbacks=(resumed,),
        precision="bf16-true",
        ckpt_path=tmp_path / "before-11.ckpt",
    )
    assert_equal(resumed.trained[17], watch.trained[17])
    assert_equal(resumed.validated[18], watch.validated[18])


class Parts(nn.Module):
    """A tied weight, an integer buffer, running statistics, a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(3, 2), nn.Linear(2, 3)
        self.decoder.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("unsaved", torch.ones(2), persistent=False)


def test_every_tensor_is_averaged_once() -> None:
    assert list(averaged_tensors(Parts())) == [
        "embedding.weight",
        "decoder.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
    ]


def test_a_real_encoder(tmp_path: Path) -> None:
    task = tiny_task(label_names=["ham", "spam", "news"])
    strategy, watch = ExponentialAverage(decay=0.7), Watch()
    tiny_trainer(tmp_path, callbacks=[watch, strategy], max_epochs=2).fit(task, datamodule=TextData())
    assert_equal(weights(task), watch.validated[12])
    trained = strategy.trained or {}
    changed = [name for name, value in task.named_parameters() if not torch.equal(value, trained[name])]
    assert len(changed) >= len(list(task.parameters())) - 2
    assert len(averaged_tensors(task)) == len(list(task.parameters()))


def test_a_tied_decoder(tmp_path: Path) -> None:
    task = tiny_pretraining("mlm_nsp")
    strategy = StochasticAverage(at="steps", every_steps=2, start_step=2)
    trainer = tiny_trainer(tmp_path, callbacks=[strategy], enable_checkpointing=True)
    trainer.fit(task, datamodule=PretrainingData())
    embedding: Any = task.encoder.word_embedding.weight
    decoder: Any = task.heads.masked_lm.decoder.weight
    assert decoder is embedding
    trainer.save_checkpoint(tmp_path / "tied.ckpt")
    kept = read(tmp_path / "tied.ckpt")
    names = [name for name, value in kept["state_dict"].items() if torch.equal(value, embedding)]
    assert len(names) == 2
    one, two = (kept["state_dict"][name] for name in names)
    assert one.data_ptr() == two.data_ptr()
    assert set(names) - set(strategy.average) == {names[1]}
    assert not torch.equal(kept[TRAINED_WEIGHTS][names[0]], one)


def test_two_averages_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ExponentialAverage and LatestAverage both claim 'average'"):
        fit([LatestAverage(), ExponentialAverage()], tmp_path)
