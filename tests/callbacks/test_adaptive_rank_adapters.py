"""AdaLoRA on a real tiny BERT: how many ranks are left when, which, and what an export says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from bertlab.callbacks.adaptive_rank_adapters import AdaptiveRankAdapters
from bertlab.callbacks.staged_unfreezing import StagedUnfreezing
from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.unfreezing_plans import Stage
from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.tasks.pretraining import Pretraining
from tests.callbacks.curriculum_data import pretraining, write_sources
from tests.callbacks.exported import check_exported
from tests.callbacks.real import fit_bert
from tests.callbacks.tiny import Timeline
from tests.encoders.tiny import CONFIGS
from tests.tasks.tiny import tiny_trainer

ADAPTERS = 2 * 6 + 1


def adaptive(**arguments: Any) -> AdaptiveRankAdapters:
    return AdaptiveRankAdapters(**({"initial_rank": 4, "target_rank": 2, "interval_steps": 3} | arguments))


class Ranks(Callback):
    """After each optimizer step the number of ranks that are left, and whether one was lifted again."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._count(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._count(pl_module)

    def _count(self, module: Any) -> None:
        values = [p for name, p in module.named_parameters() if "lora_E" in name]
        self.left.append(sum(int((value != 0).sum()) for value in values))


def test_ranks_fall_on_a_cubic_curve_and_stay(tmp_path: Path) -> None:
    ranks, timeline = Ranks(), Timeline()
    strategy = adaptive(warmup_fraction=0.2, final_fraction=0.3)
    task = fit_bert([strategy], tmp_path, callbacks=(ranks, timeline), max_epochs=4)
    total = len(ranks.left) - 1
    warmup, last = round(0.2 * total), total - round(0.3 * total)
    assert warmup < last < total
    first, target = 4 * ADAPTERS, 2 * ADAPTERS
    assert ranks.left[0] == 0  # e begins at 0
    assert set(ranks.left[2 : warmup + 1]) == {first}
    for step in range(warmup + 1, last):
        if step % 3 == 0:
            left = 1 - (step - warmup) / (last - warmup)
            assert ranks.left[step] == int((first - target) * left**3 + target)
    assert set(ranks.left[last:]) == {target}
    event = next(facts["ranks"] for *_, what, facts in timeline.events if what == "ranks")
    held = {name: int((p != 0).sum()) for name, p in task.named_parameters() if "lora_E" in name}
    assert {f"{name}.lora_E.default": rank for name, rank in event.items()} == held
    assert len(set(held.values())) > 1  # some have more than others


def test_ranks_are_taken_where_the_head_has_no_use_for_the_pooler(tmp_path: Path) -> None:
    """Its adapter is put in before the head leaves the pooler out, and never has a gradient."""
    sources = write_sources(tmp_path)
    data = pretraining(sources, sentence_task="none")
    config = CONFIGS["bert"] | {"vocab_size": data.vocabulary_size}
    task = Pretraining(EncoderFromConfig("bert", config), objective="mlm")
    assert task.encoder.has_pooler
    ranks, timeline = Ranks(), Timeline()
    strategy = adaptive(warmup_fraction=0.2, final_fraction=0.3)
    trainer = tiny_trainer(
        tmp_path, callbacks=[ranks, timeline, StepSeed(0), strategy], max_steps=12, max_epochs=-1
    )
    trainer.fit(task, datamodule=data)
    adapters = sum("lora_E" in name for name, _ in task.named_parameters())
    assert adapters % 6 == 0, "that of the pooler is gone with it"
    assert ranks.left[-1] == 2 * adapters
    assert [len(facts["ranks"]) for *_, what, facts in timeline.events if what == "ranks"] == [adapters]


def test_scores_are_those_of_the_paper(tmp_path: Path) -> None:
    """Two steps of the smoothed sensitivity and its uncertainty, written once more."""
    seen: list[dict[str, torch.Tensor]] = []

    class Sensitivities(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            held = {n: p for n, p in pl_module.named_parameters() if "lora_" in n}
            seen.append({name: (p * p.grad).abs().detach() for name, p in held.items()})

    strategy = adaptive(interval_steps=100, score_decay=0.7, deviation_decay=0.6, final_fraction=0.34)
    states: list[Any] = []

    class Keep(Callback):
        def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
            states.append(copy.deepcopy(strategy.state_dict()["ranks"]))

    fit_bert([strategy], tmp_path, callbacks=(Sensitivities(), Keep()), max_steps=6)
    for name, first in seen[0].items():
        one, two = 0.3 * first, 0.7 * 0.3 * first + 0.3 * seen[1][name]
        spread = 0.6 * 0.4 * (first - one).abs() + 0.4 * (seen[1][name] - two).abs()
        torch.testing.assert_close(states[2]["scores"][name], two)
        torch.testing.assert_close(states[2]["deviations"][name], spread)


def test_frozen_adapters_keep_their_ranks_until_all_are_trained(tmp_path: Path) -> None:
    ranks = Ranks()
    stages = [Stage(["layer.1-head"], until_step=8), Stage(["all"])]
    strategies = [StagedUnfreezing(stages=stages), adaptive(warmup_fraction=0.0, final_fraction=0.9)]
    fit_bert(strategies, tmp_path, callbacks=(ranks,), max_epochs=4)
    assert ranks.left[8] > 2 * ADAPTERS  # the final part has begun, with a layer frozen
    assert set(ranks.left[9:]) == {2 * ADAPTERS}


def test_ranks_that_can_never_be_taken_are_foretold(tmp_path: Path) -> None:
    """Since the adapters of lower blocks are frozen from start to end."""
    strategies = [StagedUnfreezing(plan="top_k", top=1), adaptive()]
    ranks = Ranks()
    with pytest.warns(
        UserWarning, match="never take a rank, since StagedUnfreezing trains all adapters in none"
    ):
        fit_bert(strategies, tmp_path, callbacks=(ranks,), max_epochs=2)
    assert ranks.left[-1] > 2 * ADAPTERS


def test_ranks_that_were_not_taken_are_said(tmp_path: Path) -> None:
    """Where a layer is frozen for good before the final part begins."""
    stages = [Stage(["all"], until_step=3), Stage(["layer.1-head"])]
    strategies = [StagedUnfreezing(stages=stages), adaptive(warmup_fraction=0.1, final_fraction=0.3)]
    with pytest.warns(
        UserWarning, match="did not go down to target_rank 2 by step 12, where training ended: it waited"
    ):
        fit_bert(strategies, tmp_path, max_epochs=2)


def test_exported_and_merged_it_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))
    check_exported(tmp_path, "adaptive_rank_adapters", rate=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_rank": 4}, "AdaptiveRankAdapters.target_rank takes 1 to 3, got 4"),
        ({"interval_steps": 0}, "interval_steps takes 1 or more, got 0"),
        ({"score_decay": 1.0}, r"score_decay takes a number in \(0, 1\), got 1.0"),
        (
            {"warmup_fraction": 0.5, "final_fraction": 0.6},
            "leave none of the .* optimizer steps to take ranks in",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        fit_bert([adaptive(**arguments)], tmp_path)


def test_the_settings_are_ones_that_peft_takes() -> None:
    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, deltaT=3, lora_alpha=32, target_modules="all-linear", total_step=1
    )
    settings = adaptive()._settings
    assert {key: getattr(config, key) for key in settings if key != "peft_type"} == {
        key: value for key, value in settings.items() if key != "peft_type"
    }
    assert config.peft_type.value == settings["peft_type"]
