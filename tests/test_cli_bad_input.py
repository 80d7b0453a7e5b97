"""What a user gets wrong, at the command line: one message that says what to change, and nothing is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertlab.cli import main
from tests.system.tiny_project import write_project, write_texts
from tests.tokenizers import write_tokenizer

STAGED = "bertlab.callbacks.staged_unfreezing.StagedUnfreezing"
COSTS = "bertlab.callbacks.cost_weighted_loss.CostWeightedLoss"


def write_forty(folder: Path) -> None:
    """run.yaml, a tiny model and forty texts."""
    config = yaml.safe_load(write_project(folder, callbacks=[], max_epochs=1).read_text())
    write_texts(folder / "texts.csv", 40)
    config["wandb"]["mode"] = "offline"
    (folder / "run.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `write_forty` writes, and another tokenizer; nothing is written into it."""
    folder = tmp_path_factory.mktemp("project")
    write_forty(folder)
    write_tokenizer(folder / "larger", [f"word{i}" for i in range(300)])
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "disabled")


def texts_with(label: Callable[[int, str], str] = lambda _, label: label, text: str | None = None) -> str:
    """A CSV of forty rows, of which the eighth may be another text."""
    rows = [(f"the offer {i}", "spam" if i % 3 == 0 else "ham") for i in range(40)]
    lines = [
        f"{text if text is not None and i == 7 else t},{label(i, name)}" for i, (t, name) in enumerate(rows)
    ]
    return "\n".join(["text,label", *lines]) + "\n"


def lines_with(**seventh: str) -> str:
    """Forty lines of JSON, of which the eighth may hold something else, as it is written in JSON."""
    rows = [{"text": f'"the offer {i}"', "label": '"spam"' if i % 3 == 0 else '"ham"'} for i in range(40)]
    rows[7] |= seventh
    return "".join(f'{{"text": {row["text"]}, "label": {row["label"]}}}\n' for row in rows)


def callback(path: str, **init_args: Any) -> list[str]:
    return [f"--trainer.callbacks+={json.dumps({'class_path': path, 'init_args': init_args})}"]


#: What my.csv holds.
FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r"my\.csv: the file is empty"),
    "not UTF-8": (texts_with(text="caf\xe9").encode("latin-1"), r"my\.csv: not UTF-8: byte 0xe9 .*line 9"),
    "wrong column": ("sentence,label\nx,a\n", r"my\.csv: no column 'text' \(text_column: text\)"),
    "no label column": ("text\nx\n", r"my\.csv: no column 'label' \(label_column: label\)"),
    "one class": (texts_with(lambda *_: "ham"), r"my\.csv: every training row has the same label \['ham'\]"),
    "empty text": (texts_with(text=""), r"my\.csv: column 'text' has no text in row 8"),
    "labels apart by a space": (
        texts_with(lambda i, label: label + " " * (i == 7)),
        r"the labels 'ham' \(row 2\) and 'ham ' \(row 8\) differ by spaces alone",
    ),
}

#: What my.jsonl holds.
LINES: dict[str, tuple[str, str]] = {
    "a text that is NaN": (
        lines_with(text="NaN"),
        r"my\.jsonl: column 'text' has no text in row 8",
    ),
    "texts that are NaN": (
        lines_with().replace('"the offer', 'NaN, "was": "the offer'),
        r"my\.jsonl: column 'text' has no text in rows 1, 2, 3",
    ),
    "a number for a text": (
        lines_with(text="8"),
        r"my\.jsonl: column text holds values of more than one type: str .*, number \(first in row 8: 8\)",
    ),
    "labels of two types": (
        lines_with(label="1"),
        r"my\.jsonl: column label holds values of more than one type: str .*, number \(first in row 8: 1\)",
    ),
    "a label that is NaN": (
        lines_with(label="NaN"),
        r"my\.jsonl: there is no label in row 8",
    ),
}


def staged(*ends: int, train: str = "head") -> list[str]:
    stages: list[dict[str, Any]] = [{"train": [train], "until_step": end} for end in ends]
    return callback(STAGED, stages=[*stages, {"train": ["all"]}])


