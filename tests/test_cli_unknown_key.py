"""A key that a class has not is answered by those that it has, before what jsonargparse says of it."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from bertlab import cli_unknown_key
from bertlab.cli import main
from bertlab.cli_unknown_key import unknown_key
from tests.system.tiny_project import write_project

CALLBACKS = "--trainer.callbacks+=bertlab.callbacks"
STAGES = """
trainer:
  callbacks+:
    - class_path: bertlab.callbacks.staged_unfreezing.StagedUnfreezing
      init_args: {stages: [{train: [head], fraction: 0.1}, {train: [all]}]}
"""
OWN = """
from bertlab.callbacks.strategy import Run, Strategy

class Own(Strategy):
    def __init__(self, decay: float = 0.9) -> None: ...

    def apply(self, run: Run) -> None: ...
"""


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(cli_unknown_key)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([f"{CALLBACKS}.mixout.Mixout", "--trainer.callbacks.pp", "0.5"], "Mixout .* \\(perhaps 'p'\\). Accepted: p$"),
        (["--model.optimizer.rate", "3"], "RowAdamW has no key 'rate'. Accepted: lr, betas, eps, weight_decay"),
        (["--data.batchsize", "3"], "TextClassificationData .* 'batchsize' \\(perhaps 'batch_size'\\). Accepted: tok"),
        (["--model.head.foo", "1"], "SequenceClassification has no key 'head.foo'. Accepted: encoder,"),
        (["--config", "stages.yaml"], "Stage .* 'fraction' \\(perhaps 'until_fraction'\\). Accepted: train, until_s"),
        (["--trainer.callbacks+=own.Own", "--trainer.callbacks.decai", "1"], "Own .* 'decai' \\(perhaps 'decay'\\). A"),
    ],
)  # fmt: skip
def test_the_first_line_says_what_is_accepted(
    words: list[str],
    line: str,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_project(in_tmp, callbacks=[])
    (in_tmp / "stages.yaml").write_text(STAGES, encoding="utf-8")
    (in_tmp / "own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(in_tmp)
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(config), *words])
    assert end.value.code == 2
    first = next(row for row in capsys.readouterr().err.splitlines() if "bertlab: error" in row)
    assert re.search(f"bertlab: error: {line}", first)
    assert not (in_tmp / "runs").exists()


@pytest.mark.parametrize(
    "message",
    [
        "Problem with given class_path 'gone.Away': Option 'p' is not accepted",
        "Problem with given class_path 'torch.nn.Dropout': Option 'p' is not accepted",  # it is one: not the fault
        "Option 'p' is not accepted",
        "Expected a <class 'float'>. Got value: nan",
    ],
)
def test_of_what_is_not_known_nothing_is_said(message: str) -> None:
    assert unknown_key(message) == ""
