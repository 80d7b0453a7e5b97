"""Checkpoints that are refused, and data that does not go with one: a message, and nothing is left behind."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bertlab.cli import main
from tests.doubles.evil import Evil
from tests.system.tiny_project import write_words_project
from tests.test_cli_bad_input import assert_refused, texts_with, write_forty


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.yaml, of texts, and words/run.yaml; nothing is written into it."""
    folder = tmp_path_factory.mktemp("project")
    write_forty(folder)
    write_words_project(folder / "words", callbacks=[], max_epochs=1)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture(scope="module")
def trained(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """best.ckpt of a run somewhere else: of texts, and of words."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTLAB_CACHE", str(root / "cache"))
        for name, config in (("texts", project / "run.yaml"), ("words", project / "words/run.yaml")):
            flags = [f"--run.root={root}", f"--run.name={name}", "--run.test_after_fit=false"]
            main(["fit", "--config", str(config), *flags])
    return {name: root / name / "0/checkpoints/best.ckpt" for name in ("texts", "words")}


def with_evil(content: bytes) -> bytes:
    found = torch.load(io.BytesIO(content), weights_only=True)
    buffer = io.BytesIO()
    torch.save(found | {"evil": Evil(Path("executed"))}, buffer)
    return buffer.getvalue()


#: What is done to which checkpoint, and what is said of it.
FAULTS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "malicious": ("texts", with_evil, r"mine\.ckpt holds more than tensors and plain values.*: refused"),
    "truncated": ("texts", lambda content: content[: len(content) // 2], r"mine\.ckpt is truncated"),
    "of another task": (
        "words",
        lambda content: content,
        "the checkpoint is of the task TokenClassification, the model is SequenceClassification",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_checkpoints(
    verb: str,
    fault: str,
    project: Path,
    trained: dict[str, Path],
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of, spoil, message = FAULTS[fault]
    (in_tmp / "mine.ckpt").write_bytes(spoil(trained[of].read_bytes()))
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
    trained: dict[str, Path],
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (in_tmp / "my.csv").write_text(content)
    shutil.copy(trained["texts"], in_tmp / "mine.ckpt")
    assert_refused(
        [verb, "--config", str(project / "run.yaml"), "--ckpt_path=mine.ckpt", flag], message, capsys
    )
