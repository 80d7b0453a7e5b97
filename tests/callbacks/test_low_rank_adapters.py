"""LoRA and its kin on a real tiny BERT: what is trained, what is kept, what is exported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from bertlab.callbacks.frozen_trunk_cache import FrozenTrunkCache
from bertlab.callbacks.low_rank_adapters import LowRankAdapters
from bertlab.callbacks.reinit_top_layers import ReinitTopLayers
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.unfreezing_plans import Stage
from tests.bits import assert_equal
from tests.callbacks.exported import check_exported
from tests.callbacks.real import Gradients
from tests.callbacks.real import fit_bert as fit_tiny
from tests.callbacks.tiny import Timeline
from tests.callbacks.tiny_bert import SaveEachStep, bert_data, bert_task, fit_bert, write_bert
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer

LAYER = re.compile(r"\.layer\.(\d)\.")


def lora(**keys: Any) -> LowRankAdapters:
    return LowRankAdapters(peft.LoraConfig(**({"r": 4, "target_modules": "all-linear"} | keys)))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def _cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(project / "cache"))


class AtStart(Callback):
    """The weights before the first step, and how many groups of the optimizer each parameter is in."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
        held = [id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in pl_module.parameters())
        self.group = {id(p): g for g in trainer.optimizers[0].param_groups for p in g["params"]}


def test_adapters_and_head_are_trained_and_nothing_else(tmp_path: Path) -> None:
    gradients, start, timeline = Gradients(), AtStart(), Timeline()
    task = fit_tiny([lora(use_dora=True)], tmp_path, callbacks=(gradients, start, timeline))
    trained = {name for name, p in task.named_parameters() if not torch.equal(p, start.weights[name])}
    graded = {name for name, value in gradients.steps[-1].items() if value is not None}
    adapters = {name for name in start.weights if "lora_" in name}
    # Query, key, value, three dense layers of each of two layers, and the pooler: A, B and a magnitude each.
    assert len(adapters) == (2 * 6 + 1) * 3
    assert graded == adapters | {"head.output.weight", "head.output.bias"}
    assert trained <= graded
    assert {name for name in graded - trained if "key" not in name} == set()
    for name, parameter in task.named_parameters():
        group = start.group[id(parameter)]
        layer = LAYER.search(name)
        expected = f"layer.{layer[1]}" if layer else "pooler" if "pooler" in name else group["block"]
        assert group["block"] == expected
        assert (group["weight_decay"] == 0) == (parameter.dim() < 2 or "LayerNorm" in name), name
    event = next(facts for *_, what, facts in timeline.events if what == "adapters")
    shapes = [(16, 16)] * 4 + [(16, 32), (32, 16)]
    assert event["adapters"] == 2 * sum(4 * (i + o) + o for i, o in shapes) + 4 * 32 + 16
    assert event["head"] == 16 * 3 + 3
    assert event["settings"] == {
        "peft_type": "LORA",
        "r": 4,
        "target_modules": "all-linear",
        "use_dora": True,
    }


def test_scales_of_ia3_are_not_decayed(tmp_path: Path) -> None:
    start = AtStart()
    config = peft.IA3Config(target_modules=["key", "value"], feedforward_modules=[])
    task = fit_tiny([LowRankAdapters(config)], tmp_path, callbacks=(start,))
    scales = [(name, p) for name, p in task.named_parameters() if "ia3" in name]
    assert len(scales) == 4
    assert all(start.group[id(p)]["weight_decay"] == 0 for _, p in scales)
    assert any(not torch.equal(p, start.weights[name]) for name, p in scales)


def test_killed_and_resumed_is_never_killed(project: Path, tmp_path: Path) -> None:
    strategies = lambda: [lora(lora_dropout=0.1)]  # noqa: E731
    whole, seen = fit_bert(
        strategies(), tmp_path, project, before=(SaveEachStep(),), enable_checkpointing=True
    )
    assert len({round(loss, 6) for loss in seen.losses}) == 18
    file = tmp_path / "step=8.ckpt"
    assert torch.load(file, weights_only=True)["bertlab_adapters"]["lora_dropout"] == 0.1
    resumed, again = fit_bert(strategies(), tmp_path, project, ckpt_path=file)
    assert_equal(dict(resumed.state_dict()), dict(whole.state_dict()))
    assert again.losses == seen.losses[8:]

    trainer = tiny_trainer(tmp_path)
    (scores,) = trainer.validate(whole, bert_data(project), verbose=False)
    file = tmp_path / "step=17.ckpt"
    other = bert_task(project)  # without the strategy: the checkpoint has the adapters put in
    tiny_trainer(tmp_path).validate(
        other, bert_data(project), ckpt_path=file, weights_only=True, verbose=False
    )
    assert set(other.state_dict()) == set(whole.state_dict())
    other.load_state_dict(whole.state_dict())
    (found,) = tiny_trainer(tmp_path).validate(other, bert_data(project), verbose=False)
    assert found == scores

    with pytest.raises(
        ValueError, match=r"has adapters .* no strategy of this run puts any in: add .*LowRankAdapters"
    ):
        fit_bert([], tmp_path, project, ckpt_path=file)
    with pytest.raises(
        ValueError, match=r"adapters of the checkpoint are .*'r': 4.* those of the run .*'r': 2"
    ):
        fit_bert([lora(r=2)], tmp_path, project, ckpt_path=file)


