"""Gradients are there as long as micro-batches add to them, and gone when the optimizer has taken its step."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer


class Held(Callback):
    """Whether any parameter has a gradient at the end of each micro-batch, and before each optimizer step."""

    def __init__(self) -> None:
        self.at_end, self.before_step = list[bool](), list[bool]()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.before_step.append(all(p.grad is not None for p in pl_module.parameters()))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.at_end.append(any(p.grad is not None for p in pl_module.parameters()))


def test_gradients_are_let_go_after_the_optimizer_step(tmp_path: Path) -> None:
    held = Held()
    trainer = tiny_trainer(tmp_path, callbacks=[held], accumulate_grad_batches=4, max_epochs=1)
    trainer.fit(tiny_task(), datamodule=TinyData(rows=93, splits=4))
    steps = trainer.global_step
    assert steps >= 3
    assert held.before_step == [True] * steps
    assert held.at_end == [True, True, True, False] * steps
