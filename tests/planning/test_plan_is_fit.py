"""What `bertlab plan` says of each step is what `bertlab fit` does in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import Killed

from bertlab.cli import main
from tests.corpus.small_corpus import write_store
from tests.planning.project import (
    CONFIGS,
    QUIET,
    UNTIMED,
    assert_plan_is_fit,
    fit,
    plan,
    strategy,
    validations,
    write_run,
)
from tests.system.tiny_project import write_sentences, write_texts

GRADUAL = strategy("StagedUnfreezing", plan="gradual", lr_decay=0.8, spread_fraction=0.7)
BY_HAND = strategy(
    "StagedUnfreezing",
    stages=[
        {"train": ["pooler", "head"], "until_step": 5},
        {"train": ["layer.3-head"], "until_epoch": 1.5, "lr_factor": 0.5},
        {"train": ["head"], "until_fraction": 0.75},
        {"train": ["all"]},
    ],
)
DEFERRED = strategy(
    "CostWeightedLoss", weights="effective_number", beta=0.99, start_fraction=0.4, anneal_fraction=0.3
)
LORA = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}
COMBINATIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "gradual, restarts at stages, deferred weights": {
        "strategies": [
            GRADUAL,
            strategy("LrRestarts", at="stage", warmup_fraction=0.2, minimum_factor=0.1),
            DEFERRED,
        ],
        "model": {"layer_decay": 0.9},
    },
    "by hand, growing cycles, accumulation, an end within an epoch": {
        "strategies": [
            BY_HAND,
            strategy("LrRestarts", cycle_steps=4, multiplier=1.5, peak_decay=0.7, save_cycles=True),
            strategy("CostWeightedLoss", weights="costs", costs={"ham": 1.0, "spam": 4.0}),
        ],
        "trainer": {"accumulate_grad_batches": 3, "max_steps": 28},
    },
    "chain-thaw, tokens, resampled": {
        "strategies": [strategy("StagedUnfreezing", plan="chain_thaw", stage_epochs=0.25)],
        "data": {"batch_size": None, "max_tokens": 160, "resampling_power": 1.0},
    },
    "a schedule of torch": {
        "strategies": [GRADUAL, strategy("LrRestarts", cycle_epochs=0.7)],
        "model": {
            "schedule": {
                "class_path": "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
                "init_args": {"T_0": 5, "T_mult": 2},
            }
        },
    },
    "a schedule that computes the next rate from the last": {
        "strategies": [GRADUAL],
        "model": {
            "schedule": {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.9}}
        },
        "trainer": {"val_check_interval": 0.25},
    },
    "validation by batches": {
        "strategies": [DEFERRED],
        "trainer": {"val_check_interval": 10, "check_val_every_n_epoch": None, "accumulate_grad_batches": 2},
    },
    "data that changes from step to step": {
        "strategies": [
            strategy("SequenceLengthWarmup", start_length=6, fraction=0.5, multiple=4),
            strategy("BatchSizeWarmup", start_size=4, fraction=0.4),
            strategy("DataOrder", difficulty="rarity", start_share=0.2, fraction=0.7),
        ],
        "trainer": {"accumulate_grad_batches": 2},
    },
    "adapters that thaw, in steps that are drawn row by row": {
        "strategies": [
            GRADUAL,
            strategy("LowRankAdapters", config={"class_path": "peft.LoraConfig", "init_args": LORA}),
            strategy("PrivateTraining", noise_multiplier=1.0, delta=1e-4),
        ],
        "trainer": {"accumulate_grad_batches": 2, "max_epochs": 1},
    },
    "few batches, validation every second epoch": {
        "strategies": [GRADUAL],
        "trainer": {"limit_train_batches": 5, "check_val_every_n_epoch": 2, "max_epochs": 4},
    },
}


@pytest.mark.parametrize("changes", COMBINATIONS.values(), ids=COMBINATIONS)
def test_combinations(changes: dict[str, Any], bert: str, texts: str) -> None:
    run = write_run(bert, texts, **changes)
    rows = plan(*run, UNTIMED)
    steps, validated = fit(*run)
    assert_plan_is_fit(rows, steps)
    assert validations(rows) == validated
    assert {row["open"] for row in rows} == {""}


@pytest.mark.parametrize("name", ["sms_spam", "reuters_r8", "sentiment"])
def test_configs_of_the_house(name: str, bert: str, texts: str) -> None:
    flags = ["--config", str(CONFIGS / "finetune" / f"{name}.yaml"), "--model.encoder.source", bert]
    flags += ["--data.source", texts, "--data.batch_size=16", "--run.test_after_fit=false"]
    flags += ["--trainer.accelerator=cpu"]
    rows = plan(*flags, UNTIMED)
    steps, validated = fit(*flags)
    assert_plan_is_fit(rows, steps)
    assert validations(rows) == validated
    kept = [json.loads(line) for line in Path(f"runs/{name}/0/timeline.jsonl").read_text().splitlines()]
    page = Path(f"runs/{name}/plans/0/report.html").read_text()
    for event in kept:
        if event["what"] not in {"stage", "trainable", "class_weights", "lr"}:
            assert f"{event['what']}: " in page


def test_fragments_on_top(bert: str, texts: str) -> None:
    """Techniques that are added by flags: chain-thaw, restarts with its stages, and weights that come late."""
    added = ("chain_thaw", "lr_restarts_at_stages", "cost_weighted_loss_deferred")
    run = write_run(bert, texts)
    run += [f"--trainer.callbacks+={CONFIGS / 'callbacks' / name}.yaml" for name in added]
    assert_plan_is_fit(plan(*run, UNTIMED), fit(*run)[0])


def test_biases_of_several_tasks(bert: str, texts: str, tmp_path: Path) -> None:
    """Which tasks a step is of, and so its sequences and tokens; the gradients of their biases are projected."""
    write_run(
        bert, texts, [strategy("GradientSurgery"), strategy("BitFit"), GRADUAL], trainer={"max_epochs": 1}
    )
    config = yaml.safe_load(Path("run.yaml").read_text())
    words = str(write_sentences(tmp_path / "sentences.conll", rows=60))
    fewer = str(write_texts(tmp_path / "fewer.csv", rows=60, seed=1))
    sources = {
        "spam": ("Sequence", "Text", texts, 8),
        "fewer": ("Sequence", "Text", fewer, 4),
        "offers": ("Token", "Token", words, 8),
    }
    model, data = config["model"]["init_args"], {"alpha": 0.8, "tasks_per_step": 2}
    model["tasks"] = {
        name: {"class_path": f"bertlab.tasks.{kind.lower()}_classification.{kind}Classification"}
        for name, (kind, *_) in sources.items()
    }
    data["tasks"] = {
        name: {
            "class_path": f"bertlab.data.{kind.lower()}_classification.{kind}ClassificationData",
            "init_args": {"source": source, "batch_size": size},
        }
        for name, (_, kind, source, size) in sources.items()
    }
    config["model"]["class_path"] = "bertlab.tasks.multi_task.MultiTask"
    config["data"] = {"class_path": "bertlab.data.multi_task.MultiTaskData", "init_args": data}
    Path("run.yaml").write_text(yaml.safe_dump(config))
    rows = plan("--config", "run.yaml", UNTIMED)
    assert_plan_is_fit(rows, fit("--config", "run.yaml")[0])
    assert len({row["data/sequences"] for row in rows}) > 1
    assert len({row["parameters"] for row in rows}) == 8


def test_pretraining_in_phases(tmp_path: Path) -> None:
    """Lengths, batch sizes and a growing batch; the tied decoder trains the embeddings in part."""
    store = write_store(tmp_path / "store", documents=60)
    original = yaml.safe_load((CONFIGS / "pretrain" / "tiny_news.yaml").read_text())
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 32}
    original["model"]["init_args"]["encoder"]["init_args"]["config"] |= sizes | {"vocab_size": 80}
    original["data"]["init_args"] |= {
        "store": str(store),
        "phases": [
            {"length": 32, "fraction": 0.6},
            {"length": 32, "fraction": 0.2, "batch_size": 6},
            {"length": 64, "fraction": 0.2},
        ],
        "batch_size": 12,
        "batch_warmup_fraction": 0.4,
        "batch_warmup_start": 4,
        "validation_fraction": 0.1,
        "mask_rate": 0.3,
    }
    original["trainer"] |= {
        "max_steps": 24,
        "max_epochs": None,
        "accelerator": "cpu",
        "accumulate_grad_batches": 2,
        "callbacks": [
            strategy("StagedUnfreezing", stages=[{"train": ["head"], "until_step": 4}, {"train": ["all"]}]),
            strategy("LrRestarts", cycle_fraction=0.5, peak_decay=0.5),
        ],
    }
    Path("tiny_news.yaml").write_text(yaml.safe_dump(original))
    flags = ["--config", "tiny_news.yaml"]
    rows = plan(*flags, UNTIMED)
    steps, validated = fit(*flags)
    assert_plan_is_fit(rows, steps)
    assert validations(rows) == validated
    assert 0 < float(rows[0]["trained/embeddings"]) < 1
    assert float(rows[4]["trained/embeddings"]) == 1
    assert [row["data/length"] for row in rows] == ["32"] * 19 + ["64"] * 5
    assert [int(row["data/sequences"]) for row in rows[:11]] == [4 + 8 * step // 10 for step in range(10)] + [
        12
    ]
    for row, step in zip(rows, steps, strict=True):
        rate = float(row["data/mask_rate"])
        assert step["masked"] == sum(max(1, round(rate * length)) for length in step["lengths"])
        assert max(step["lengths"]) <= int(row["data/length"])


def test_pretraining_that_changes_from_step_to_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = yaml.safe_load((CONFIGS / "pretrain" / "tiny_news.yaml").read_text())
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    original["model"]["init_args"]["encoder"]["init_args"]["config"] |= sizes | {"vocab_size": 80}
    store = str(write_store(tmp_path / "store", documents=60))
    original["data"]["init_args"] |= {"store": store, "phases": [{"length": 64}], "batch_size": 12}
    original["data"]["init_args"] |= {"validation_fraction": 0.1, "batch_warmup_fraction": 0.0}
    original["trainer"] |= {
        "max_steps": 20,
        "max_epochs": None,
        "accelerator": "cpu",
        "callbacks": [
            strategy("SequenceLengthWarmup", start_length=16, fraction=0.6),
            strategy("MaskRateSchedule"),
            strategy("BatchSizeWarmup", start_size=4, fraction=0.4),
        ],
    }
    Path("tiny_news.yaml").write_text(yaml.safe_dump(original))
    rows = plan("--config", "tiny_news.yaml", UNTIMED)
    said = capsys.readouterr().out
    steps, _ = fit("--config", "tiny_news.yaml")
    assert_plan_is_fit(rows, steps)
    assert [row["data/length"] for row in rows] == [str(16 + 4 * t // 8 * 8) for t in range(12)] + ["64"] * 8
    assert [float(row["data/mask_rate"]) for row in rows] == pytest.approx(
        [0.3 - 0.0075 * t for t in range(20)]
    )
    assert [int(row["data/sequences"]) for row in rows] == [4 + t for t in range(8)] + [12] * 12
    for row, step in zip(rows, steps, strict=True):
        rate = float(row["data/mask_rate"])
        assert step["masked"] == sum(max(1, round(rate * length)) for length in step["lengths"])
        assert max(step["lengths"]) <= int(row["data/length"])
    assert "length: start 16, end 64, steps 12" in " ".join(said.split())


def test_plateaus_are_open(bert: str, texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Stages and schedulers that wait for a metric: known until the first validation that can move them."""
    waiting = strategy(
        "StagedUnfreezing",
        stages=[
            {"train": ["head"], "until_step": 6},
            {"train": ["layer.3-head"], "until_plateau": "val/loss", "patience": 9},
            {"train": ["all"]},
        ],
    )
    run = write_run(bert, texts, [waiting], trainer={"val_check_interval": 0.5})
    rows = plan(*run, UNTIMED)
    said = capsys.readouterr().out
    steps, validated = fit(*run)
    assert validated == [6, 12, 18, 24, 30, 36]
    # Stage 1 begins with step 6; the validation then is what its plateau starts from, the next one is after step 12.
    assert [row["open"] for row in rows] == [""] * 12 + ["StagedUnfreezing"] * 24
    assert "from step 12 on StagedUnfreezing may act on a metric" in said
    assert "or until its metric settles" in said
    assert_plan_is_fit(rows, steps)  # since the plateau never comes


