from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.stochastic_average import StochasticAverage
from bertlab.callbacks.strategy import Strategy
from tests.bits import assert_equal
from tests.callbacks.averaging import Save, Watch, plain, weights
from tests.callbacks.tiny import StepLog, Timeline, TinyTask, fit


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ({}, [18, 24]),  # three quarters of four epochs: what is there then, and the end of the last epoch
        ({"start_fraction": 0.5}, [12, 18, 24]),
        ({"start_epoch": 0}, [6, 12, 18, 24]),
        ({"start_epoch": 1.5}, [12, 18, 24]),
        ({"start_step": 7}, [12, 18, 24]),
        ({"at": "steps", "every_steps": 4, "start_step": 0}, [4, 8, 12, 16, 20, 24]),
        ({"at": "steps", "every_steps": 5, "start_step": 3}, [3, 8, 13, 18, 23]),
        ({"at": "cycle", "start_epoch": 0}, [6, 12, 18, 24]),  # nobody has cycles: each epoch
    ],
)
def test_equals_the_averaged_model_of_torch(
    arguments: dict[str, Any], taken: list[int], tmp_path: Path
) -> None:
    _, alone = plain(tmp_path, epochs=4)
    model = TinyTask()
    reference = AveragedModel(model)
    strategy, watch = StochasticAverage(**arguments), Watch()
    fit([strategy], tmp_path, callbacks=(watch,), epochs=4, val_check_interval=1)
    assert strategy.taken == len(taken)
    for step in range(1, 25):
        if step in taken:
            model.load_state_dict(alone.trained[step])
            reference.update_parameters(model)
        expected = weights(reference.module) if step >= taken[0] else alone.trained[step]
        for name, value in expected.items():
            torch.testing.assert_close(watch.validated[step][name], value, rtol=1e-6, atol=1e-7)


def test_ends_of_cycles(tmp_path: Path) -> None:
    timeline, watch = Timeline(), Watch()
    strategy = StochasticAverage(at="cycle", start_step=9)
    restarts = LrRestarts(cycle_steps=4, multiplier=2.0)  # ends at 4, 12, 24
    fit([strategy, restarts], tmp_path, callbacks=(watch, timeline), epochs=4, val_check_interval=1)
    assert strategy.taken == 2
    begun = [(step, facts) for step, _, what, facts in timeline.events if what == "average"]
    assert begun == [(12, {"begins_at_step": 12, "at": "cycle"})]
    assert torch.equal(watch.validated[23]["head.weight"], watch.trained[12]["head.weight"])
    expected = (watch.trained[12]["head.weight"] + (strategy.trained or {})["head.weight"]) / 2
    torch.testing.assert_close(watch.validated[24]["head.weight"], expected, rtol=0, atol=1e-7)


def test_cycles_that_end_on_a_plateau(tmp_path: Path) -> None:
    """The validation that ends a cycle still sees the average before it; the next step finds the new one."""
    watch = Watch()
    strategy = StochasticAverage(at="cycle", start_epoch=0)
    restarts = LrRestarts(at="plateau", plateau="val/loss", cycle_steps=5)
    task = TinyTask(validation_losses=[1.0, 1.0, 0.5, 0.6, 0.1])  # plateaus after steps 12 and 24
    fit([strategy, restarts], tmp_path, task=task, callbacks=(watch,), epochs=5)
    assert strategy.taken == 2
    assert torch.equal(watch.validated[12]["head.weight"], watch.trained[12]["head.weight"])
    assert torch.equal(watch.validated[18]["head.weight"], watch.trained[12]["head.weight"])
    expected = (watch.trained[12]["head.weight"] + watch.trained[24]["head.weight"]) / 2
    torch.testing.assert_close(watch.validated[30]["head.weight"], expected, rtol=0, atol=1e-7)


