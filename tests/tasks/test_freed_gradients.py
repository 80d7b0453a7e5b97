"""Gradients are there until callbacks have seen the end of their optimizer step, and gone when the next one begins."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer


class Held(Callback):
    """Whether any parameter has a gradient when a micro-batch begins, and all when it ends."""

    def __init__(self) -> None:
        self.at_start, self.at_end = list[bool](), list[bool]()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.at_start.append(any(p.grad is not None for p in pl_module.parameters()))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.at_end.append(all(p.grad is not None for p in pl_module.parameters()))


def test_gradients_are_let_go_after_the_optimizer_step(tmp_path: Path) -> None:
    held = Held()
    trainer = tiny_trainer(tmp_path, callbacks=[held], accumulate_grad_batches=4, max_epochs=1)
    trainer.fit(tiny_task(), datamodule=TinyData(rows=93, splits=4))
    steps = trainer.global_step
    assert steps >= 3
    assert held.at_start == [False, True, True, True] * steps
    assert held.at_end == [True] * 4 * steps
