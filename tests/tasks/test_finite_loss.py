"""When a loss that is no number is found."""

import math

import pytest
import torch

from bertlab.tasks.finite_loss import FiniteLoss
from bertlab.tracking.time_limit import TimeLimit
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_on_the_cpu_at_once(value):
    with pytest.raises(ValueError, match=rf"the training loss is {value} at optimizer step 7"):
        FiniteLoss().check(torch.tensor(value), 7)


def test_nothing_waits_after_a_finite_loss():
    finite = FiniteLoss()
    finite.check(torch.tensor(1.0), 0)
    finite.flush()


@pytest.mark.gpu
def test_on_a_gpu_with_the_next_loss_or_at_the_end():
    finite = FiniteLoss()
    finite.check(torch.tensor(math.nan, device="cuda"), 3)
    with pytest.raises(ValueError, match="nan at optimizer step 3"):
        finite.check(torch.tensor(1.0, device="cuda"), 4)
    finite.check(torch.tensor(math.nan, device="cuda"), 5)
    with pytest.raises(ValueError, match="nan at optimizer step 5"):
        finite.flush()


def test_when_time_is_up_within_an_epoch(tmp_path, monkeypatch):
    def wait(self, loss, step):  # as a loss on a GPU does
        self._pending = (loss.detach() * math.nan, step)

    monkeypatch.setattr(FiniteLoss, "check", wait)
    trainer = tiny_trainer(tmp_path, callbacks=[TimeLimit({"seconds": 0.001})])
    with pytest.raises(ValueError, match="nan at optimizer step 0"):
        trainer.fit(tiny_task(), datamodule=TinyData())
    assert trainer.global_step == 1