def test_resumes_to_the_bit_where_a_plateau_ends_a_cycle(tmp_path: Path) -> None:
    def run(*callbacks: Any, **arguments: Any) -> tuple[TinyTask, StochasticAverage]:
        average = StochasticAverage(at="cycle", start_epoch=0)
        restarts = LrRestarts(at="plateau", plateau="val/loss", cycle_steps=5)
        task = TinyTask(validation_losses=[1.0, 1.0, 0.5, 0.6, 0.1])  # plateaus after steps 12 and 24
        fit(
            [average, restarts],
            tmp_path,
            task=task,
            callbacks=callbacks,
            epochs=5,
            enable_checkpointing=True,
            **arguments,
        )
        return task, average

    whole, average = run(Save(tmp_path))
    for step in (11, 12, 13, 24, 25):
        resumed, again = run(ckpt_path=tmp_path / f"before-{step}.ckpt")
        assert_equal(weights(resumed), weights(whole), f"after {step}")
        assert_equal(again.trained, average.trained, f"after {step}")
        assert again.taken == average.taken == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_file_of_a_cycle_holds_the_weights_of_its_end(order: int, tmp_path: Path) -> None:
    watch = Watch()
    strategies: list[Strategy] = [
        StochasticAverage(at="cycle", start_epoch=0),
        LrRestarts(at="plateau", plateau="val/loss", cycle_steps=5, save_cycles=True),
    ]
    task = TinyTask(validation_losses=[1.0, 1.0, 0.5, 0.4])  # a plateau after step 12
    fit(strategies[::order], tmp_path, task=task, callbacks=(watch,), epochs=4, enable_checkpointing=True)
    kept = torch.load(tmp_path / "checkpoints/cycle-0.ckpt", weights_only=True)
    (state,) = (state for name, state in kept["callbacks"].items() if "StochasticAverage" in name)
    assert state["taken"] == 1
    assert_equal(dict(kept["state_dict"]), watch.trained[12])


def test_a_plateau_at_the_end_of_training_comes_too_late(tmp_path: Path) -> None:
    """The last checkpoint is saved already, and the model has to hold the same as it."""
    strategy = StochasticAverage(at="cycle", start_epoch=0)
    restarts = LrRestarts(at="plateau", plateau="val/loss", cycle_steps=5)
    task = TinyTask(validation_losses=[1.0, 1.0, 0.5, 0.6])  # plateaus after steps 12 and 24
    fit([strategy, restarts], tmp_path, task=task, epochs=4)
    assert strategy.taken == 1


def test_the_schedule_is_left_alone(tmp_path: Path) -> None:
    """Trap 10: the rate of every step is the user's, whatever is averaged."""
    before, after = StepLog(), StepLog()
    strategies: list[Strategy] = [LrRestarts(cycle_epochs=1)]
    fit(strategies, tmp_path, callbacks=(before,))
    fit(
        [LrRestarts(cycle_epochs=1), StochasticAverage(at="cycle", start_step=2)],
        tmp_path,
        callbacks=(after,),
    )
    assert [step["lr"] for step in after.steps] == [step["lr"] for step in before.steps]


def test_a_stop_in_the_middle_of_a_cycle_is_no_end_of_it(tmp_path: Path) -> None:
    class Stop(StepLog):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = trainer.global_step >= 8

    strategy = StochasticAverage(at="cycle", start_epoch=0)
    fit([strategy, LrRestarts(cycle_epochs=1)], tmp_path, callbacks=(Stop(),))
    assert strategy.taken == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": "batch"}, "StochasticAverage.at: 'batch'; accepted are 'epoch', 'cycle', 'steps'"),
        ({"at": "steps"}, "`every_steps` goes with at: steps, and only with it"),
        ({"every_steps": 3}, "`every_steps` goes with at: steps, and only with it"),
        ({"at": "steps", "every_steps": 0}, "StochasticAverage.every_steps takes 1 or more, got 0"),
        ({"start_epoch": -1.0}, "StochasticAverage.start_epoch takes 0 or more, got -1.0"),
        ({"start_step": 3, "start_fraction": 0.1}, "start_fraction and start_step clash"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StochasticAverage(**arguments)
