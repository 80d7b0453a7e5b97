"""What a strategy may ask of `run`, and what it is called for: once for each step, in one order, the same on resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy, SingleDeviceStrategy
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.l2_sp import L2Sp
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.interfaces import Course
from tests.bits import assert_equal
from tests.callbacks.tiny import TinyTask, fit


class KeepsGradients(TinyTask):
    """Keeps the gradient of the head's bias as the optimizer is about to take it: after all callbacks."""

    def __init__(self) -> None:
        super().__init__(dropout=0.0)
        self.kept: list[Tensor] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        assert self.head.bias.grad is not None
        self.kept.append(self.head.bias.grad.clone())


class AddsOne(Strategy):
    touches: ClassVar[set[str]] = {"gradients"}

    def apply(self, run: Run) -> None:
        def edit() -> None:
            for parameter in run.head.parameters():
                assert parameter.grad is not None
                parameter.grad += 1

        run.edit_gradients(edit)


class Doubles(Strategy):
    touches: ClassVar[set[str]] = {"gradients"}

    def apply(self, run: Run) -> None:
        def edit() -> None:
            for parameter in run.head.parameters():
                assert parameter.grad is not None
                parameter.grad *= 2

        run.edit_gradients(edit)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("order", [1, -1])
def test_gradients_are_edited_once_a_step_in_the_order_of_class_names(
    order: int, accumulate: int, tmp_path: Path
) -> None:
    plain, edited = KeepsGradients(), KeepsGradients()
    fit([], tmp_path, task=plain, epochs=1, accumulate_grad_batches=accumulate)
    strategies = [AddsOne(), Doubles()][::order]
    fit(strategies, tmp_path, task=edited, epochs=1, accumulate_grad_batches=accumulate)
    assert len(edited.kept) == len(plain.kept) == 6 // accumulate
    torch.testing.assert_close(edited.kept[0], 2 * (plain.kept[0] + 1))


def test_edits_come_before_clipping(tmp_path: Path) -> None:
    seen: list[float] = []

    class Look(TinyTask):
        def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
            assert self.head.bias.grad is not None
            seen.append(float(self.head.bias.grad.min()))

    fit([AddsOne()], tmp_path, task=Look(), epochs=1, gradient_clip_val=1.0)
    assert len(seen) == 6
    assert all(value > 0 for value in seen)  # the gradient is a mean of differences of shares, so above −1


class Starts(Strategy):
    """Draws the embeddings anew, and keeps what the façade says that training began from."""

    needs_starting_weights = True

    def __init__(self) -> None:
        self.seen: dict[str, Tensor | None] = {}

    def initialise(self, blocks: Blocks, generator: torch.Generator) -> None:
        assert "head" not in blocks.names
        with torch.no_grad():
            for parameter in blocks[0].parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def apply(self, run: Run) -> None:
        self.seen = {
            f"{b.name}/{i}": run.starting_weight(p)
            for b in run.all_blocks
            for i, p in enumerate(b.parameters())
        }


