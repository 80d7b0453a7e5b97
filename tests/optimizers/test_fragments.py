"""What every optimizer of configs/optimizers must do: a new one is covered by its file."""

from __future__ import annotations

import importlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bertlab.callbacks.optimizer_modes import OptimizerModes
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.interfaces import Block
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from tests.bits import assert_equal
from tests.callbacks.tiny import TinyTask, fit
from tests.doubles.same_on_both_ranks import SameOnBothRanks
from tests.optimizers.fragments import FRAGMENTS, NAMES, OptimizedTask, maker, parser, spec
from tests.ranks import on_two_ranks

each = pytest.mark.parametrize("path", FRAGMENTS, ids=NAMES)


def own_defaults(class_path: str) -> dict[str, Any]:
    module, _, name = class_path.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    return {
        key: p.default
        for key, p in signature.parameters.items()
        if p.default is not inspect.Parameter.empty and p.kind is not inspect.Parameter.VAR_KEYWORD
    }


@each
def test_takes_nothing_over_from_the_optimizer_that_it_replaces(path: Path) -> None:
    """jsonargparse keeps arguments that both classes have: each file has to name them all."""
    made, wanted = parser(), spec(path)
    arguments = own_defaults(wanted["class_path"]) | wanted["init_args"]
    for other in [None, *FRAGMENTS]:
        before = [] if other is None else ["--optimizer", str(other)]
        found = made.parse_args([*before, "--optimizer", str(path)]).optimizer
        assert found.class_path == wanted["class_path"]
        assert found.get("dict_kwargs") == wanted.get("dict_kwargs"), other
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(found.init_args).items()}
        expected = {key: list(v) if isinstance(v, tuple) else v for key, v in arguments.items()}
        assert values == expected, other


class Small(nn.Module):
    """An embedding, two layers with normalisation, a head; steps on random gradients."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.Embedding(12, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def blocks(self) -> list[Block]:
        modules = [("embeddings", self.embeddings), *((f"layer.{i}", m) for i, m in enumerate(self.layers))]
        modules.append(("head", self.head))
        return [Block(name, (module,), 3 - i) for i, (name, module) in enumerate(modules)]

    def set_gradients(self, seed: int, frozen: Block | None = None, size: float = 1.0) -> None:
        still = {id(p) for p in frozen.parameters()} if frozen else set()
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            gradient = size * torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if id(parameter) in still else gradient

    def optimizer(self, path: Path, faster: float = 1.0) -> Any:
        groups = parameter_groups(self.blocks(), None, layer_decay=0.5, model=self)
        made = build_optimizer(maker(path, faster), groups)
        if hasattr(made, "train"):
            made.train()
        return made


def state_of(optimizer: Any, block: Block) -> Any:
    """State and settings of a block's parameters, in copies."""
    groups = [g for g in optimizer.param_groups if g["block"] == block.name]
    settings = [{k: v for k, v in g.items() if k != "params"} for g in groups]
    states = [copied(dict(optimizer.state[p])) for g in groups for p in g["params"] if p in optimizer.state]
    return settings, states, [p.detach().clone() for p in block.parameters()]


def copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@each
def test_rates_fall_with_depth_and_only_matrices_decay(path: Path) -> None:
    model = Small()
    optimizer = model.optimizer(path)
    top = max(group["lr"] for group in optimizer.param_groups)
    assert top == spec(path)["init_args"]["lr"]
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(top * 0.5 ** group["depth"])
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):
        model.set_gradients(0, size=0.0)
        optimizer.step()
    decay = spec(path)["init_args"]["weight_decay"]
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or decay == 0:
            assert torch.equal(parameter, start[name]), name
        else:
            assert parameter.norm() < start[name].norm(), name


@each
def test_a_frozen_block_keeps_weights_state_and_counters(path: Path) -> None:
    model = Small()
    optimizer = model.optimizer(path)
    frozen = model.blocks()[1]
    for seed in range(3):
        model.set_gradients(seed)
        optimizer.step()
    before = state_of(optimizer, frozen)
    others = [p.detach().clone() for b in model.blocks() if b.name != frozen.name for p in b.parameters()]
    for seed in range(3, 6):
        model.set_gradients(seed, frozen)
        optimizer.step()
    assert_equal(state_of(optimizer, frozen), before)
    moved = [p for b in model.blocks() if b.name != frozen.name for p in b.parameters()]
    assert not any(torch.equal(one, other) for one, other in zip(others, moved, strict=True))


@each
def test_a_block_that_thaws_late_trains_as_from_the_start(path: Path) -> None:
    late, early = Small(), Small()
    of_late, of_early = late.optimizer(path), early.optimizer(path)
    block = late.blocks()[2]
    for seed in range(40):
        late.set_gradients(seed, block)
        of_late.step()
    for seed in range(40, 44):
        late.set_gradients(seed)
        early.set_gradients(seed)
        of_late.step()
        of_early.step()
    assert_equal(state_of(of_late, block), state_of(of_early, early.blocks()[2]))


def run(path: Path, root: Path, **arguments: Any) -> TinyTask:
    """The tiny task, thawing in stages, for three epochs of six steps."""
    callbacks = (*arguments.pop("callbacks", ()), OptimizerModes())
    task = OptimizedTask(path, dropout=0.0)
    trained, _ = fit(
        [StagedUnfreezing(spread_fraction=0.5)], root, task=task, callbacks=callbacks, **arguments
    )
    return trained


@each
def test_learns_in_bfloat16_with_clipped_gradients(path: Path, tmp_path: Path) -> None:
    trained = run(path, tmp_path, precision="bf16-mixed", gradient_clip_val=1.0, epochs=16)
    assert len(trained.losses) == 96
    assert sum(trained.losses[-24:]) < 0.8 * sum(trained.losses[:24])
    assert all(
        parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in trained.parameters()
    )


def on_a_rank(root: Path) -> list[dict[str, torch.Tensor]]:
    found: list[dict[str, torch.Tensor]] = []
    for path in FRAGMENTS:
        trained = run(
            path,
            root,
            callbacks=(SameOnBothRanks(),),
            devices=2,
            strategy="ddp",
            use_distributed_sampler=False,
        )
        found.append({name: value.clone() for name, value in trained.state_dict().items()})
    return found


def test_two_ranks_stay_equal(tmp_path: Path) -> None:
    ranks = on_two_ranks(on_a_rank, tmp_path, tmp_path)
    assert len(ranks[0]) == len(FRAGMENTS) >= 8
    for name, one, other in zip(NAMES, *ranks, strict=True):
        assert_equal(one, other, name)
    for (name, one), (second, other) in itertools.combinations(zip(NAMES, ranks[0], strict=True), 2):
        alike = {name, second} == {"adamw", "row_adamw"}  # this model has no table
        assert torch.equal(one["head.weight"], other["head.weight"]) is alike, (name, second)