#: Flags of a fit on good texts; {project} is the folder of the project.
FLAGS: dict[str, tuple[list[str], str]] = {
    "no such file": (["--data.source=gone.csv"], r"gone\.csv: no such file"),
    "no such encoder": (
        ["--model.encoder.source=nobody/nothing"],
        r"encoder\.source: cannot read 'nobody/nothing'",
    ),
    "no such tokenizer": (["--data.tokenizer=nobody/nothing"], r"tokenizer: 'nobody/nothing' cannot be read"),
    "an encoder that names no tokenizer": (
        [
            '--model.encoder={"class_path": "bertlab.encoders.from_config.EncoderFromConfig", "init_args": '
            '{"model_type": "bert"}}'
        ],
        r"data\.init_args\.tokenizer is not set, and the encoder has no `source` to take one from",
    ),
    "a class that no training row has": (
        ['--data.label_names=["ham", "spam", "eggs"]'],
        r"label_names: eggs: no training row of .*texts\.csv has it\. Labels found: ham, spam",
    ),
    "a larger vocabulary": (
        ["--data.tokenizer={project}/larger"],
        r"has 305 tokens, the embedding of the encoder .* only 160 rows",
    ),
    "another problem": (
        ["--model.problem=multi_label"],
        r"data\.init_args\.problem is 'single_label', model",
    ),
    "an expression that matches no block": (
        staged(2, train=r"block\..*"),
        r"stages, stage 0: 'block.*' matches no block; the blocks are embed",
    ),
    "stages that go backwards": (staged(2, 1), "stages overlap or go backwards"),
    "stage lengths that clash": (
        callback(STAGED, stage_steps=1, plateau="val/loss"),
        "stage_steps and plateau clash",
    ),
    "too few costs": (callback(COSTS, weights="costs", costs={"ham": 1.0}), r"missing \['spam'\]"),
    "a negative cost": (
        callback(COSTS, weights="costs", costs={"ham": 1.0, "spam": -1.0}),
        "numbers of 0 or more",
    ),
    "two that unfreeze": (
        [*callback(STAGED), *callback("bertlab.callbacks.auto_freeze.AutoFreeze")],
        "AutoFreeze and StagedUnfreezing both claim|StagedUnfreezing and AutoFreeze both claim",
    ),
    "a rate below zero": (
        ["--model.optimizer.lr=-1"],
        r"model\.init_args\.optimizer: RowAdamW\.lr takes a number of 0 or more",
    ),
    "no rows in a batch": (["--data.batch_size=0"], "batch_size: 0 is not a positive number"),
    "no micro-batches": (
        ["--trainer.accumulate_grad_batches=0"],
        r"trainer\.accumulate_grad_batches takes 1 or more, got 0",
    ),
    "an epoch that ends inside an optimizer step": (
        ["--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=3"],
        r"trainer\.limit_train_batches: 3 takes 3 of the 4 .*trainer\.accumulate_grad_batches 2: .* such as 4",
    ),
    "a validation inside an optimizer step": (
        ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=3"],
        r"trainer\.val_check_interval: 3 .*trainer\.accumulate_grad_batches 2: .* such as 4",
    ),
    "checkpoints in parts": (
        ['--trainer.strategy={"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}'],
        r"trainer\.strategy\.init_args\.save_distributed_checkpoint: true .* Accepted: false",
    ),
    "no tokens in a text": (
        ["--data.max_length=2"],
        "max_length: 2 is not accepted: this tokenizer takes 3 to 512",
    ),
    "a training without steps": (
        ["--trainer.max_steps=0"],
        r"training needs an end: set trainer\.max_epochs",
    ),
    "sharding that flattens": (
        ["--trainer.strategy=fsdp", *callback(STAGED)],
        r"trainer\.strategy: fsdp \(FSDP1\) takes GPUs, and trainer\.accelerator is cpu.* on a CPU: auto, ddp, or "
        r".*configs/hardware/fsdp\.yaml",
    ),
}


def assert_refused(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command ends with one message, and leaves nothing in the folder that it runs in but what was there."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code in (1, 2)
    output = capsys.readouterr().err
    assert re.search(f"bertlab: error: .*{message}", output, re.DOTALL), output
    # The cache may have what is whole: texts that were tokenised before something else was found to be wrong.
    left = [path for path in Path().rglob("*") if path not in before and path.is_file()]
    assert not [path for path in left if path.parts[0] != "cache" or ".part" in str(path)], left
    assert not list(Path().glob("runs/*")), "a run that has not begun has no directory, nor has its name"


@pytest.mark.parametrize("fault", [*FILES, *LINES])
def test_texts(fault: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = (FILES | LINES)[fault]
    file = in_tmp / ("my.csv" if fault in FILES else "my.jsonl")
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    command = ["fit", "--config", str(project / "run.yaml"), f"--data.source={file.name}"]
    assert_refused(command, message, capsys)
    assert not list(in_tmp.glob("cache/tokens/*")), "nothing was tokenised"


def test_a_class_of_which_no_training_row_is_left(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its only text is one of the validation split too."""
    (in_tmp / "train.csv").write_text(texts_with(lambda i, label: "eggs" if i == 7 else label, text="win"))
    (in_tmp / "validation.csv").write_text("text,label\nwin,eggs\nlunch,ham\n")
    files = json.dumps({"train": "train.csv", "validation": "validation.csv"})
    flags = [
        "--data.source=null",
        f"--data.files={files}",
        "--data.deduplicate=true",
        "--data.test_fraction=0",
    ]
    message = r"train\.csv: no training row is left of the classes eggs"
    assert_refused(["fit", "--config", str(project / "run.yaml"), *flags], message, capsys)


@pytest.mark.parametrize("fault", FLAGS)
def test_flags(fault: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags, message = FLAGS[fault]
    flags = [flag.replace("{project}", str(project)) for flag in flags]
    assert_refused(["fit", "--config", str(project / "run.yaml"), *flags], message, capsys)


def test_texts_of_which_none_are_to_test(
    project: Path, in_tmp: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """No fault: the fit ends without a test."""
    flags = ["--data.validation_fraction=0", "--data.test_fraction=0"]
    main(["fit", "--config", str(project / "run.yaml"), *flags])
    run = in_tmp / "runs/run/0"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not (run / "results.json").exists()