class Save(Strategy):
    """Keeps a checkpoint before step 4."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def apply(self, run: Run) -> None: ...

    def after_step(self, run: Run) -> None:
        if run.trainer.global_step == 4:
            run.trainer.save_checkpoint(self.path)


def test_starting_weights_are_those_after_initialise_and_the_same_on_resume(tmp_path: Path) -> None:
    whole, again = Starts(), Starts()
    fit([whole, Save(tmp_path / "4.ckpt")], tmp_path)
    fit([again, Save(tmp_path / "none.ckpt")], tmp_path, ckpt_path=tmp_path / "4.ckpt")
    first = next(TinyTask().blocks()[0].parameters())
    drawn = whole.seen["embeddings/0"]
    assert drawn is not None
    assert drawn.shape == first.shape
    assert not torch.equal(drawn, first)  # what initialise drew, not what the task was made with
    assert whole.seen["head/0"] is None
    layer = whole.seen["layer.0/0"]
    assert layer is not None
    assert torch.equal(layer, next(TinyTask().blocks()[1].parameters()))  # and not what was trained since
    assert_equal(whole.seen, again.seen)


def test_nothing_is_remembered_that_nobody_asks_for(tmp_path: Path) -> None:
    class Looks(Starts):
        needs_starting_weights = False

    looks = Looks()
    fit([looks], tmp_path, epochs=1)
    assert set(looks.seen.values()) == {None}


class Counts(Strategy):
    """Keeps where each call of after_step stands, and a random number of the step."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.drawn: list[float] = []

    def apply(self, run: Run) -> None: ...

    def after_step(self, run: Run) -> None:
        self.calls.append((run.trainer.global_step, run.step))
        self.drawn.append(float(torch.rand((), generator=run.generator())))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_after_each_step_and_never_between_micro_batches(accumulate: int, tmp_path: Path) -> None:
    counts = Counts()
    fit([counts], tmp_path, epochs=2, accumulate_grad_batches=accumulate)
    assert counts.calls == [(step, step) for step in range(1, 12 // accumulate + 1)]


def test_after_step_and_its_random_numbers_go_on_after_a_resume(tmp_path: Path) -> None:
    whole, rest = Counts(), Counts()
    fit([whole, Save(tmp_path / "4.ckpt")], tmp_path, epochs=2)
    fit([rest, Save(tmp_path / "none.ckpt")], tmp_path, epochs=2, ckpt_path=tmp_path / "4.ckpt")
    assert len(set(whole.drawn)) == len(whole.drawn) == 12
    assert rest.calls == whole.calls[4:]
    assert rest.drawn == whole.drawn[4:]


class Idle(Strategy):
    def never_acts(self, run: Run) -> str | None:
        return f"it would begin after step {run.horizon.total_steps}"

    def apply(self, run: Run) -> None: ...


def test_what_would_do_nothing_is_said(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"Idle would do nothing in this training: it would begin after step 18"
    ):
        fit([Idle()], tmp_path)


class Adds(Strategy):
    """A loss of 7 more."""

    touches: ClassVar[set[str]] = {"loss"}

    def apply(self, run: Run) -> None:
        run.wrap_loss(lambda passed: passed.loss() + 7)


def test_the_task_has_its_own_loss_again_afterwards(tmp_path: Path) -> None:
    plain, task = TinyTask(dropout=0.0), TinyTask(dropout=0.0)
    fit([], tmp_path, task=plain, epochs=1)
    fit([Adds()], tmp_path, task=task, epochs=1)
    assert task.losses == pytest.approx([loss + 7 for loss in plain.losses], rel=1e-6)
    assert "training_loss" not in vars(task)


class UndeclaredLoss(Strategy):
    def apply(self, run: Run) -> None:
        run.wrap_loss(TrainingPass.loss)


class UndeclaredEdit(Strategy):
    def apply(self, run: Run) -> None:
        run.edit_gradients(lambda: None)


@pytest.mark.parametrize(
    ("strategy", "resource"), [(UndeclaredLoss(), "loss"), (UndeclaredEdit(), "gradients")]
)
def test_what_is_not_declared_is_refused(strategy: Strategy, resource: str, tmp_path: Path) -> None:
    task = TinyTask()
    with pytest.raises(ValueError, match=f"add '{resource}' to {type(strategy).__name__}.touches"):
        fit([strategy], tmp_path, task=task)
    assert task.losses == []


ASKED: dict[str, tuple[str, Callable[[Run], None]]] = {
    "train_only": ("trainable", lambda run: run.train_only(run.head)),
    "freeze": ("trainable", lambda run: run.freeze(run.blocks[0])),
    "train_parameters": ("parameters", lambda run: run.train_parameters(run.head.parameters())),
    "scale_lr": ("lr", lambda run: run.scale_lr(run.head, 0.5)),
    "anneal_lr": ("lr", lambda run: run.anneal_lr(lambda _: 0.5)),
    "weight_classes": ("class_weights", lambda run: run.weight_classes(torch.ones(3))),
    "wrap_loss": ("loss", lambda run: run.wrap_loss(TrainingPass.loss)),
    "edit_gradients": ("gradients", lambda run: run.edit_gradients(lambda: None)),
    "set_course": ("length", lambda run: run.set_course(Course(length=lambda _: 8))),
}


class AsksLate(Strategy):
    """Asks in another hook than `apply`.

    Args:
        hook: its name.
        resource: that it touches.
        ask: what it asks for.
    """

    stages = 1

    def __init__(self, hook: str, resource: str, ask: Callable[[Run], None]) -> None:
        self.touches = {resource}  # pyright: ignore[reportAttributeAccessIssue]
        setattr(self, hook, ask)

    def apply(self, run: Run) -> None: ...


@pytest.mark.parametrize("hook", ["on_stage_start", "after_step", "on_stage_end"])
@pytest.mark.parametrize("method", ASKED)
def test_what_is_asked_for_outside_apply_is_refused(method: str, hook: str, tmp_path: Path) -> None:
    resource, ask = ASKED[method]
    message = rf"^AsksLate calls run\.{method} when its apply\(run\) has returned: .* Call it in apply"
    with pytest.raises(ValueError, match=message):
        fit([AsksLate(hook, resource, ask)], tmp_path, epochs=1)


class Passes(Strategy):
    touches: ClassVar[set[str]] = {"loss", "passes"}


class MovesWordVectors(Strategy):
    touches: ClassVar[set[str]] = {"word_vectors"}


class OnlyBlocks(LightningModule):
    """A task without a training loss of its own and without word vectors."""

    def blocks(self) -> list[Any]:
        return []

    def encoder_blocks(self) -> list[Any]:
        return []


def refused(
    strategy: Strategy, platform: Any, precision: str, module: LightningModule, fused: bool = False
) -> str:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=fused)
    trainer: Any = SimpleNamespace(
        callbacks=[strategy],
        strategy=platform,
        precision=precision,
        lightning_module=module,
        optimizers=[optimizer],
    )
    with pytest.raises(TypeError) as raised:
        Conductor(trainer).check()
    return str(raised.value)


def test_where_a_strategy_cannot_work_it_says_so() -> None:
    plain, sharded = SingleDeviceStrategy(device="cpu"), ModelParallelStrategy()
    for strategy in (Adds(), AddsOne(), Starts()):
        message = refused(strategy, sharded, "32-true", TinyTask())
        assert message.startswith(
            f"{type(strategy).__name__} works on whole parameters, which ModelParallelStrategy"
        )
    message = refused(Passes(), plain, "16-mixed", TinyTask())
    assert message.startswith("Passes computes gradients of its own, which would underflow")
    assert "bf16-mixed" in message
    message = refused(L2Sp(), plain, "16-mixed", TinyTask(), fused=True)
    assert message.startswith("L2Sp works on gradients, which trainer.precision 16-mixed scales")
    assert message.endswith("use bf16-mixed, or `fused: false`")
    message = refused(Adds(), plain, "32-true", OnlyBlocks())
    assert message == (
        "Adds changes the training loss, and OnlyBlocks has no training_loss(batch) that it could change"
    )
    message = refused(MovesWordVectors(), plain, "32-true", OnlyBlocks())
    assert message == "MovesWordVectors moves word vectors, and OnlyBlocks has no word_embedding"
    message = refused(Adds(), plain, "32-true", LightningModule())
    assert message == "strategies need a task with blocks() and encoder_blocks(), which LightningModule lacks"


def test_one_alone_moves_word_vectors_and_one_alone_averages(tmp_path: Path) -> None:
    class Averages(Strategy):
        touches: ClassVar[set[str]] = {"average"}

    class AveragesToo(Averages): ...

    class MovesThemToo(MovesWordVectors): ...

    for one, other in [(Averages(), AveragesToo()), (MovesWordVectors(), MovesThemToo())]:
        with pytest.raises(ValueError, match="both claim") as raised:
            fit([one, other], tmp_path)
        assert type(one).__name__ in str(raised.value)
        assert type(other).__name__ in str(raised.value)
