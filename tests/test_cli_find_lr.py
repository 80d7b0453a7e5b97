"""`bertlab find-lr`: what it finds, what it leaves behind, and the fit that follows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bertlab.cli import main
from bertlab.schedules.range_test import RangeTest
from tests.bits import assert_equal
from tests.system.tiny_project import bertlab_on_two_ranks, write_project

SWEEP = ["--lr_min=1e-5", "--lr_max=1e-1", "--steps=30"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run.yaml with three strategies, 36 steps long."""
    return write_project(tmp_path_factory.mktemp("project"))


def table(run: str) -> list[dict[str, float]]:
    with Path(run, "lr_range.csv").open() as file:
        return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(file)]


def logged(run: str) -> list[float]:
    with Path(run, "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def learning_rate(run: str) -> float:
    config = yaml.safe_load(Path(run, "config.yaml").read_text())
    return config["model"]["init_args"]["optimizer"]["init_args"]["lr"]


def plain(project: Path, **optimizer: Any) -> dict[str, Any]:
    """The project without strategies."""
    config = yaml.safe_load(project.read_text())
    config["trainer"]["callbacks"] = []
    if optimizer:
        config["model"]["init_args"]["optimizer"] = optimizer
    return config


def failed(capsys: pytest.CaptureFixture[str], *args: str, code: int) -> str:
    with pytest.raises(SystemExit) as end:
        main(["find-lr", *args])
    assert end.value.code == code
    return capsys.readouterr().err


def test_finds_a_rate_and_leaves_nothing_but_its_run_directory(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["find-lr", "--config", str(project), *SWEEP])
    rows = table("runs/run-find-lr/0")
    test = RangeTest(1e-5, 1e-1, 30)
    assert [row["lr"] for row in rows] == pytest.approx([test.rate(step) for step in range(len(rows))])
    found = test.suggestions([row["loss"] for row in rows])
    assert found is not None
    out = capsys.readouterr().out
    assert f"--model.optimizer.lr {found.steepest:g}" in out
    assert f"--model.optimizer.lr {found.minimum_tenth:g}" in out
    assert "Off during the sweep: the schedule, StagedUnfreezing, LrRestarts." in out
    assert [str(path) for path in in_tmp.iterdir()] == [str(in_tmp / "runs")]
    assert [path.name for path in Path("runs").iterdir()] == ["run-find-lr"]
    files = sorted(path.name for path in Path("runs/run-find-lr/0").iterdir())
    assert files == ["config.yaml", "lr_range.csv", "lr_range.png"]
    assert Path("runs/run-find-lr/0/lr_range.png").read_bytes().startswith(b"\x89PNG")
    main(["find-lr", "--config", "runs/run-find-lr/0/config.yaml"])
    assert table("runs/run-find-lr/1") == rows


def test_a_strategy_that_acts_later_than_the_sweep_ends_is_not_missed(
    project: Path, in_tmp: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """It acts in the training, in step 11 of 36, of which the sweep is not a whole one."""
    main(["find-lr", "--config", str(project), "--lr_min=1e-5", "--lr_max=1e-3", "--steps=10"])
    assert len(table("runs/run-find-lr/0")) == 10
    assert not [str(w.message) for w in recwarn if "where training" in str(w.message)]


def test_the_sweep_is_the_beginning_of_a_fit_whose_rate_grows(project: Path, in_tmp: Path) -> None:
    """Of the same batches, layer decay, dropout: against torch's own exponential schedule."""
    config = plain(project)
    config["model"]["init_args"] |= {"layer_decay": 0.7}
    (in_tmp / "plain.yaml").write_text(yaml.safe_dump(config))
    main(["find-lr", "--config", "plain.yaml", *SWEEP, "--divergence=1000"])
    config["model"]["init_args"]["optimizer"]["init_args"]["lr"] = 1e-5
    config["model"]["init_args"]["schedule"] = {
        "class_path": "torch.optim.lr_scheduler.ExponentialLR",
        "init_args": {"gamma": 1e4 ** (1 / 29)},
    }
    (in_tmp / "grows.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", "grows.yaml"])
    swept = [row["loss"] for row in table("runs/plain-find-lr/0")]
    assert len(swept) == 30
    # Rates are rounded differently in the two, and at the highest ones that tells.
    assert swept[:24] == pytest.approx(logged("runs/grows/0")[:24], rel=1e-4)


@pytest.mark.parametrize("choice", ["steepest", "minimum_tenth"])
def test_the_fit_that_follows_is_that_of_the_rate_given_by_hand(
    choice: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["find-lr", "--config", str(project), *SWEEP, "--then_fit", choice])
    losses = [row["loss"] for row in table("runs/run-find-lr/0")]
    rate = getattr(RangeTest(1e-5, 1e-1, 30).suggestions(losses), choice)
    assert learning_rate("runs/run/0") == rate
    main(["fit", "--config", str(project), "--model.optimizer.lr", str(rate)])
    states = [torch.load(f"runs/run/{i}/checkpoints/last.ckpt", weights_only=True) for i in (0, 1)]
    assert_equal(*states)
    for name in ("config.yaml", "metrics.csv", "timeline.jsonl", "results.json"):
        assert Path("runs/run/0", name).read_text() == Path("runs/run/1", name).read_text(), name


@pytest.mark.parametrize("top", [1e3, 1e30], ids=["diverges", "no number"])
def test_ends_where_the_loss_diverges(
    top: float, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0, "weight_decay": 0.0}}
    (in_tmp / "sgd.yaml").write_text(yaml.safe_dump(plain(project, **sgd)))
    main(["find-lr", "--config", "sgd.yaml", "--lr_min=1e-3", f"--lr_max={top}", "--steps=20"])
    rows = table("runs/sgd-find-lr/0")
    assert len(rows) < 20
    out = " ".join(capsys.readouterr().out.split())
    assert f"after {len(rows)} steps: the loss diverged" in out
    assert Path("runs/sgd-find-lr/0/lr_range.png").exists()


