"""The guarantees of the run façade, with strategies made for the test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.utils.data import DataLoader, IterableDataset

from bertlab.callbacks.bit_fit import BitFit
from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.cost_weighted_loss import CostWeightedLoss
from bertlab.callbacks.holding import Holding
from bertlab.callbacks.lr_restarts import LrRestarts
from bertlab.callbacks.rates import StepFactors
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.strategy import AtStep, EachCycle, EachEpoch, EachStage, Run, Strategy, TrainingPass
from tests.callbacks.tiny import StepLog, Timeline, TinyBatch, TinyData, TinyTask, fit


class GradualUnfreeze(Strategy):
    """Howard & Ruder 2018, section 3.3: the example of the documentation."""

    when = EachStage()
    touches: ClassVar[set[str]] = {"trainable", "lr"}

    def __init__(self, blocks_per_stage: int = 1, decay: float = 0.9) -> None:
        self.blocks_per_stage, self.decay = blocks_per_stage, decay

    def apply(self, run: Run) -> None:
        top = run.blocks.top(run.stage * self.blocks_per_stage)
        run.train_only(run.head, *top)
        run.scale_lr(top, lambda depth: self.decay**depth)


class Halve(Strategy):
    """Half the rate of everything from the second epoch on."""

    when = EachEpoch()
    touches: ClassVar[set[str]] = {"lr"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.all_blocks, 0.5**run.stage)


class ThawAndFreezeAgain(Strategy):
    """Everything, then the head, then everything."""

    when = AtStep(4, 8)
    touches: ClassVar[set[str]] = {"trainable"}

    def apply(self, run: Run) -> None:
        run.train_only(run.head if run.stage == 1 else run.all_blocks)


def test_a_strategy_of_ten_lines(tmp_path: Path) -> None:
    log, timeline = StepLog(), Timeline()
    fit([GradualUnfreeze()], tmp_path, callbacks=(log, timeline))
    assert [step["trained"] for step in log.steps[::6]] == [
        ["head"],
        ["layer.2", "head"],
        ["layer.1", "layer.2", "head"],
    ]
    assert log.steps[6]["lr"]["layer.2"] == pytest.approx(0.9 * log.steps[6]["lr"]["head"])
    assert (6, "GradualUnfreeze", "trainable", {"blocks": ["layer.2", "head"]}) in timeline.events
    assert (12, "GradualUnfreeze", "stage", {"stage": 2, "ends_at_step": 18}) in timeline.events


def test_frozen_does_not_move_by_a_bit_and_keeps_its_moments(tmp_path: Path) -> None:
    """Trap 7: momentum and weight decay must not move what was trained and is frozen again."""
    seen: dict[str, Any] = {}

    class Look(StepLog):
        def on_train_batch_start(self, trainer: Any, pl_module: TinyTask, batch: Any, batch_idx: int) -> None:
            step = trainer.global_step
            if step in (4, 8):
                seen[f"weights {step}"] = [p.detach().clone() for p in pl_module.embeddings.parameters()]
                state = trainer.optimizers[0].state[pl_module.embeddings[0].weight]
                seen[f"moment {step}"] = state["exp_avg"].clone()

    log = Look()
    task, _ = fit([ThawAndFreezeAgain()], tmp_path, callbacks=(log,))
    assert all(map(torch.equal, seen["weights 4"], seen["weights 8"]))
    assert torch.equal(seen["moment 4"], seen["moment 8"])
    assert seen["moment 4"].any()
    assert all(step["grads"] == ["head"] for step in log.steps[4:8])
    assert all(step["train_mode"] == step["trained"] for step in log.steps)
    assert not torch.equal(task.embeddings[0].weight, seen["weights 8"][0])


def test_every_parameter_stays_in_one_group(tmp_path: Path) -> None:
    """Traps 2 and 4: all parameters are in the optimizer from the start, none is added later."""
    task, trainer = fit([GradualUnfreeze()], tmp_path)
    held = [id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in task.parameters())


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, 0.01, total_steps=18),
        lambda opt: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=5),
        lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=18),
        lambda opt: torch.optim.lr_scheduler.SequentialLR(
            opt,
            [torch.optim.lr_scheduler.ConstantLR(opt), torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)],
            milestones=[4],
        ),
    ],
)
def test_any_scheduler_goes_on_as_without_strategies(scheduler: Any, tmp_path: Path) -> None:
    """Trap 4, and recursive schedulers that compute the next rate from the last."""

    class Task(TinyTask):
        def configure_optimizers(self) -> Any:
            made = super().configure_optimizers()
            for group in made["optimizer"].param_groups:
                del group["initial_lr"]
            return {
                "optimizer": made["optimizer"],
                "lr_scheduler": {"scheduler": scheduler(made["optimizer"]), "interval": "step"},
            }

    plain, scaled = StepLog(), StepLog()
    fit([], tmp_path, task=Task(), callbacks=(plain,))
    fit([Halve(), GradualUnfreeze(decay=1.0)], tmp_path, task=Task(), callbacks=(scaled,))
    for index, (before, after) in enumerate(zip(plain.steps, scaled.steps, strict=True)):
        factor = 0.5 ** (index // 6)
        assert after["lr"]["head"] == pytest.approx(before["lr"]["head"] * factor, rel=1e-12)


def test_factors_of_strategies_multiply_whatever_their_order(tmp_path: Path) -> None:
    runs = []
    for order in (1, -1):
        log = StepLog()
        strategies = [Halve(), LrRestarts(cycle_epochs=1), StagedUnfreezing(lr_decay=0.8), CostWeightedLoss()]
        task, _ = fit(strategies[::order], tmp_path, callbacks=(log,))
        runs.append((log.steps, [p.detach() for p in task.parameters()]))
    assert runs[0][0] == runs[1][0]
    assert all(map(torch.equal, runs[0][1], runs[1][1]))
    # Step 7: second epoch (half), second step of a cycle of 6, base rate 0.01 × (1 − 7/100), depth 0.
    expected = 0.01 * 0.93 * 0.5 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi / 6))).item()
    assert runs[0][0][7]["lr"]["head"] == pytest.approx(expected)
    assert runs[0][0][7]["lr"]["layer.2"] == pytest.approx(expected * 0.8)


def test_each_cycle_follows_the_restarts(tmp_path: Path) -> None:
    class Count(Strategy):
        when = EachCycle()

        def apply(self, run: Run) -> None:
            run.note("cycle", number=run.stage)

    timeline = Timeline()
    fit([Count(), LrRestarts(cycle_steps=5)], tmp_path, callbacks=(timeline,))
    cycles = [
        (step, facts) for step, name, what, facts in timeline.events if (name, what) == ("Count", "cycle")
    ]
    assert cycles == [(0, {"number": 0}), (5, {"number": 1}), (10, {"number": 2}), (15, {"number": 3})]


def test_no_change_between_the_micro_batches_of_a_step(tmp_path: Path) -> None:
    class Watch(StepLog):
        def on_train_batch_start(self, trainer: Any, pl_module: TinyTask, batch: Any, batch_idx: int) -> None:
            trained = [b.name for b in pl_module.blocks() if all(p.requires_grad for p in b.parameters())]
            self.steps.append({"step": trainer.global_step, "trained": trained})

        def on_before_optimizer_step(self, *args: Any) -> None: ...

    watch = Watch()
    # The strategy's own hook comes before the watcher's, which therefore sees what it has changed.
    fit([StagedUnfreezing(stage_steps=1)], tmp_path, callbacks=(watch,), accumulate_grad_batches=3, epochs=2)
    fit([StagedUnfreezing(stage_steps=1), watch], tmp_path, accumulate_grad_batches=3, epochs=2)  # type: ignore[list-item]
    seen = watch.steps[12:]
    assert [entry["step"] for entry in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [len(entry["trained"]) for entry in seen] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


class TouchesUnknown(Strategy):
    touches: ClassVar[set[str]] = {"colour"}

    def apply(self, run: Run) -> None: ...


class Undeclared(Strategy):
    def apply(self, run: Run) -> None:
        run.train_only(run.head)


class NothingToTrain(Strategy):
    touches: ClassVar[set[str]] = {"trainable"}

    def apply(self, run: Run) -> None:
        run.freeze(run.all_blocks)


class NegativeRate(Strategy):
    touches: ClassVar[set[str]] = {"lr"}

    def apply(self, run: Run) -> None:
        run.scale_lr(run.head, -1.0)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        (
            [StagedUnfreezing(), GradualUnfreeze()],
            "GradualUnfreeze.*StagedUnfreezing|StagedUnfreezing.*Gradual",
        ),
        ([TouchesUnknown()], r"TouchesUnknown.touches names \['colour'\]; accepted are"),
        ([Undeclared()], "add 'trainable' to Undeclared.touches"),
        ([NothingToTrain()], "NothingToTrain: train_only without a block"),
        ([NegativeRate()], "NegativeRate asks for a rate factor of -1.0"),
    ],
)
def test_what_cannot_work_is_refused_before_training(
    strategies: list[Strategy], message: str, tmp_path: Path
) -> None:
    task = TinyTask()
    with pytest.raises(ValueError, match=message):
        fit(strategies, tmp_path, task=task)
    assert task.losses == []


def test_a_refusal_is_repeated(tmp_path: Path) -> None:
    """The same trainer is not let through the second time."""
    task = TinyTask()
    with pytest.raises(ValueError, match="both claim"):
        fit([StagedUnfreezing(), GradualUnfreeze()], tmp_path, task=task)
    with pytest.raises(ValueError, match="both claim"):
        task.trainer.fit(task, datamodule=TinyData())


def test_a_strategy_that_says_nothing(tmp_path: Path) -> None:
    class Mute(Strategy):
        pass

    with pytest.raises(
        NotImplementedError, match=r"Mute does not say what it does: write apply\(self, run\)"
    ):
        fit([Mute()], tmp_path)


def test_endless_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"how long training is: set trainer.max_epochs"):
        fit([GradualUnfreeze()], tmp_path, epochs=-1)


class Stream(IterableDataset[TinyBatch]):
    """Micro-batches that do not say how many there are."""

    def __iter__(self) -> Iterator[TinyBatch]:
        return (TinyBatch(number) for number in range(6))


class Endless(TinyData):
    def train_dataloader(self) -> Any:
        return DataLoader(Stream(), batch_size=None)


def test_a_stream_without_a_length(tmp_path: Path) -> None:
    common: dict[str, Any] = {"epochs": None, "max_steps": 12}
    with pytest.raises(ValueError, match=r"how long an epoch is.* set trainer.limit_train_batches"):
        fit([BiasesOnly()], tmp_path, data=Endless(), **common)
    log, plain = StepLog(), StepLog()
    common |= {"data": Endless(), "limit_train_batches": 6, "callbacks": (log,)}
    fit([StagedUnfreezing(stage_epochs=0.5)], tmp_path, **common)
    fit([StagedUnfreezing(stage_epochs=0.5)], tmp_path, callbacks=(plain,), epochs=2)
    assert [step["trained"] for step in log.steps] == [step["trained"] for step in plain.steps]
    assert len({len(step["trained"]) for step in log.steps}) == 4


def test_an_end_in_steps_alone(tmp_path: Path) -> None:
    log = StepLog()
    fit([Halve()], tmp_path, epochs=-1, max_steps=13, callbacks=(log,))
    assert len(log.steps) == 13


class WeighsForAWhile(Strategy):
    """Weighs the classes in its first stage only, and writes down when it acts."""

    when = AtStep(4)
    touches: ClassVar[set[str]] = {"class_weights"}

    def __init__(self) -> None:
        self.acted: list[str] = []

    def apply(self, run: Run) -> None:
        if run.stage == 0:
            run.weight_classes(torch.tensor([1.0, 2.0, 3.0]))

    def on_stage_start(self, run: Run) -> None:
        self.acted.append(f"start {run.stage}")

    def on_stage_end(self, run: Run) -> None:
        self.acted.append(f"end {run.stage}")


def test_what_is_asked_for_ends_with_the_stage(tmp_path: Path) -> None:
    log, strategy = StepLog(), WeighsForAWhile()
    # Though each strategy is told of the end of training, and so tells the conductor, a stage ends once.
    fit([strategy, Halve()], tmp_path, callbacks=(log,), epochs=1)
    assert [step["class_weights"] for step in log.steps] == [[1.0, 2.0, 3.0]] * 4 + [None] * 2
    assert strategy.acted == ["start 0", "end 0", "start 1", "end 1"]


class RehearsedError(Exception):
    """Ends a training before its first step."""


class Rehearse(Callback):
    """Moves the trainer's count of steps, and keeps what is to hold."""

    def __init__(self) -> None:
        self.holding: list[Holding] = []
        self.trained: list[list[str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: TinyTask) -> None:
        progress = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        for step in range(6):
            progress.completed = step
            self.holding.append(Conductor.of(trainer).rehearse())
            blocks = pl_module.blocks()
            self.trained.append([b.name for b in blocks if all(p.requires_grad for p in b.parameters())])
        raise RehearsedError


def test_a_rehearsal_tells_what_holds_and_acts_on_nothing(tmp_path: Path) -> None:
    def strategies() -> list[Strategy]:
        freezing = StagedUnfreezing(plan="top_k", top=1, stage_steps=2, lr_decay=0.5)
        return [freezing, Halve(), WeighsForAWhile()]

    log, rehearsal, rehearsed = StepLog(), Rehearse(), strategies()
    fit(strategies(), tmp_path, callbacks=(log,), epochs=2, limit_train_batches=3)
    with pytest.raises(RehearsedError):
        fit(rehearsed, tmp_path, callbacks=(rehearsal,), epochs=2, limit_train_batches=3)
    assert rehearsal.trained == [step["trained"] for step in log.steps]
    for step, (seen, holding) in enumerate(zip(log.steps, rehearsal.holding, strict=True)):
        rate = 1e-2 * (1 - step / 100)
        assert seen["lr"] == {name: pytest.approx(rate * f) for name, f in holding.factors.items()}
        weights = None if holding.class_weights is None else holding.class_weights.tolist()
        assert seen["class_weights"] == weights
        assert holding.stages["StagedUnfreezing"] == (0 if step < 2 else 1)
    assert isinstance(rehearsed[2], WeighsForAWhile)
    assert rehearsed[2].acted == []


def test_a_stage_that_is_never_reached_is_said(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"StagedUnfreezing: 1 of its 5 stages would begin at step 20.*step 18"
    ):
        fit([StagedUnfreezing(stage_steps=5)], tmp_path)


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        (FSDPStrategy(), r"'fsdp' \(FSDP1\) flattens parameters.*ModelParallelStrategy"),
        (
            ModelParallelStrategy(),
            r"GradualUnfreeze freezes parameters, which ModelParallelStrategy.*use trainer.strategy ddp",
        ),
    ],
)
def test_sharding_is_refused_where_it_would_lose_something(platform: Any, message: str) -> None:
    trainer: Any = SimpleNamespace(callbacks=[GradualUnfreeze()], strategy=platform, lightning_module=None)
    with pytest.raises(TypeError, match=message):
        Conductor(trainer).check()


