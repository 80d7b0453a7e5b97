"""What a user gets wrong, at the command line: one message that says what to change, and nothing is left behind."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bertlab.cli import main
from tests.doubles.evil import Evil
from tests.system.tiny_project import write_project, write_texts
from tests.tokenizers import write_tokenizer

STAGED = "bertlab.callbacks.staged_unfreezing.StagedUnfreezing"
COSTS = "bertlab.callbacks.cost_weighted_loss.CostWeightedLoss"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.yaml, a tiny model and forty texts; nothing is written into it."""
    folder = tmp_path_factory.mktemp("project")
    config = yaml.safe_load(write_project(folder, callbacks=[], max_epochs=1).read_text())
    write_texts(folder / "texts.csv", 40)
    write_tokenizer(folder / "larger", [f"word{i}" for i in range(300)])
    config["wandb"]["mode"] = "offline"
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
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
        r"trainer: The strategy `fsdp` requires a GPU accelerator",
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
    assert not list(Path().glob("runs/*/*")), "a run that has not begun has no directory"


@pytest.mark.parametrize("fault", FILES)
def test_texts(fault: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = FILES[fault]
    (in_tmp / "my.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    assert_refused(["fit", "--config", str(project / "run.yaml"), "--data.source=my.csv"], message, capsys)
    assert not list(in_tmp.glob("cache/tokens/*")), "nothing was tokenised"


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


@pytest.fixture(scope="module")
def trained(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.ckpt of a run somewhere else."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTLAB_CACHE", str(root / "cache"))
        main(
            ["fit", "--config", str(project / "run.yaml"), f"--run.root={root}", "--run.test_after_fit=false"]
        )
    return root / "run/0/checkpoints/best.ckpt"


def with_evil(content: bytes) -> bytes:
    found = torch.load(io.BytesIO(content), weights_only=True)
    return saved(found | {"evil": Evil(Path("executed"))})


def of_words(content: bytes) -> bytes:
    return saved(torch.load(io.BytesIO(content), weights_only=True) | {"bertlab_task": "TokenClassification"})


def saved(checkpoint: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


MALICIOUS = (with_evil, r"mine\.ckpt holds more than tensors and plain values.*: refused")
TRUNCATED = (lambda content: content[: len(content) // 2], r"mine\.ckpt is truncated")
OF_WORDS = (
    of_words,
    "the checkpoint is of the task TokenClassification, the model is SequenceClassification",
)


@pytest.mark.parametrize(
    ("verb", "spoil", "message"),
    [
        ("fit", *MALICIOUS),
        ("test", *MALICIOUS),
        ("predict", *MALICIOUS),
        ("fit", *TRUNCATED),
        ("test", *OF_WORDS),
        ("fit", *OF_WORDS),
    ],
)
def test_checkpoints(
    verb: str,
    spoil: Callable[[bytes], bytes],
    message: str,
    project: Path,
    trained: Path,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (in_tmp / "mine.ckpt").write_bytes(spoil(trained.read_bytes()))
    assert_refused([verb, "--config", str(project / "run.yaml"), "--ckpt_path=mine.ckpt"], message, capsys)
    assert not (in_tmp / "executed").exists()


@pytest.mark.parametrize(
    ("verb", "flag", "content", "message"),
    [
        (
            "test",
            "--data.source=my.csv",
            texts_with(lambda i, label: "eggs" if i == 7 else label),
            r"my\.csv: unknown label 'eggs' in row 8\. Accepted labels: ham, spam",
        ),
        (
            "predict",
            "--data.predict_source=my.csv",
            "sentence,text_of_it\nx,y\n",
            r"my\.csv: no column 'text' \(text_column: text\).*found are: sentence, text_of_it",
        ),
        (
            "predict",
            "--data.predict_source=my.csv",
            "text,n\nx,1\n,2\n",
            r"my\.csv: column 'text' has no text in row 2",
        ),
    ],
    ids=["a label that training did not know", "predict other columns", "predict an empty text"],
)
def test_texts_that_do_not_go_with_a_trained_model(
    verb: str,
    flag: str,
    content: str,
    message: str,
    project: Path,
    trained: Path,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (in_tmp / "my.csv").write_text(content)
    shutil.copy(trained, in_tmp / "mine.ckpt")
    assert_refused(
        [verb, "--config", str(project / "run.yaml"), "--ckpt_path=mine.ckpt", flag], message, capsys
    )
