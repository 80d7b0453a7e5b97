"""run.compile by the command line: what is trained, what a checkpoint holds, and what is refused."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from bertlab import cli_compile
from bertlab.callbacks.strategy import Strategy
from bertlab.cli import main
from bertlab.cli_compile import PROGRAMS, compile_model
from bertlab.tasks.text_task import TextTask
from tests.doubles.small import SmallTask
from tests.system.tiny_project import write_project
from tests.tasks.tiny import tiny_task, tiny_trainer

NO_DROPOUT = [
    "--model.init_args.dropout=0",
    "--model.encoder.init_args.dropout=0",
    "--model.encoder.init_args.attention_dropout=0",
]


def weights(root: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(root / f"runs/{name}/0/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def losses(root: Path, name: str) -> list[float]:
    lines = (root / f"runs/{name}/0/metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/loss")
    return [float(value) for line in lines[1:] if (value := line.split(",")[column])]


def test_a_compiled_run_is_a_run(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With strategies that freeze, thaw, and keep what frozen blocks make; without a compiler: torch's operations."""
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    monkeypatch.setattr(cli_compile.shutil, "which", lambda name: name)
    own: Any = TextTask.compile_layers
    monkeypatch.setattr(TextTask, "compile_layers", lambda task: own(task, "aot_eager"))
    run = str(write_project(in_tmp, max_epochs=2))
    begin = ["--config", run, *NO_DROPOUT, "--run.test_after_fit=false"]
    compiled = ["--run.compile=true"]
    main(["fit", *begin, "--run.name=plain"])
    main(["fit", *begin, "--run.name=compiled", *compiled])
    assert torch._dynamo.config.recompile_limit < PROGRAMS  # put back
    plain, found = weights(in_tmp, "plain"), weights(in_tmp, "compiled")
    assert list(found) == list(plain)
    assert losses(in_tmp, "compiled") == pytest.approx(losses(in_tmp, "plain"), abs=1e-4)
    for name, weight in plain.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-2, atol=1e-4)

    capsys.readouterr()
    main(["test", *begin[:-1], "--ckpt_path=runs/compiled/0/checkpoints/last.ckpt"])
    other = capsys.readouterr().out
    main(["test", *begin[:-1], "--ckpt_path=runs/plain/0/checkpoints/last.ckpt", *compiled])
    assert capsys.readouterr().out.split("test split")[1].split() == other.split("test split")[1].split()
    main(["plan", *begin, *compiled, "--plan.timed_steps=0"])
    assert "times are those of the model as it is" in capsys.readouterr().out


@pytest.mark.slow
def test_inductor_trains_the_same(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    begin = ["--config", str(write_project(in_tmp, max_epochs=2)), *NO_DROPOUT, "--run.test_after_fit=false"]
    main(["fit", *begin, "--run.name=plain"])
    main(["fit", *begin, "--run.name=compiled", "--run.compile=true"])
    assert losses(in_tmp, "compiled") == pytest.approx(losses(in_tmp, "plain"), abs=1e-3)


class Private(Strategy):
    touches = {"privacy", "loss"}  # noqa: RUF012


class Bare(torch.nn.Module):
    hidden_size, vocabulary_size = 16, 40

    def blocks(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("model", "callbacks", "compiler", "message"),
    [
        (
            tiny_task,
            [Private()],
            "g++",
            "run.compile: Private takes the gradients of single sequences",
        ),
        (tiny_task, [], None, r"run.compile on a CPU needs a C\+\+ compiler, and there is no "),
        (
            lambda: tiny_task(encoder=Bare()),
            [],
            "g++",
            "run.compile needs an encoder .*: Bare has no compile_layers",
        ),
        (SmallTask, [], "g++", "run.compile takes a task of bertlab.tasks, got SmallTask"),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    model: Any,
    callbacks: list[Any],
    compiler: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli_compile.shutil, "which", lambda _: compiler)
    made: LightningModule = model()
    with pytest.raises((ValueError, TypeError), match=message), ExitStack() as at_end:
        compile_model(made, tiny_trainer(tmp_path, callbacks=callbacks), at_end)