def test_an_optimizer_without_blocks() -> None:
    with pytest.raises(ValueError, match=r"groups of no block: build them with bertlab.optimizers"):
        StepFactors([torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)])


def test_no_trace_is_left(tmp_path: Path) -> None:
    task, trainer = fit([StagedUnfreezing(stage_steps=10), CostWeightedLoss()], tmp_path, data=TinyData(2))
    assert all(parameter.requires_grad for parameter in task.parameters())
    assert task.class_weights is None
    assert all("strategy_factor" not in group for group in trainer.optimizers[0].param_groups)


class BiasesOnly(Strategy):
    touches: ClassVar[set[str]] = {"parameters"}

    def apply(self, run: Run) -> None:
        run.train_parameters(p for block in run.all_blocks for p in block.parameters() if p.dim() == 1)


def test_parameters_and_blocks_are_trained_where_both_are_wished_for(tmp_path: Path) -> None:
    class Watch(StepLog):
        def on_train_batch_start(self, trainer: Any, pl_module: TinyTask, batch: Any, batch_idx: int) -> None:
            names = {name for name, p in pl_module.named_parameters() if p.requires_grad}
            self.steps.append(
                {"names": names, "train": [b.name for b in pl_module.blocks() if b.modules[0].training]}
            )

        def on_before_optimizer_step(self, *args: Any) -> None: ...

    watch = Watch()
    fit([BiasesOnly(), ThawAndFreezeAgain(), watch], tmp_path)  # type: ignore[list-item]
    norms = {f"layers.{n}.1.{kind}" for n in range(3) for kind in ("weight", "bias")}
    every = {"embeddings.0.bias", "head.bias", *(f"layers.{n}.0.bias" for n in range(3)), *norms}
    assert watch.steps[0]["names"] == watch.steps[8]["names"] == every
    assert watch.steps[4] == {"names": {"head.bias"}, "train": ["head"]}