def test_a_loss_that_never_falls_suggests_nothing(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--config", str(project), "--steps=12", "--lr_min=50", "--lr_max=5000", "--smoothing=0"]
    message = failed(capsys, *flags, "--then_fit=steepest", code=1)
    assert "--then_fit: the loss has not fallen at any rate" in message
    assert not Path("runs/run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr_min=0"], "lr_min takes a number above 0, got 0.0"),
        (["--lr_min=1", "--lr_max=0.5"], "lr_max takes a number above lr_min, which is 1.0, got 0.5"),
        (["--steps=5"], "steps takes 10 or more, got 5"),
        (["--smoothing=1"], "smoothing takes a number in [0, 1), got 1.0"),
        (["--divergence=0.5"], "divergence takes a number above 1, got 0.5"),
        (["--then_fit=best"], "then_fit"),
        (["--ckpt_path=last"], "ckpt_path"),
        (["--then_fit=steepest", "--trainer.devices=2"], "--then_fit takes one device, got 2"),
    ],
)
def test_bad_arguments_leave_nothing(
    flags: list[str], message: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in failed(capsys, "--config", str(project), *flags, code=2)
    assert not list(Path("runs/run-find-lr").glob("*"))


def test_privacy_is_not_spent_on_a_test(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fragment = Path(__file__).parents[1] / "configs" / "callbacks" / "private_training.yaml"
    flags = ["--config", str(project), f"--trainer.callbacks+={fragment}"]
    assert "PrivateTraining would spend privacy on the test of rates" in failed(capsys, *flags, code=1)
    assert not list(Path("runs/run-find-lr").glob("*"))


def test_more_steps_than_training_has(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failed(capsys, "--config", str(project), "--steps=37", code=1)
    assert "--steps is 37, and the whole training" in message
    assert "has 36 optimizer steps" in message


def test_keys_of_the_sweep_in_a_file_cannot_be_handed_on(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_tmp / "sweep.yaml").write_text("steps: 20\n")
    flags = ["--config", str(project), "--config", "sweep.yaml", "--then_fit=steepest"]
    assert "give them as flags (in sweep.yaml)" in failed(capsys, *flags, code=2)


def test_a_task_without_an_optimizer_to_choose(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "model": {"class_path": "small.SmallTask"},
        "data": {"class_path": "small.SmallData"},
        "trainer": {"accelerator": "cpu", "max_epochs": 3},
    }
    (in_tmp / "small.yaml").write_text(yaml.safe_dump(config))
    message = failed(capsys, "--config", "small.yaml", code=2)
    assert "small.SmallTask has no such key" in message


def test_two_ranks_find_what_one_finds(project: Path, in_tmp: Path) -> None:
    config = plain(project)
    config["model"]["init_args"]["dropout"] = 0.0
    config["model"]["init_args"]["encoder"]["init_args"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    (in_tmp / "plain.yaml").write_text(yaml.safe_dump(config))
    main(["find-lr", "--config", "plain.yaml", *SWEEP])
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", "--run.name=two", "--run.version=0"]
    bertlab_on_two_ranks(in_tmp, "find-lr", "--config", "plain.yaml", *SWEEP, *ranks)
    one, two = table("runs/plain-find-lr/0"), table("runs/two-find-lr/0")
    assert [row["loss"] for row in two][:20] == pytest.approx([row["loss"] for row in one][:20], rel=1e-3)
