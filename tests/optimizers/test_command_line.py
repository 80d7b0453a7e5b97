"""Every optimizer of configs/optimizers trains a BERT through the command line, and is resumed to the bit."""

from __future__ import annotations

import csv
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import Killed

from bertlab.cli import main
from tests.bits import assert_equal
from tests.optimizers.fragments import FRAGMENTS, NAMES, rate
from tests.system.tiny_project import STRATEGIES, write_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run.yaml of two layers × 32 that thaws in stages."""
    return write_project(tmp_path_factory.mktemp("project"), callbacks=STRATEGIES[:1], max_epochs=4)


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def state(run: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)


@pytest.mark.parametrize("path", FRAGMENTS, ids=NAMES)
def test_learns_and_is_resumed_to_the_bit(path: Path, project: Path, in_tmp: Path) -> None:
    arguments = [
        "fit", "--config", str(project), "--model.optimizer", str(path), "--checkpoints.every_steps=2",
        # Weights of nobody's training need longer steps than those that the files are for.
        f"--model.optimizer.lr={30 * rate(path)}", "--model.schedule", "bertlab.schedules.constant.Constant",
    ]  # fmt: skip
    main([*arguments, "--run.name=whole"])
    kill = ["--trainer.callbacks+=small.KillAt", "--trainer.callbacks.step=13"]
    with pytest.raises(Killed):
        main([*arguments, "--run.name=killed", *kill])
    main([*arguments, "--run.name=killed", "--ckpt_path=last"])
    whole, killed = Path("runs/whole/0"), Path("runs/killed/0")
    found = losses(whole)
    assert len(found) >= 20
    assert sum(found[-5:]) < 0.9 * sum(found[:5])
    assert_equal(state(killed), state(whole))
    assert_equal(state(killed, "best")["state_dict"], state(whole, "best")["state_dict"])
    assert (killed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    config = yaml.safe_load((whole / "config.yaml").read_text())["model"]["init_args"]["optimizer"]
    assert config["class_path"] == yaml.safe_load(path.read_text())["class_path"]
    assert config["init_args"]["lr"] == pytest.approx(30 * rate(path))


def test_a_file_is_named_by_a_path_relative_to_the_file_that_names_it(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(project.read_text())
    config["model"]["init_args"]["optimizer"] = "../optimizers/lion.yaml"
    config["model"]["init_args"]["schedule"] = "../schedules/cosine.yaml"
    for name, content in {
        "finetune/mine": config,
        "optimizers/lion": yaml.safe_load((FRAGMENTS[0].parent / "lion.yaml").read_text()),
        "schedules/cosine": {
            "class_path": "bertlab.schedules.cosine.Cosine",
            "init_args": {"final_factor": 0.5},
        },
    }.items():
        (in_tmp / name).parent.mkdir(exist_ok=True)
        (in_tmp / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit):
        main(["fit", "--config", "finetune/mine.yaml", "--model.optimizer.lr=3e-6", "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert found["optimizer"]["class_path"].endswith("Lion")
    assert found["optimizer"]["init_args"]["lr"] == 3e-6
    assert found["optimizer"]["init_args"]["betas"] == [0.9, 0.99]
    assert found["schedule"]["init_args"]["final_factor"] == 0.5


class NotInstalled(MetaPathFinder):
    """A package that pip has never seen."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname.split(".", maxsplit=1)[0] == self.name:
            raise ModuleNotFoundError(f"No module named {self.name!r}", name=self.name)


@pytest.mark.parametrize(
    ("name", "package"), [("schedule_free", "schedulefree"), ("lion", "pytorch_optimizer")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str,
    package: str,
    project: Path,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(package), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        main(
            ["fit", "--config", str(project), "--model.optimizer", str(FRAGMENTS[0].parent / f"{name}.yaml")]
        )
    assert end.value.code == 2
    first = next(line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert first.endswith(f": {package} is needed and not installed: pip install 'bertlab[optimizers]'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pytorch_optimizer.AdaHessian"], "AdaHessian needs derivatives of the gradient"),
        (["pytorch_optimizer.SophiaH"], "SophiaH needs derivatives of the gradient"),
        (["pytorch_optimizer.Lion", "--model.optimizer.lr", "-1"], "learning rate must be positive"),
        (["torch.optim.AdamW", "--model.optimizer.lr", "-1"], "Invalid learning rate: -1.0"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused_in_one_message(
    words: list[str], message: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(project), "--model.optimizer", *words])
    error = capsys.readouterr().err
    assert f"error: model.init_args.optimizer: {message}" in error
    assert "Traceback" not in error
    assert not list(in_tmp.rglob("config.yaml"))
