"""Averages through the command line: what each verb makes of a run that averages, and `bertlab average`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from small import Killed

from bertlab.cli import main
from bertlab.interfaces import TRAINED_WEIGHTS
from tests.bits import assert_equal
from tests.system.tiny_project import write_project

AVERAGE = {
    "class_path": "bertlab.callbacks.exponential_average.ExponentialAverage",
    "init_args": {"decay": 0.9, "start_fraction": 0.3},
}
RESTARTS = {
    "class_path": "bertlab.callbacks.lr_restarts.LrRestarts",
    "init_args": {"cycle_epochs": 1, "save_cycles": True},
}
WITHOUT = "--trainer.callbacks=[]"


@pytest.fixture
def config(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BERTLAB_CACHE", str(in_tmp / "cache"))
    return str(write_project(in_tmp, callbacks=[AVERAGE]))


def fit(config: str, name: str, *flags: str) -> Path:
    main(["fit", "--config", config, "--run.name", name, "--checkpoints.every_steps", "2", *flags])
    return Path("runs", name, "0")


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())["test"]


def refused(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 1) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    assert end.value.code == code
    return capsys.readouterr().err


def test_test_predict_and_export_take_the_average(config: str, in_tmp: Path) -> None:
    run = fit(config, "run")
    after_fit, best = results(run), read(run / "checkpoints/best.ckpt")
    assert any(not torch.equal(v, best[TRAINED_WEIGHTS][n]) for n, v in best["state_dict"].items())
    tables = []
    for flags in ((), (WITHOUT,)):
        common = ["--config", config, "--run.name", "run", "--ckpt_path", "best", *flags]
        main(["test", *common])
        assert results(run) == after_fit
        main(["predict", *common])
        tables.append(pq.read_table(run / "predictions/test.parquet"))
    assert tables[0] == tables[1]
    main(["export", *common, "--output", "exported"])
    exported = load_file(in_tmp / "exported/model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(exported[f"bert.{name}"], best["state_dict"][f"encoder.model.{name}"])


def test_without_checkpoints_the_average_in_memory_is_tested(config: str) -> None:
    """By the loss the last epoch is the best here, so the run with checkpoints tests the same weights."""
    by_loss = ("--checkpoints.monitor=val/loss", "--checkpoints.mode=min")
    kept = fit(config, "kept", *by_loss)
    best, last = (read(kept / f"checkpoints/{name}.ckpt")["state_dict"] for name in ("best", "last"))
    assert_equal(dict(best), dict(last))
    with pytest.warns(UserWarning, match="there is no best checkpoint"):
        alone = fit(config, "alone", "--trainer.enable_checkpointing=false")
    assert results(alone) == results(kept)
    assert (alone / "metrics.csv").read_text() == (kept / "metrics.csv").read_text()


def test_killed_and_resumed_is_never_killed(config: str) -> None:
    flags = ("--trainer.val_check_interval=5",)
    whole = fit(config, "whole", *flags)
    kill = (*flags, "--trainer.callbacks+=small.KillAt", "--trainer.callbacks.step=20")
    for where in ("validation_batch_end", "validation_end", "train_batch_end"):
        with pytest.raises(Killed):
            fit(config, where, *kill, f"--trainer.callbacks.where={where}")
        run = fit(config, where, *flags, "--ckpt_path", "last")
        for name in ("metrics.csv", "timeline.jsonl"):
            assert (run / name).read_text() == (whole / name).read_text(), where
        assert_equal(read(run / "checkpoints/last.ckpt"), read(whole / "checkpoints/last.ckpt"), where)
        assert results(run) == results(whole)


def test_a_resume_without_the_strategy_goes_on_from_the_trained_weights(config: str) -> None:
    plain = fit(config, "plain", WITHOUT)
    kill = ("--trainer.callbacks+=small.KillAt", "--trainer.callbacks.step=20")
    with pytest.raises(Killed):
        fit(config, "run", *kill)
    assert TRAINED_WEIGHTS in read(Path("runs/run/0/checkpoints/last.ckpt"))
    run = fit(config, "run", WITHOUT, "--ckpt_path", "last")
    last = [read(one / "checkpoints/last.ckpt") for one in (run, plain)]
    assert TRAINED_WEIGHTS not in last[0]
    assert_equal(dict(last[0]["state_dict"]), dict(last[1]["state_dict"]))
    moments = [one["optimizer_states"][0]["state"] for one in last]
    assert_equal(moments[0], moments[1])


def test_average_of_cycles(in_tmp: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_project(in_tmp, callbacks=[RESTARTS]))
    run = fit(config, "run")
    cycles = sorted((run / "checkpoints").glob("cycle-*.ckpt"))
    assert len(cycles) == 3
    capsys.readouterr()
    main(["average", *map(str, cycles)])
    out = capsys.readouterr().out
    assert "runs/run/0/checkpoints/average.ckpt: the mean of 3 checkpoints" in out
    made = read(run / "checkpoints/average.ckpt")
    sets = [read(cycle)["state_dict"] for cycle in cycles]
    for name, value in made["state_dict"].items():
        expected = torch.stack([one[name].double() for one in sets]).mean(0)
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-7)
    assert made["bertlab_averaged"] == [str(cycle) for cycle in cycles]
    assert (run / "checkpoints/average.ckpt").stat().st_size < cycles[0].stat().st_size / 2
    # It is tested in the run that it came from, and exported.
    before = results(run)
    common = ["--config", config, "--ckpt_path", "runs/run/0/checkpoints/average.ckpt"]
    main(["test", *common])
    assert results(run) != before
    main(["export", *common, "--output", "out"])
    name = "encoder.layer.1.output.dense.weight"
    exported = load_file(in_tmp / "out/model.safetensors")[f"bert.{name}"]
    assert torch.equal(exported, made["state_dict"][f"encoder.model.{name}"])
    # Training does not go on from it.
    message = refused(capsys, "fit", *common)
    assert "average.ckpt: the checkpoint holds weights alone, from which training cannot go on" in message
    assert "average.ckpt is there already" in refused(capsys, "average", *cycles)


def test_what_cannot_be_averaged(in_tmp: Path, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(config, "run", WITHOUT, "--trainer.max_epochs=1")
    best, last = (run / f"checkpoints/{name}.ckpt" for name in ("best", "last"))
    assert "the same file, which would count twice" in refused(capsys, "average", best, last)
    assert "takes two checkpoints or more" in refused(capsys, "average", best)
    assert "there is no checkpoint at nowhere.ckpt" in refused(capsys, "average", best, "nowhere.ckpt")
    assert "required: checkpoints" in refused(capsys, "average", code=2)
    assert "--outptu" in refused(capsys, "average", best, last, "--outptu", "x", code=2)

    def changed(name: str, **changes: Any) -> Path:
        torch.save(read(best) | changes, in_tmp / name)
        return in_tmp / name

    other = changed("task.ckpt", bertlab_task="Pretraining")
    message = refused(capsys, "average", best, other)
    assert "the task of the first is 'SequenceClassification', of the other 'Pretraining'" in message
    message = refused(capsys, "average", best, changed("names.ckpt", bertlab_label_names=["spam", "ham"]))
    assert "the label names of the first is ['ham', 'spam'], of the other ['spam', 'ham']" in message
    state = read(best)["state_dict"]
    wide = changed("wide.ckpt", state_dict=state | {"head.output.weight": torch.zeros(3, 32)})
    message = refused(capsys, "average", best, wide)
    assert "head.output.weight is (2, 32) in the first and (3, 32) in the other" in message
    state.pop("head.output.bias")
    message = refused(capsys, "average", best, changed("less.ckpt", state_dict=state))
    assert "head.output.bias is (2,) in the first and missing in the other" in message
    (in_tmp / "code.ckpt").write_bytes(b"\x80\x04cposix\nsystem\n.")
    assert "a bare pickle" in refused(capsys, "average", best, "code.ckpt")
    assert not (run / "checkpoints/average.ckpt").exists()
