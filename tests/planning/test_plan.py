"""`bertlab plan`: what it shows, what it warns of, what it refuses, and that it leaves no trace."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path

import own_strategies
import pytest
import torch
import yaml
from PIL import Image
from step_facts import LooksIntoTable

from bertlab.cli import main
from tests.bits import assert_equal
from tests.planning.project import CONFIGS, QUIET, UNTIMED, fit, plan, strategy, write_run

GRADUAL = strategy("StagedUnfreezing", plan="gradual", blocks_per_stage=3)
COSTS = strategy("CostWeightedLoss")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, without the breaks of lines."""
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def error(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*args, *QUIET])
    assert end.value.code in {1, 2}
    return capsys.readouterr().err


def test_what_is_shown(bert: str, texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    restarts = strategy("LrRestarts", cycle_epochs=1, peak_decay=0.7, warmup_fraction=0.1)
    run = write_run(bert, texts, [GRADUAL, restarts, COSTS], data={"batch_size": 32})
    rows = plan(*run)
    out = said(capsys)
    assert "18 optimizer steps, 3 epochs of 6" in out
    assert "layer.3 – head" in out
    assert "restart: cycle 2, steps 6, peak_factor 0.49" in out
    assert "spam" in out
    assert "weights" in out
    folder = Path("runs/run/plans/0")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "plan.csv",
        "plan.png",
        "report.html",
    ]
    assert "plan" not in yaml.safe_load((folder / "config.yaml").read_text())
    with Image.open(folder / "plan.png") as picture:
        assert picture.width > 1200
        assert picture.height > 600
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "restart: cycle 2" in page
    assert len(rows) == 18
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_memory_is_measured(bert: str, texts: str) -> None:
    """AdamW keeps two numbers a parameter and a count; what was trained once keeps them."""
    stages = [
        {"train": ["head"], "until_step": 4},
        {"train": ["layer.5"], "until_step": 8},
        {"train": ["head"], "until_step": 12},
        {"train": ["all"]},
    ]
    run = write_run(bert, texts, [strategy("StagedUnfreezing", stages=stages)])
    rows = plan(*run, "--plan.timed_steps=1")
    trained = [int(row["parameters"]) for row in rows]
    head, layer, whole = trained[0], trained[4], trained[12]
    assert trained == [head] * 4 + [layer] * 4 + [head] * 4 + [whole] * 24
    memory = [int(row["memory"]) for row in rows]
    # Steps of the head alone are alike: what is left grows by the state of layer.5.
    layers_tensors, head_tensors = 16, 2
    assert memory[8] - memory[0] == 4 * (2 * layer + layers_tensors)
    made = [memory[0] - 4 * (whole + 2 * head + head_tensors), memory[12] - 4 * (whole + 2 * whole)]
    assert made[0] < made[1] / 2, (
        "of the encoder no layer's activations are kept for a backward, and no gradient is made"
    )
    assert made[1] > 4 * whole


def test_weights_do_not_move(bert: str, texts: str) -> None:
    run = write_run(bert, texts, [GRADUAL], trainer={"accumulate_grad_batches": 2, "gradient_clip_val": 1.0})
    plan(*run, "--trainer.callbacks+=step_facts.WeightsUnmoved")
    same, count = Path("unmoved.txt").read_text().split(" of ")
    assert same == count
    assert int(count) > 100