def test_random_numbers_of_a_step(tmp_path: Path) -> None:
    class Draw(Strategy):
        touches: ClassVar[set[str]] = {"loss"}

        def __init__(self) -> None:
            self.drawn: list[tuple[float, float]] = []

        def apply(self, run: Run) -> None:
            def wrapper(p: TrainingPass) -> torch.Tensor:
                assert p.number == 0
                loss = p.loss()
                assert p.number == 1
                numbers = [torch.rand((), generator=run.generator(what)).item() for what in ("a", "b")]
                self.drawn.append((numbers[0], numbers[1]))
                return loss

            run.wrap_loss(wrapper)

    found = []
    for _ in range(2):
        draw = Draw()
        fit([draw], tmp_path, accumulate_grad_batches=2, epochs=1)
        found.append(draw.drawn)
    assert found[0] == found[1]
    assert found[0][0] == found[0][1]  # micro-batches of one step
    assert len({number for pair in found[0][::2] for number in pair}) == 6


class OnLayers(Strategy):
    """Something on the highest layer alone."""

    def works_on(self, blocks: Blocks) -> Iterable[torch.nn.Parameter]:
        return blocks.layers.top(1)[0].parameters()

    def apply(self, run: Run) -> None: ...


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], False),
        ([ThawAndFreezeAgain()], False),
        ([StagedUnfreezing(plan="top_k", top=0)], True),
        ([StagedUnfreezing(plan="top_k", top=1)], False),
        ([StagedUnfreezing(plan="top_k", top=1, stage_steps=20)], True),  # beyond the end
        ([StagedUnfreezing(plan="gradual", plateau="val/loss")], False),  # nobody knows when, but it may come
        ([BiasesOnly()], False),
    ],
)
def test_a_strategy_on_what_is_never_trained_is_said(
    others: list[Strategy], said: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    fit([OnLayers(), *others], tmp_path)
    message = "OnLayers would do nothing in this training: all that it works on is frozen from start to end"
    assert (message in [str(warning.message) for warning in recwarn]) == said


def test_two_that_choose_parameters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="BiasesOnly and BitFit both claim 'parameters'"):
        fit([BiasesOnly(), BitFit()], tmp_path)
