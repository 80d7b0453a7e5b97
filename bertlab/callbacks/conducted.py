"""Conducted: hands what Lightning tells a strategy on to the conductor of all strategies."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer

from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.staged import Staged


class Conducted(Staged):
    """Acts together with the other strategies of its trainer: each tells the conductor, which acts once for all."""

    #: of the first strategy of a trainer: what conducts them all.
    conductor: Conductor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the weights that training starts from."""
        if stage == "fit":
            self.remember_first_state()
            Conductor.of(trainer).initialise(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse combinations that clash before anything is trained."""
        Conductor.of(trainer).check()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the stages in force that the run stands in."""
        Conductor.of(trainer).start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Move on to the stages that the next optimizer step belongs to."""
        conductor = Conductor.of(trainer)
        conductor.advance()
        course = conductor.run_of(self).wishes.course
        shown = {} if course is None else course.values(trainer.global_step)
        if self.stages != 1:
            shown["stage"] = float(self.entered)
        for what, value in shown.items():
            name = f"strategy/{type(self).__name__}/{what}"
            pl_module.log(name, value, on_step=True, on_epoch=False, batch_size=1)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Edit the gradients."""
        Conductor.of(trainer).edit_gradients(self)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Act after the optimizer step, if one was taken."""
        Conductor.of(trainer).after_step()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let strategies change what is validated."""
        if trainer.state.fn == "fit":
            Conductor.of(trainer).before_validation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back what was changed for the validation; let the trigger learn from the metrics."""
        if trainer.state.fn != "fit":
            return
        Conductor.of(trainer).after_validation()
        if not trainer.sanity_checking:
            Conductor.of(trainer).observe(self)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the last stage."""
        Conductor.of(trainer).finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no trace in model and optimizers, before a checkpoint of the failure is saved."""
        if trainer.state.fn == "fit":
            Conductor.of(trainer).let_go()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no trace: what is trained, rates, loss and data are as they would be without strategies."""
        Conductor.of(trainer).release()