def test_fit_afterwards_is_as_without(bert: str, texts: str, tmp_path: Path) -> None:
    """Bit for bit, in a run directory with the same number; --ckpt_path last finds the run and not the plan."""
    run = write_run(bert, texts, [GRADUAL, COSTS], trainer={"max_epochs": 2})
    fit(*run, "--run.root=alone")
    plan(*run)
    fit(*run)
    plan(*run)
    one, other = Path("alone/run/0"), Path("runs/run/0")
    for name in ("metrics.csv", "timeline.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    kept = [torch.load(root / "checkpoints" / "last.ckpt", weights_only=True) for root in (one, other)]
    assert_equal(kept[0]["state_dict"], kept[1]["state_dict"])
    assert_equal(kept[0]["optimizer_states"], kept[1]["optimizer_states"])
    assert sorted(path.name for path in Path("runs/run").iterdir()) == ["0", "plans"]
    assert [step["step"] for step in fit(*run, "--trainer.max_epochs=3", "--ckpt_path=last")[0]] == list(
        range(24, 36)
    )


def test_planned_configuration_runs(bert: str, texts: str) -> None:
    run = write_run(bert, texts, [GRADUAL])
    plan(*run, UNTIMED, "--trainer.max_epochs=1", "--plan.max_rows=5")
    assert len(fit("--config", "runs/run/plans/0/config.yaml")[0]) == 12


NEVER = {
    "stages that are never reached": (
        [strategy("CostWeightedLoss", start_epoch=99.0)],
        "CostWeightedLoss: 1 of its 2 stages would begin at step 1188 or later, and training ends at step 36",
    ),
    "and so no weight": (
        [strategy("CostWeightedLoss", start_epoch=99.0)],
        "CostWeightedLoss never acts: in every step of this training it weighs all classes alike",
    ),
    "costs that are equal": (
        [strategy("CostWeightedLoss", weights="costs", costs={"ham": 2.0, "spam": 2.0})],
        "CostWeightedLoss never acts: in every step of this training it weighs all classes alike",
    ),
    "stages too short to keep what they freeze": (
        [GRADUAL, strategy("FrozenTrunkCache")],
        "FrozenTrunkCache would do nothing in this training: the longest stage of StagedUnfreezing with frozen lower",
    ),
    "one stage that trains all": (
        [strategy("StagedUnfreezing", stages=[{"train": ["all"]}])],
        "StagedUnfreezing: in every step of this training it leaves all rates as they are and freezes nothing",
    ),
}


@pytest.mark.parametrize(("never", "message"), NEVER.values(), ids=NEVER)
def test_what_never_acts_is_said(
    never: list[dict[str, object]], message: str, bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(*write_run(bert, texts, never), UNTIMED)
    assert f"warning: {message}" in said(capsys)
    assert message in Path("runs/run/plans/0/report.html").read_text()


def test_a_plateau_without_validation_is_said(
    bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = {"class_path": "own_strategies.WaitsUnsaid"}
    rows = plan(*write_run(bert, texts, [waiting], trainer={"limit_val_batches": 0}), UNTIMED)
    assert "WaitsUnsaid waits for a plateau of a validation metric, and this training has no" in said(capsys)
    assert {row["open"] for row in rows} == {""}


def test_acting_strategies_are_not_warned_of(
    bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(*write_run(bert, texts, [GRADUAL, COSTS, strategy("LrRestarts", cycle_epochs=1)]), UNTIMED)
    assert "warning" not in said(capsys)


BAD = {
    "strategies that clash": ["--trainer.callbacks+=own_strategies.FreezesEmbeddings"],
    "an unknown block": ['--trainer.callbacks.stages=[{"train": ["layer.77"]}]'],
    "no end": ["--trainer.max_epochs=-1"],
    "an unknown key": ["--trainer.max_epoch=3"],
    "a monitor without a mode": ["--checkpoints.monitor=val/accuracy"],
    "a monitor that is not logged, without a mode": ["--checkpoints.monitor=val/loss2"],
    "a monitor that is not logged": ["--checkpoints.monitor=val/f1_macro", "--checkpoints.mode=max"],
    "a plateau without validation": ["--trainer.callbacks.plateau=val/loss", "--trainer.limit_val_batches=0"],
    "a missing file": ["--data.source=nowhere.csv"],
}


@pytest.mark.parametrize("flags", BAD.values(), ids=BAD)
def test_what_fit_refuses_is_refused(
    flags: list[str], bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(bert, texts, [GRADUAL])
    messages = [error(capsys, verb, *run, *flags) for verb in ("plan", "fit")]
    last = [message.split("bertlab: error: ")[1] for message in messages]
    assert last[0] == last[1]
    assert not list(Path().glob("runs/*"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--plan.timed_steps=-1", "plan.timed_steps takes 0 or more, got -1"),
        ("--plan.max_rows=0", "plan.max_rows takes 1 or more, got 0"),
    ],
)
def test_bad_settings(
    flag: str, message: str, bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error(capsys, "plan", *write_run(bert, texts), flag)


def test_a_training_that_is_finished(bert: str, texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(bert, texts, trainer={"max_epochs": 1})
    fit(*run)
    message = error(capsys, "plan", *run, "--ckpt_path=last")
    assert "there is nothing to plan: 12 optimizer steps have been taken" in message


def test_strategies_of_ones_own_appear(bert: str, texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Their stages and notes are shown, their part in the loss is timed, and they act on no file."""
    run = write_run(bert, texts, trainer={"max_epochs": 2})
    own = [
        "--trainer.callbacks+=own_strategies.Sharpened",
        "--trainer.callbacks+=own_strategies.WritesAtStages",
    ]
    rows = plan(*run, *own)
    assert [row["stage/Sharpened"] for row in rows] == ["0"] * 12 + ["1"] * 12
    assert [row["stage/WritesAtStages"] for row in rows] == ["0"] * 12 + ["1"] * 12
    out = said(capsys)
    assert "sharpened: times 2" in out
    # It declares "lr" and leaves it alone; what it does to files cannot be seen.
    assert "WritesAtStages: in every step of this training it leaves all rates as they are" in out
    assert "Sharpened never acts" not in out
    assert not list(Path().rglob("*.ckpt"))


def test_a_task_and_data_that_bertlab_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    """No blocks, no strategies, a loader that foresees nothing: rates, parameters and time all the same."""
    config = {
        "model": {"class_path": "small.SmallTask"},
        "data": {"class_path": "small.SmallData"},
        "trainer": {"accelerator": "cpu", "max_epochs": 2},
    }
    Path("run.yaml").write_text(yaml.safe_dump(config))
    rows = plan("--config", "run.yaml")
    assert len(rows) == 24
    assert [float(row["lr/head"]) for row in rows] == pytest.approx(
        [0.05 / (1 + 0.1 * step) for step in range(24)]
    )
    assert {row["parameters"] for row in rows} == {"58"}
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert "24 optimizer steps, 2 epochs of 12" in said(capsys)


def test_what_nobody_knows_before_and_what_is_found_in_training(
    bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Freezing by gradients is open from the first step on; its edits, as all others, are part of a timed step."""
    strategies = [
        strategy("AutoFreeze", interval_fraction=0.2),
        strategy("ChildTuning", mode="task_driven"),
        strategy("SharpnessAware"),
        strategy("ExponentialAverage"),
    ]
    own_strategies.CountsEdits.edits = 0
    run = write_run(bert, texts, strategies, trainer={"max_epochs": 1})
    limit = "--trainer.max_time=00:01:00:00"
    rows = plan(*run, "--plan.timed_steps=1", limit, "--trainer.callbacks+=own_strategies.CountsEdits")
    assert [row["open"] for row in rows] == [""] + ["AutoFreeze"] * 11
    assert own_strategies.CountsEdits.edits == 2  # in the step that warms up, and in the one that is timed
    out = said(capsys)
    assert "0 – 11, or until gradients settle" in out
    assert "from step 1 on AutoFreeze may act" in out
    assert (
        "before step 0 ChildTuning finds the child network: the data of 12 steps, forward and backward" in out
    )
    assert "ChildTuning: the child network is not known yet, so gradients are not masked in the steps" in out
    assert "finds the child network: the data of 12 steps" in Path("runs/run/plans/0/report.html").read_text()
    assert "without the copies of the weights that AutoFreeze and ExponentialAverage keep" in out
    assert "trainer.max_time may end the training before its last step" in out
    assert "warning" not in out


def test_steps_that_read_a_cache_are_timed_so(
    bert: str, texts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not those of stages that are too short for the cache, or that freeze the embeddings alone."""
    stages = [
        {"train": ["head"], "until_epoch": 1},
        {"train": ["layer.3-head"], "until_epoch": 2},
        {"train": ["layer.4-head"], "until_epoch": 2.5},
        {"train": ["layer.0-head"]},
    ]
    strategies = [
        strategy("StagedUnfreezing", stages=stages),
        strategy("FrozenTrunkCache", minimum_epochs=0.9),
        strategy("ExponentialAverage"),  # its stage begins within one of the others, and changes nothing here
    ]
    run = write_run(bert, texts, strategies)
    message = "FrozenTrunkCache, in steps 0 – 11 (StagedUnfreezing 0), 12 – 23 (StagedUnfreezing 1): what frozen blocks"
    LooksIntoTable.seen.clear()
    counted = ["--trainer.callbacks+=step_facts.LooksIntoTable", "--trainer.accumulate_grad_batches=2"]
    rows = plan(*run, *counted, "--plan.timed_steps=1")
    trained = [int(rows[step]["parameters"]) for step in (0, 12, 24, 30)]
    # Of each stage two steps of two micro-batches: before the time, without gradients; or within it. To fill the cache
    # the shortest row, to see what is kept of one (also where the stage of the average begins), and twice all rows.
    looks = [(*found, len(list(of_it))) for found, of_it in groupby(LooksIntoTable.seen)]
    assert looks == [
        (trained[0], True, 8),
        (trained[1], True, 7),
        (trained[2], False, 4),
        (trained[3], False, 4),
    ]
    out, page = said(capsys), Path("runs/run/plans/0/report.html").read_text()
    for said_of_it in (out, page):
        assert message in said_of_it
        assert said_of_it.count("fills the cache: ") == 2
    assert "before step 0 FrozenTrunkCache fills the cache: 192 rows forward through 8 frozen blocks" in out
    assert "before step 12 FrozenTrunkCache fills the cache: 192 rows forward through 4 frozen blocks" in out


def test_passes_beside_the_steps_are_those_of_the_fit_and_part_of_the_duration(
    bert: str, texts: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows beyond max_gib are not kept; a resumed training fills its cache again, and has found its mask."""
    strategies = [
        strategy("StagedUnfreezing", stages=[{"train": ["head"], "until_epoch": 2}, {"train": ["all"]}]),
        strategy("FrozenTrunkCache", max_gib=1e-5, minimum_epochs=1.0),
        strategy("ChildTuning", mode="task_driven", fisher_steps=2),
    ]
    run = write_run(bert, texts, strategies)
    monkeypatch.setattr("bertlab.planning.walk.seconds_of", lambda *_: 5 * 3600.0)
    plan(*run, "--plan.timed_steps=1")
    first = said(capsys)
    assert re.search(r"child network: the data of 2 steps, forward and backward 5 h 0 min 50 % ", first)
    assert "about 10 h 0 min on cpu, with the passes beside the steps" in first
    fit(*run, "--trainer.max_epochs=1")
    events = [json.loads(line) for line in Path("runs/run/0/timeline.jsonl").read_text().splitlines()]
    facts = {event["what"]: event["facts"] for event in events}
    assert facts["child_network"]["fisher_steps"] == 2
    assert 0 < facts["cached"]["rows"] < facts["cached"]["of"] == 192
    assert f"before step 0 FrozenTrunkCache fills the cache: {facts['cached']['rows']} rows" in first
    capsys.readouterr()
    plan(*run, "--plan.timed_steps=1", "--ckpt_path=last")
    resumed = said(capsys)
    assert f"before step 12 FrozenTrunkCache fills the cache: {facts['cached']['rows']} rows" in resumed
    assert "child network" not in resumed
    plan(*run, UNTIMED)
    assert "fills the cache" not in said(capsys)


@pytest.mark.parametrize("optimizer", ["muon", "schedule_free"])
def test_optimizers_are_timed(optimizer: str, bert: str, texts: str) -> None:
    """Also those that have modes, or several kinds of groups."""
    flags = [
        "--model.optimizer",
        str(CONFIGS / "optimizers" / f"{optimizer}.yaml"),
        "--model.optimizer.lr=1e-3",
    ]
    flags += ["--model.schedule", str(CONFIGS / "schedules" / "constant.yaml")]
    rows = plan(*write_run(bert, texts, [GRADUAL]), *flags, "--plan.timed_steps=1")
    assert float(rows[-1]["lr/head"]) == 1e-3
    assert int(rows[-1]["memory"]) > 4 * 3 * int(rows[-1]["parameters"])


def test_parameters_of_a_block(bert: str, texts: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is trained is what both strategies name; the picture and the table say "in part"."""
    rows = plan(*write_run(bert, texts, [GRADUAL, strategy("BitFit")]), UNTIMED)
    assert rows[0]["trained/layer.0"] == "0.0"
    assert 0 < float(rows[-1]["trained/layer.0"]) < 0.1
    assert rows[-1]["trained/head"] == "1.0"
    assert "in part" in said(capsys)
