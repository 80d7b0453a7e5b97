"""Another class in the place of one: what was written for that stays, its own defaults do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import _typehints

from bertlab.cli import main
from bertlab.cli_class_change import FUNCTION, without_old_defaults

TASK = "bertlab.tasks.sequence_classification.SequenceClassification"
PRETRAINING = "bertlab.tasks.pretraining.Pretraining"
ADAMW, ROW_ADAMW = "torch.optim.AdamW", "bertlab.optimizers.row_adamw.RowAdamW"
LAMB = "bertlab.optimizers.lamb.Lamb"
ONE_CYCLE, CONSTANT = "bertlab.schedules.one_cycle.OneCycle", "bertlab.schedules.constant.Constant"


def spec(class_path: str, /, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def of_model(**init_args: Any) -> dict[str, Any]:
    return {"model": {"init_args": init_args}}


def callbacks(*specs: dict[str, Any]) -> dict[str, Any]:
    return {"trainer": {"callbacks": list(specs)}}


def printed(capsys: pytest.CaptureFixture[str], files: list[dict[str, Any]], *flags: str) -> dict[str, Any]:
    """The whole configuration that files, one after another, and flags make."""
    base = {
        "model": spec(TASK, encoder=spec("own_classes.Module")),
        "data": {"class_path": "small.SmallData"},
    }
    for number, content in enumerate([base, *files]):
        Path(f"{number}.yaml").write_text(yaml.safe_dump(content))
    given = [f"--config={number}.yaml" for number in range(len(files) + 1)]
    with pytest.raises(SystemExit) as end:
        main(["fit", *given, *flags, "--print_config"])
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    return yaml.safe_load(captured.out)


def at(config: Any, *keys: str | int) -> Any:
    for key in keys:
        config = config[key]
    return config


OPTIMIZER, SCHEDULE = ("model", "init_args", "optimizer"), ("model", "init_args", "schedule")
ENCODER, LOSS = ("model", "init_args", "encoder"), ("model", "init_args", "loss")
FIRST = ("trainer", "callbacks", 0)
#: Files and flags; where to look; the class there, and some of its arguments.
CHANGES: dict[str, tuple[list[dict[str, Any]], list[str], tuple[str | int, ...], dict[str, Any]]] = {
    "the task's own optimizer": (
        [],
        ["--model.optimizer=SGD"],
        OPTIMIZER,
        spec("torch.optim.SGD", lr=5e-5, weight_decay=0.0),
    ),
    "an optimizer by a second file": (
        [of_model(optimizer=spec(ADAMW, lr=3e-5, weight_decay=0.05)), of_model(optimizer=spec(LAMB))],
        [],
        OPTIMIZER,
        spec(LAMB, lr=3e-5, weight_decay=0.05, eps=1e-6),
    ),
    "an optimizer whose defaults were all written, by a flag": (
        [of_model(optimizer=spec(ADAMW, lr=1e-3, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.01))],
        [f"--model.optimizer={LAMB}", "--model.optimizer.lr=2e-4"],
        OPTIMIZER,
        spec(LAMB, lr=2e-4, betas=[0.9, 0.999], eps=1e-6),
    ),
    "what is written again": (
        [of_model(optimizer=spec(ADAMW, weight_decay=0.01))],
        ["--model.optimizer=SGD", "--model.optimizer.weight_decay=0.01"],
        OPTIMIZER,
        spec("torch.optim.SGD", weight_decay=0.01),
    ),
    "a schedule": (
        [of_model(schedule=spec(ONE_CYCLE, warmup_fraction=0.3))],
        [f"--model.schedule={CONSTANT}"],
        SCHEDULE,
        spec(CONSTANT, warmup_fraction=0.1),  # the task names it for its own: Linear(warmup_fraction=0.1)
    ),
    "a schedule of which something was written": (
        [of_model(schedule=spec(ONE_CYCLE, warmup_fraction=0.2)), of_model(schedule=spec(CONSTANT))],
        [],
        SCHEDULE,
        spec(CONSTANT, warmup_fraction=0.2),
    ),
    "an encoder": (
        [of_model(encoder=spec("own_classes.Module", rate=0.1, width=4))],
        ["--model.encoder=own_classes.OtherModule"],
        ENCODER,
        spec("own_classes.OtherModule", rate=0.2, width=4),
    ),
    "a loss": (
        [of_model(loss=spec("own_classes.Module", rate=0.3, width=8))],
        ["--model.loss=own_classes.OtherModule"],
        LOSS,
        spec("own_classes.OtherModule", rate=0.3, width=16),
    ),
    "a task, its own optimizer with it": (
        [of_model(optimizer=spec(ROW_ADAMW, lr=5e-5, eps=1e-8), layer_decay=0.9)],
        [f"--model={PRETRAINING}"],
        ("model",),
        {"class_path": PRETRAINING, "optimizer": ADAMW, "layer_decay": 0.9},
    ),
    "the data": (
        [{"data": spec("small.SmallData", source="here", batch=8)}],
        ["--data=own_classes.LargeBatches"],
        ("data",),
        spec("own_classes.LargeBatches", source="elsewhere", batch=8),
    ),
    "a callback in its place of the list": (
        [
            callbacks(spec("own_classes.Whole", size=11, sizes=[1, 2])),
            callbacks(spec("own_classes.OtherWhole")),
        ],
        [],
        FIRST,
        spec("own_classes.OtherWhole", size=11, sizes=[3, 4]),
    ),
    "the last callback by a flag": (
        [callbacks(spec("own_classes.Whole", size=10, sizes=[5, 6]))],
        ["--trainer.callbacks.class_path=own_classes.OtherWhole"],
        FIRST,
        spec("own_classes.OtherWhole", size=20, sizes=[5, 6]),
    ),
    "a class in another": (
        [callbacks(spec("own_classes.Whole", part=spec("own_classes.Part", size=1, weight=0.7)))],
        ["--trainer.callbacks.part=own_classes.OtherPart"],
        (*FIRST, "init_args", "part"),
        spec("own_classes.OtherPart", size=2, weight=0.7),
    ),
    "a class that goes to another one with its whole": (
        [callbacks(spec("own_classes.Whole", part=spec("own_classes.Part", size=1, weight=0.7)))],
        ["--trainer.callbacks.class_path=own_classes.OtherWhole"],
        (*FIRST, "init_args", "part"),
        spec("own_classes.Part", size=1, weight=0.7),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_written_stays_and_defaults_do_not(
    name: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, flags, place, wanted = CHANGES[name]
    found = at(printed(capsys, files, *flags), *place)
    if place == ("model",):
        arguments = found["init_args"]
        found = {"class_path": found["class_path"], "layer_decay": arguments["layer_decay"]}
        found["optimizer"] = arguments["optimizer"]["class_path"]
        assert found == wanted
        assert arguments["optimizer"]["init_args"]["lr"] == 1e-4, "Pretraining's own"
        return
    assert found["class_path"] == wanted["class_path"]
    assert {key: found["init_args"][key] for key in wanted["init_args"]} == wanted["init_args"]


def test_the_configuration_of_a_run_is_all_defaults(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What config.yaml holds beside what somebody wrote is left behind too."""
    resolved = printed(capsys, [of_model(optimizer=spec(ROW_ADAMW, lr=3e-4))])
    Path("resolved.yaml").write_text(yaml.safe_dump(resolved))
    with pytest.raises(SystemExit):
        main(["fit", "--config=resolved.yaml", "--model.optimizer=SGD", "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["optimizer"]
    assert (found["init_args"]["lr"], found["init_args"]["weight_decay"]) == (3e-4, 0.0)


def test_a_corpus_too(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = spec("bertlab.corpus.vocabulary.TrainedVocabulary", size=30522, lowercase=False)
    documents = [spec("bertlab.corpus.readers.GoogleFormat", path="prose.txt")]
    Path("corpus.yaml").write_text(
        yaml.safe_dump({"name": "mine", "documents": documents, "vocabulary": trained})
    )
    with pytest.raises(SystemExit):
        main(["corpus", "--config=corpus.yaml", "--vocabulary=own_classes.SmallVocabulary", "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["vocabulary"]
    assert found["class_path"] == "own_classes.SmallVocabulary"
    assert (found["init_args"]["size"], found["init_args"]["lowercase"]) == (300, False)


def test_jsonargparse_is_as_it_was_afterwards() -> None:
    before = getattr(_typehints, FUNCTION)
    with without_old_defaults():
        assert getattr(_typehints, FUNCTION) is not before
    assert getattr(_typehints, FUNCTION) is before


def other_parameters(parser: Any, prev_val: Any, value: Any) -> None:
    """Has another first parameter."""


@pytest.mark.parametrize(
    "found", [None, other_parameters, object()], ids=["gone", "other parameters", "no function"]
)
def test_a_jsonargparse_that_is_built_otherwise_is_named(
    found: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_typehints, FUNCTION, found)
    if found is None:
        monkeypatch.delattr(_typehints, FUNCTION)
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert "bertlab: error: jsonargparse 4." in (error := capsys.readouterr().err)
    assert f"has no {FUNCTION}(parser_or_action, prev_val, value)" in error