def test_a_scheduler_that_waits_for_a_metric(bert: str, texts: str) -> None:
    schedule = {
        "class_path": "lightning.pytorch.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "val/loss", "patience": 0, "threshold": 10.0, "factor": 0.1},
    }
    run = write_run(bert, texts, model={"schedule": schedule})
    rows = plan(*run, UNTIMED)
    steps, _ = fit(*run)
    assert [row["open"] for row in rows] == [""] * 12 + ["ReduceLROnPlateau"] * 24
    assert_plan_is_fit(rows[:12], steps[:12])
    assert steps[-1]["lr"]["head"] < float(rows[-1]["lr/head"])


@pytest.mark.parametrize("reached", [12, 14], ids=["between epochs", "within an epoch"])
def test_resumed(reached: int, bert: str, texts: str) -> None:
    """With --ckpt_path the plan is of what is left, and is written beside the runs."""
    run = write_run(bert, texts, [GRADUAL, DEFERRED])
    whole, _ = fit(*run, "--run.version=whole")
    kill = ["--trainer.callbacks+=small.KillAt", f"--trainer.callbacks.step={reached + 1}"]
    with pytest.raises(Killed):
        main(["fit", *run, *QUIET, *kill, "--checkpoints.every_steps=2", "--run.version=killed"])
    kept = sorted(Path("runs/run").glob("*/**/*"))
    rows = plan(*run, UNTIMED, "--run.version=killed", "--ckpt_path=last")
    assert sorted(path for path in Path("runs/run").glob("*/**/*") if "plans" not in path.parts) == kept
    begin = int(rows[0]["step"])
    assert begin == reached
    assert_plan_is_fit(rows, whole[begin:])
    resumed, _ = fit(*run, "--run.version=killed", "--ckpt_path=last")
    assert_plan_is_fit(rows, resumed)


def test_long_trainings_have_every_kth_step_and_each_beginning(bert: str, texts: str) -> None:
    run = write_run(bert, texts, [BY_HAND, DEFERRED])
    every = plan(*run, UNTIMED)
    some = plan(*run, UNTIMED, "--plan.max_rows=6")
    assert [int(row["step"]) for row in some] == sorted({0, 6, 12, 18, 24, 30} | {5, 18, 27} | {14})
    assert some == [every[int(row["step"])] | {"validates": row["validates"]} for row in some]
