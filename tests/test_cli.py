"""The command line: help, composing of configurations, run directories, checkpoints, errors."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from bertlab.cli import VERBS, main

BASE = {
    "model": {
        "class_path": "small.SmallTask",
        "init_args": {"encoder": {"class_path": "small.SmallEncoder", "init_args": {"source": "bert"}}},
    },
    "data": "../data/small.yaml",
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "small.Note"}],
    },
    "wandb": {"mode": "disabled"},
}
OVERLAY = {"trainer": {"callbacks+": [{"class_path": "small.Note", "init_args": {"text": "overlay"}}]}}
FRAGMENT = {"class_path": "small.Note", "init_args": {"text": "fragment"}}
DATA = {"class_path": "small.SmallData", "init_args": {"source": "over there"}}


@pytest.fixture
def configs(in_tmp: Path) -> Path:
    """configs/{finetune/base,data/small,callbacks/note,hardware/overlay}.yaml in the working directory."""
    files = {
        "finetune/base": BASE,
        "data/small": DATA,
        "callbacks/note": FRAGMENT,
        "hardware/overlay": OVERLAY,
    }
    for name, content in files.items():
        path = in_tmp / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
    return in_tmp / "configs"


BASE_FLAGS = ["--config", "configs/finetune/base.yaml"]


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as end:
        main(["fit", *flags, "--print_config"])
    assert end.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def texts(config: dict[str, Any]) -> list[str]:
    return [callback["init_args"]["text"] for callback in config["trainer"]["callbacks"]]


def error(capsys: pytest.CaptureFixture[str], *args: str, code: int = 1) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(args))
    assert end.value.code == code
    return capsys.readouterr().err


def test_help_names_every_verb_and_does_not_load_torch() -> None:
    script = (
        "import sys; from bertlab.cli import main; main(['--help']); print(sorted(m for m in sys.modules))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: by the clock a machine that is busy with other tests would take longer.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.0
    for verb in VERBS:
        assert [line for line in out.splitlines() if line.strip().startswith(f"{verb} ")], verb
    for heavy in ("torch", "lightning", "transformers", "wandb", "jsonargparse", "numpy"):
        assert f"'{heavy}'" not in out.splitlines()[-1]


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    message = error(capsys, "tset", "--config", "x.yaml", code=2)
    assert "'tset'" in message
    assert "did you mean 'test'" in message
    assert "fit, validate, test, predict" in message


@pytest.mark.usefixtures("configs")
class TestComposing:
    def test_fragment_by_path_relative_to_the_file_that_names_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = printed(capsys, *BASE_FLAGS)
        assert config["data"]["init_args"]["source"] == "over there"

    def test_overlay_appends(self, capsys: pytest.CaptureFixture[str]) -> None:
        config = printed(capsys, *BASE_FLAGS, "--config", "configs/hardware/overlay.yaml")
        assert texts(config) == ["hello", "overlay"]

    def test_flag_appends_a_fragment(self, capsys: pytest.CaptureFixture[str]) -> None:
        flag = "--trainer.callbacks+=configs/callbacks/note.yaml"
        config = printed(capsys, *BASE_FLAGS, "--config", "configs/hardware/overlay.yaml", flag)
        assert texts(config) == ["hello", "overlay", "fragment"]

    def test_any_value_from_the_command_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        config = printed(capsys, *BASE_FLAGS, "--data.source", "x", "--model.encoder.dropout=0.5")
        assert config["data"]["init_args"]["source"] == "x"
        assert config["model"]["init_args"]["encoder"]["init_args"]["dropout"] == 0.5

    @pytest.mark.parametrize(
        "first",
        [["--config", "configs/hardware/overlay.yaml"], ["--trainer.callbacks+=configs/callbacks/note.yaml"]],
    )
    def test_overlay_before_the_base_would_be_lost(
        self, first: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        message = error(capsys, "fit", *first, *BASE_FLAGS, code=2)
        assert first[-1] in message
        assert "configs/finetune/base.yaml" in message
        assert "'trainer.callbacks'" in message

    def test_printed_configuration_is_the_same_when_read_again(
        self, in_tmp: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        once = printed(capsys, *BASE_FLAGS, "--data.tokenizer", "another")
        assert once["data"]["init_args"]["tokenizer"] == "another"
        (in_tmp / "printed.yaml").write_text(yaml.safe_dump(once))
        assert printed(capsys, "--config", "printed.yaml") == once

    @pytest.mark.parametrize(
        ("flags", "key"),
        [
            (["--trainer.max_epoch=3"], "max_epoch"),
            (["--model.nope=3"], "nope"),
            (["--data.batch=x"], "batch"),
        ],
    )
    def test_wrong_key_or_value(self, flags: list[str], key: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert key in error(capsys, "fit", *BASE_FLAGS, *flags, code=2)

    def test_wrong_key_in_a_file(self, configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (configs / "bad.yaml").write_text(yaml.safe_dump({"trainer": {"max_epohcs": 3}}))
        message = error(capsys, "fit", *BASE_FLAGS, "--config", "configs/bad.yaml", code=2)
        assert "'trainer.max_epohcs' (in configs/bad.yaml)" in message
        assert "usage:" not in message
        (configs / "bad.yaml").write_text("trainer: {max_epochs: 3")
        message = error(capsys, "fit", *BASE_FLAGS, "--config", "configs/bad.yaml", code=2)
        assert "configs/bad.yaml is not a YAML file" in message
        for content, held in (("", "nothing"), ("- a\n- b\n", "a list"), ("a: b: c", "not a YAML file")):
            (configs / "bad.yaml").write_text(content)
            message = error(capsys, "fit", *BASE_FLAGS, "--config", "configs/bad.yaml", code=2)
            assert "configs/bad.yaml is" in message
            assert held in message

    def test_missing_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "nowhere.yaml" in error(capsys, "fit", "--config", "nowhere.yaml", code=2)


def resolved(run: str) -> dict[str, Any]:
    return yaml.safe_load(Path(run, "config.yaml").read_text())


@pytest.mark.usefixtures("configs")
class TestRuns:
    def test_two_runs_in_a_row_have_their_own_directories(self) -> None:
        for _ in range(2):
            main(["fit", *BASE_FLAGS])
        for version in "01":
            run = Path("runs/base", version)
            files = {path.name for path in run.iterdir()}
            assert {"config.yaml", "checkpoints", "metrics.csv", "timeline.jsonl", "results.json"} <= files
            assert (run / "checkpoints/best.ckpt").exists()
        assert Path("runs/base/0/metrics.csv").read_text() == Path("runs/base/1/metrics.csv").read_text()

    def test_tokenizer_is_the_encoders_unless_named(self) -> None:
        main(["fit", *BASE_FLAGS])
        assert resolved("runs/base/0")["data"]["init_args"]["tokenizer"] == "bert"
        main(["fit", *BASE_FLAGS, "--data.tokenizer", "another"])
        assert resolved("runs/base/1")["data"]["init_args"]["tokenizer"] == "another"

    def test_kept_configuration_runs_the_same_again(self) -> None:
        main(["fit", *BASE_FLAGS, "--data.tokenizer", "another"])
        main(["fit", "--config", "runs/base/0/config.yaml"])
        assert resolved("runs/base/1") == resolved("runs/base/0")
        assert Path("runs/base/0/metrics.csv").read_text() == Path("runs/base/1/metrics.csv").read_text()

    def test_seed_changes_the_run(self) -> None:
        for seed in ("1", "2"):
            main(["fit", *BASE_FLAGS, "--seed_everything", seed])
        assert Path("runs/base/0/metrics.csv").read_text() != Path("runs/base/1/metrics.csv").read_text()

    def test_test_after_fit_can_be_left_out(self) -> None:
        main(["fit", *BASE_FLAGS, "--run.test_after_fit", "false"])
        assert not Path("runs/base/0/results.json").exists()

    def test_table_at_the_end(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["fit", *BASE_FLAGS])
        out = capsys.readouterr().out
        for word in ("accuracy", "confusion matrix", "ham", "spam"):
            assert word in out
        kept = json.loads(Path("runs/base/0/results.json").read_text())["test"]
        counts = kept["confusion_matrix"]["counts"]
        right = counts[0][0] + counts[1][1]
        assert kept["accuracy"] == pytest.approx(right / sum(map(sum, counts)), abs=1e-6)

    def test_resume_in_place_after_more_epochs_were_asked_for(self) -> None:
        main(["fit", *BASE_FLAGS, "--trainer.max_epochs=2", "--run.name=whole"])
        main(["fit", *BASE_FLAGS, "--run.test_after_fit=false"])
        main(["fit", *BASE_FLAGS, "--trainer.max_epochs=2", "--ckpt_path", "last"])
        assert sorted(path.name for path in Path("runs/base").iterdir()) == ["0"]
        assert Path("runs/base/0/metrics.csv").read_text() == Path("runs/whole/0/metrics.csv").read_text()
        assert (
            Path("runs/base/0/timeline.jsonl").read_text() == Path("runs/whole/0/timeline.jsonl").read_text()
        )

    def test_test_and_validate_use_the_newest_run_in_place(self) -> None:
        main(["fit", *BASE_FLAGS])
        after_fit = json.loads(Path("runs/base/0/results.json").read_text())["test"]
        configuration = Path("runs/base/0/config.yaml").read_text()
        for verb in ("test", "validate"):
            main([verb, *BASE_FLAGS, "--ckpt_path", "best"])
        results = json.loads(Path("runs/base/0/results.json").read_text())
        assert results["test"] == after_fit
        assert set(results) == {"test", "val"}
        assert Path("runs/base/0/config.yaml").read_text() == configuration
        assert sorted(path.name for path in Path("runs/base").iterdir()) == ["0"]
        others = {path.name for path in Path("runs/base/0").glob("config-*.yaml")}
        assert others == {"config-test.yaml", "config-validate.yaml"}

    def test_predict_writes_rows_in_order(self) -> None:
        main(["fit", *BASE_FLAGS])
        main(["predict", *BASE_FLAGS, "--ckpt_path", "best", "--data.predict_source", "some/my.csv"])
        table = pq.read_table("runs/base/0/predictions/my.parquet")
        assert table.column_names == ["id", "predicted", "probability_ham", "probability_spam"]
        assert table["id"].to_pylist() == [f"row-{i}" for i in range(48)]
        for row in table.to_pylist():
            assert row["probability_ham"] + row["probability_spam"] == pytest.approx(1, abs=1e-6)
            assert row["predicted"] == ("ham" if row["probability_ham"] > row["probability_spam"] else "spam")
        main(["predict", *BASE_FLAGS, "--ckpt_path", "runs/base/0/checkpoints/best.ckpt"])
        assert pq.read_table("runs/base/0/predictions/test.parquet").drop(["id"]) == table.drop(["id"])

    def test_checkpoint_that_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "no run 'base'" in error(capsys, "test", *BASE_FLAGS, "--ckpt_path", "best")
        main(["fit", *BASE_FLAGS])
        Path("runs/base/0/checkpoints/last.ckpt").unlink()
        message = error(capsys, "fit", *BASE_FLAGS, "--ckpt_path", "last")
        assert "best.ckpt" in message
        main(["fit", *BASE_FLAGS])
        message = error(capsys, "test", *BASE_FLAGS, "--ckpt_path", "last", "--run.version=0")
        assert "Other versions of 'base' with last.ckpt: 1" in message
        assert "nowhere.ckpt" in error(capsys, "test", *BASE_FLAGS, "--ckpt_path", "nowhere.ckpt")

    def test_version_that_is_taken(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["fit", *BASE_FLAGS, "--run.version=mine"])
        assert "runs/base/mine has a run already" in error(capsys, "fit", *BASE_FLAGS, "--run.version=mine")

    @pytest.mark.parametrize("name", ["../x", "a/b", "..", "a b"])
    def test_names_are_folder_names(
        self, name: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "run.name" in error(capsys, "fit", *BASE_FLAGS, f"--run.name={name}")
        assert not (in_tmp / "runs").exists()

    def test_a_run_that_cannot_begin_leaves_no_directory(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        main(["fit", *BASE_FLAGS])
        assert "every_steps" in error(capsys, "fit", *BASE_FLAGS, "--checkpoints.every_steps=0")
        assert [path.name for path in Path("runs/base").iterdir()] == ["0"]
        with monkeypatch.context() as patch:
            patch.setattr("small.SmallTask.configure_optimizers", lambda _: {}["no such key"])
            with pytest.raises(KeyError, match="no such key"):  # with the configuration written
                main(["fit", *BASE_FLAGS])
        assert [path.name for path in Path("runs/base").iterdir()] == ["0"]
        Path("runs/base/1").mkdir()
        main(["test", *BASE_FLAGS, "--ckpt_path=best"])

    def test_a_run_that_has_begun_keeps_its_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("small.SmallTask.on_train_epoch_end", lambda _: {}["no such key"], raising=False)
        with pytest.raises(KeyError, match="no such key"):
            main(["fit", *BASE_FLAGS])
        assert {"config.yaml", "metrics.csv"} <= {path.name for path in Path("runs/base/0").iterdir()}

    def test_a_place_that_cannot_be_written_to(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("file").write_text("no folder")
        for root in ("file", "/proc/runs"):
            message = error(capsys, "fit", *BASE_FLAGS, f"--run.root={root}")
            assert f"run.root is {root!r}, where no folder can be made" in message

    def test_a_full_disk_is_no_fault_of_the_program(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")

        monkeypatch.setattr("small.SmallTask.training_step", full)
        assert "No space left on device: 'metrics.csv'" in error(capsys, "fit", *BASE_FLAGS)

    def test_faults_of_the_program_keep_their_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("small.SmallTask.training_step", lambda *_: {}["no such key"])
        with pytest.raises(KeyError, match="no such key"):
            main(["fit", *BASE_FLAGS])

    def test_debugging_shows_where_an_error_was_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BERTLAB_DEBUG", "1")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            main(["test", *BASE_FLAGS, "--ckpt_path", "nowhere.ckpt"])