def test_adapters_thaw_in_stages(tmp_path: Path) -> None:
    gradients = Gradients()
    stages = [Stage(["head"], until_step=2), Stage(["layer.1-head"], until_step=4), Stage(["all"])]
    fit_tiny([StagedUnfreezing(stages=stages), lora()], tmp_path, callbacks=(gradients,))
    graded = [{name for name, value in step.items() if value is not None} for step in gradients.steps]
    assert graded[0] == {"head.output.weight", "head.output.bias"}
    assert {layer[1] for name in graded[2] if (layer := LAYER.search(name))} == {"1"}
    assert all("lora_" in name or name.startswith("head") for step in graded for name in step)
    assert {layer[1] for name in graded[4] if (layer := LAYER.search(name))} == {"0", "1"}


def test_blocks_below_the_adapters_are_computed_once(project: Path, tmp_path: Path) -> None:
    """Only the upper layer has adapters: what lies below is frozen, and the cache keeps it."""
    timeline, found = Timeline(), []
    top = r"encoder\.layer\.1\..*(query|value)"
    for cached in ([], [FrozenTrunkCache()]):
        found.append(
            fit_bert(
                [lora(target_modules=top), *cached], tmp_path, project, before=(timeline,), max_epochs=2
            )[1]
        )
    assert found[1].losses == pytest.approx(found[0].losses, abs=1e-5)
    assert len(set(found[0].losses)) == 12
    assert [f["blocks"] for _, _, what, f in timeline.events if what == "cached"] == [
        ["embeddings", "layer.0"]
    ]


def test_dropout_of_a_poolers_adapters_is_that_of_a_run_without_the_cache(
    project: Path, tmp_path: Path
) -> None:
    """Everything below the pooler is kept, all rows or some; and killed in the first epoch it goes on as if never."""
    stages = [Stage(["pooler-head"], until_step=9), Stage(["all"])]

    def found(*cached: FrozenTrunkCache, **arguments: Any) -> tuple[Any, Any]:
        staged = StagedUnfreezing(stages=stages)
        strategies = [staged, lora(lora_dropout=0.5), *cached]
        return fit_bert(strategies, tmp_path, project, before=(SaveEachStep(),), max_epochs=2, **arguments)

    plain = found(enable_checkpointing=True)[1].losses
    for cache in ({}, {"max_gib": 40 * 64 / 2**30}):  # 40 vectors of 16 numbers
        whole, seen = found(FrozenTrunkCache(minimum_epochs=0, **cache), enable_checkpointing=True)
        assert seen.losses == pytest.approx(plain, abs=1e-5)
        file = tmp_path / "step=2.ckpt"
        resumed, again = found(FrozenTrunkCache(minimum_epochs=0, **cache), ckpt_path=file)
        assert again.losses == seen.losses[2:]
        assert_equal(dict(resumed.state_dict()), dict(whole.state_dict()))


def test_layers_that_are_drawn_anew_have_adapters_that_change_nothing(tmp_path: Path) -> None:
    start = AtStart()
    fit_tiny([ReinitTopLayers(2), lora()], tmp_path, callbacks=(start,))
    b = [value for name, value in start.weights.items() if "lora_B" in name]
    assert len(b) == 13
    assert not any(value.any() for value in b)


def test_exported_and_merged_it_says_the_same(tmp_path: Path) -> None:
    check_exported(tmp_path, "low_rank_adapters")


def test_a_stage_without_adapters_is_refused_before_training(tmp_path: Path) -> None:
    """Chain-thaw trains each block by itself, and BERT's embeddings have no linear layer."""
    refused = (
        r"LowRankAdapters and StagedUnfreezing have nothing in common in stage 1.*\(embeddings\): take one"
    )
    with pytest.raises(ValueError, match=refused):
        fit_tiny([StagedUnfreezing("chain_thaw", spread_fraction=1.0), lora()], tmp_path)


def test_settings_that_peft_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the settings of the adapters: .*positive"):
        fit_tiny([lora(r=0)], tmp_path)


def test_a_task_that_takes_none(tmp_path: Path) -> None:
    task = tiny_task()
    trainer = tiny_trainer(tmp_path, callbacks=[StepSeed(0), lora()])

    class Plain(torch.nn.Module):
        hidden_size, vocabulary_size, max_length = 16, 40, 32

        def __init__(self) -> None:
            super().__init__()
            self.inner = task.encoder

        def blocks(self) -> Any:
            return self.inner.blocks()

    task.encoder = Plain()
    with pytest.raises(TypeError, match="Plain has no add_adapters"):
        trainer.fit(task, datamodule=TinyData())
