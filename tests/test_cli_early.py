"""What would go wrong late, with the first validation or in the middle of a training, is said before it begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import BertConfig, BertForPreTraining

from bertlab.cli import main
from tests.corpus.small_corpus import write_store
from tests.system.tiny_project import write_project, write_texts, write_words_project
from tests.test_cli_bad_input import STAGED, assert_refused, callback

TASKS = "bertlab.tasks"
DATA = "bertlab.data"
#: Of the masked language head that is "downloaded", for one piece; of all others it is 0.
BIAS = 50.0


def write_mixture(file: Path, texts: dict[str, Any], words: dict[str, Any]) -> None:
    """Both projects in one."""
    tasks = {
        "texts": "sequence_classification.SequenceClassification",
        "words": "token_classification.TokenClassification",
    }
    encoder = texts["model"]["init_args"]["encoder"]
    parts = {name: {"class_path": f"{TASKS}.{path}"} for name, path in tasks.items()}
    model = {
        "class_path": f"{TASKS}.multi_task.MultiTask",
        "init_args": {"encoder": encoder, "tasks": parts},
    }
    datas = {"texts": texts["data"], "words": words["data"]}
    data = {"class_path": f"{DATA}.multi_task.MultiTaskData", "init_args": {"tasks": datas}}
    file.write_text(yaml.safe_dump(texts | {"model": model, "data": data}))


def write_pretraining(file: Path, trainer: dict[str, Any]) -> None:
    """A whole BERT with its pretraining heads, as one has it from the hub, and a store in its vocabulary."""
    folder = file.parent
    store = write_store(folder / "store", documents=40)
    shutil.copytree(store / "tokenizer", folder / "pretrained")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForPreTraining(BertConfig(vocab_size=65, max_position_embeddings=64, **sizes))
    model.cls.predictions.bias.data[20] = BIAS
    model.save_pretrained(folder / "pretrained")
    encoder = {
        "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
        "init_args": {"source": str(folder / "pretrained")},
    }
    data = {
        "store": str(store),
        "batch_size": 16,
        "phases": [{"length": 48}],
        "validation_fraction": 0.2,
    }
    config = {
        "model": {"class_path": f"{TASKS}.pretraining.Pretraining", "init_args": {"encoder": encoder}},
        "data": {"class_path": f"{DATA}.pretraining.PretrainingData", "init_args": data},
        "trainer": trainer,
        "wandb": {"mode": "disabled"},
    }
    file.write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.yaml, words/run.yaml, mixture.yaml and pretraining.yaml; encoders take 64 tokens."""
    folder = tmp_path_factory.mktemp("project")
    texts = yaml.safe_load(write_project(folder, callbacks=[], max_epochs=1).read_text())
    write_texts(folder / "texts.csv", 40)
    words = yaml.safe_load(write_words_project(folder / "words", callbacks=[], max_epochs=1).read_text())
    sentences = (folder / "words/sentences.conll").read_text()
    long = "\n".join(f"{word}\tO" for word in ["the", "offer", "is", "free"] * 25)
    (folder / "long.conll").write_text(f"{sentences}\n{long}\n")
    write_mixture(folder / "mixture.yaml", texts, words)
    write_pretraining(folder / "pretraining.yaml", texts["trainer"])
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path / "cache"))


def monitor(metric: str, mode: str = "max") -> list[str]:
    return [f"--checkpoints.monitor={metric}", f"--checkpoints.mode={mode}"]


EARLY = "lightning.pytorch.callbacks.EarlyStopping"
#: One of the tasks of the mixture is not validated.
UNVALIDATED = "--data.tasks.words.validation_fraction=0"

#: The run, its flags, and what is said of them; who else can wait for a metric: tests/tracking/test_watched_metrics.py.
METRICS: dict[str, tuple[str, list[str], str]] = {
    "checkpoints": (
        "run",
        monitor("val/f1_macro"),
        r"checkpoints\.monitor is 'val/f1_macro', which validation does not log \(did you mean 'val/macro_f1'\?\): "
        r"it logs val/accuracy, val/calibration_error, val/loss, val/macro_f1, .*, val/positive_recall\n",
    ),
    "checkpoints that say no mode either": (
        "run",
        ["--checkpoints.monitor=val/f1_macro"],
        r"checkpoints\.monitor is 'val/f1_macro', which validation does not log \(did you mean 'val/macro_f1'\?\): "
        r"it logs val/accuracy, val/calibration_error, val/loss, val/macro_f1, .*, val/positive_recall\n",
    ),
    "checkpoints that say no mode": (
        "run",
        ["--checkpoints.monitor=val/accuracy"],
        r"checkpoints\.monitor 'val/accuracy' needs checkpoints\.mode: min or max; 'val/[a-z_0-9]*', which the task is",
    ),
    "checkpoints that say no mode for a metric of one's own": (
        "run",
        [*callback("own_metrics.LogsMine"), "--checkpoints.monitor=val/mine"],
        r"checkpoints\.monitor 'val/mine' needs checkpoints\.mode: min or max; ",
    ),
    "a strategy": (
        "run",
        callback(STAGED, plateau="val_loss"),
        r"trainer\.callbacks: StagedUnfreezing waits for 'val_loss', which .*'val/loss'",
    ),
    "several tasks": (
        "mixture",
        monitor("val/text/macro_f1"),
        r"did you mean 'val/texts/macro_f1'\?\): it logs val/loss, val/mean_score, val/texts/accuracy, .*val/words/f1",
    ),
    "a task that is not validated": (
        "mixture",
        [*monitor("val/words/f1"), UNVALIDATED],
        r"checkpoints\.monitor is 'val/words/f1', and the task 'words' has no validation split "
        r"\(data\.init_args\.tasks\.words\): validation logs val/loss, val/mean_score, val/texts/accuracy, [^w]*\n",
    ),
    "a strategy that waits for such a task": (
        "mixture",
        [*callback(STAGED, plateau="val/words/loss"), UNVALIDATED],
        r"trainer\.callbacks: StagedUnfreezing waits for 'val/words/loss', and the task 'words' has no validation",
    ),
    "early stopping that waits for such a task": (
        "mixture",
        [*callback(EARLY, monitor="val/words/f1"), UNVALIDATED],
        r"trainer\.callbacks: EarlyStopping\.monitor is 'val/words/f1', and the task 'words' has no validation",
    ),
    "a task of several of which none is validated": (
        "mixture",
        [*callback(EARLY, monitor="val/words/f1"), UNVALIDATED, "--data.tasks.texts.validation_fraction=0"],
        r"trainer\.callbacks: EarlyStopping\.monitor is 'val/words/f1', and the task 'words' has no validation",
    ),
    "pretraining": (
        "pretraining",
        monitor("val/perplexity", "min"),
        r"it logs val/loss, val/masked_accuracy, .*val/sentence_loss, val/word_perplexity\n",
    ),
}


@pytest.mark.parametrize("fault", METRICS)
def test_metrics_that_will_not_come(
    fault: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags, message = METRICS[fault]
    assert_refused(["fit", "--config", f"{project}/{run}.yaml", *flags], message, capsys)


#: A schedule that waits.
PLATEAU = ["--model.schedule=lightning.pytorch.cli.ReduceLROnPlateau", "--model.schedule.monitor=val/loss"]
#: Who waits for a validation that never comes; who else can: tests/tracking/test_awaited_validations.py.
VALIDATIONS: dict[str, tuple[list[str], str]] = {
    "checkpoints": (
        [*monitor("val/mcc"), "--trainer.limit_val_batches=0"],
        r"checkpoints\.monitor is 'val/mcc', and nothing is validated in this training: trainer\.limit_val_batches "
        r"is 0\. Change that, or set checkpoints\.monitor to null",
    ),
    "a strategy": (
        [*callback(STAGED, plateau="val/loss"), "--data.validation_fraction=0"],
        r"trainer\.callbacks: StagedUnfreezing waits for 'val/loss', .*: the data has no validation split",
    ),
    "a schedule": (
        [*PLATEAU, "--trainer.limit_val_batches=0"],
        r"schedule: ReduceLROnPlateau\.monitor is 'val/loss', .*: trainer\.limit_val_batches is 0",
    ),
    "a schedule that looks more often": (
        [
            *PLATEAU,
            "--trainer.max_epochs=4",
            "--trainer.val_check_interval=8",
            "--trainer.check_val_every_n_epoch=null",
        ],
        r"schedule: ReduceLROnPlateau looks at 'val/loss' when an epoch of \d micro-batches ends, and validations come "
        r"every 8",
    ),
}


def test_a_strategy_that_is_there_twice(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = callback("bertlab.callbacks.r_drop.RDrop")
    message = r"trainer\.callbacks has RDrop more than once: take one of them out of trainer\.callbacks"
    assert_refused(["fit", "--config", f"{project}/run.yaml", *flags, *flags], message, capsys)


@pytest.mark.parametrize("fault", VALIDATIONS)
def test_validations_that_will_not_come(
    fault: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, message = VALIDATIONS[fault]
    assert_refused(["fit", "--config", f"{project}/run.yaml", *flags], message, capsys)


def test_what_the_other_tasks_log_can_be_waited_for(project: Path, in_tmp: Path) -> None:
    flags = [UNVALIDATED, *monitor("val/texts/macro_f1"), *callback(EARLY, monitor="val/texts/loss")]
    main(["fit", "--config", f"{project}/mixture.yaml", *flags, "--run.test_after_fit=false"])
    assert (in_tmp / "runs/mixture/0/checkpoints/best.ckpt").exists()


def test_a_metric_of_ones_own(project: Path, in_tmp: Path) -> None:
    flags = [*callback("own_metrics.LogsMine"), *monitor("val/mine"), "--run.test_after_fit=false"]
    main(["fit", "--config", f"{project}/run.yaml", *flags])
    kept = torch.load(in_tmp / "runs/run/0/checkpoints/best.ckpt", weights_only=True)
    (score,) = (state["best_score"] for key, state in kept["callbacks"].items() if key == "Checkpoints")
    assert score == 1.0 + kept["global_step"]


def write_splits(long: str) -> list[str]:
    """Three files, of which one has a row of 82 tokens, special ones included; the flags for them."""
    for name, rows in (("train", 24), ("validation", 6), ("test", 6)):
        lines = [f"{name} free{' it' * i},{'spam' if i % 2 else 'ham'}" for i in range(rows)]
        lines += [f"{'money ' * 80},spam"] * (name == long)
        Path(f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    files = {name: f"{name}.csv" for name in ("train", "validation", "test")}
    return ["--data.source=null", f"--data.files={json.dumps(files)}"]


TOO_LONG = (
    r"data\.init_args\.max_length is 128, and the data has a row of 82 tokens; the encoder "
    r"\(model\.init_args\.encoder\) takes 64: set max_length to 64 or less, or"
)


def test_texts_that_are_longer_than_the_encoder_takes(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that the test after the fit would meet."""
    command = ["fit", "--config", f"{project}/run.yaml", *write_splits("test")]
    assert_refused(command, TOO_LONG, capsys)
    main([*command, "--data.max_length=64"])
    assert (in_tmp / "runs/run/0/results.json").exists()


def test_texts_that_are_longer_than_a_trained_model_takes(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--config", f"{project}/run.yaml"]
    main(["fit", *common, *write_splits("none"), "--run.root=trained", "--run.test_after_fit=false"])
    write_splits("test")
    checkpoint = f"--ckpt_path={shutil.copy('trained/run/0/checkpoints/best.ckpt', 'mine.ckpt')}"
    assert_refused(["predict", *common, checkpoint, "--data.predict_source=test.csv"], TOO_LONG, capsys)
    assert_refused(["test", *common, checkpoint, *write_splits("test")], TOO_LONG, capsys)


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        (
            "mixture",
            ["--data.tasks.words.source={project}/long.conll", "--data.tasks.words.max_length=80"],
            r"task 'words' of model\.init_args\.tasks and data\.init_args\.tasks: data\.init_args\.max_length is 80",
        ),
        (
            "pretraining",
            ['--data.phases=[{"length": 128}]'],
            r"data\.init_args\.phases: a length of 128 tokens is more than the 64 positions of the encoder",
        ),
    ],
    ids=["several tasks", "pretraining"],
)
def test_other_data_that_is_longer_than_the_encoder_takes(
    run: str, flags: list[str], message: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag.replace("{project}", str(project)) for flag in flags]
    assert_refused(["fit", "--config", f"{project}/{run}.yaml", *flags], message, capsys)


@pytest.mark.parametrize(
    ("verb", "run", "task"),
    [
        ("test", "run", "SequenceClassification"),
        ("predict", "words/run", "TokenClassification"),
    ],
)
def test_a_head_that_has_learnt_nothing(
    verb: str, run: str, task: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = (
        f"bertlab {verb} without --ckpt_path: the head of {task} is made anew, and has learnt nothing. Give "
        rf"--ckpt_path best or last, of the newest run named {Path(run).name} \(run\.name, run\.version\), or a file; "
        "--ckpt_path untrained takes the model as it is"
    )
    assert_refused([verb, "--config", f"{project}/{run}.yaml"], message, capsys)


def test_an_untrained_model_can_be_asked_for(
    project: Path, in_tmp: Path, recwarn: pytest.WarningsRecorder
) -> None:
    main(["test", "--config", f"{project}/run.yaml", "--ckpt_path=untrained"])
    assert 0 <= json.loads((in_tmp / "runs/run/0/results.json").read_text())["test"]["accuracy"] <= 1
    assert not [warning for warning in recwarn if "ckpt_path" in str(warning.message)]


def test_a_masked_language_model_with_its_own_head_is_validated(project: Path, in_tmp: Path) -> None:
    """As it was downloaded: the bias of its head is for one piece, so that all others cost as much as it is large."""
    with pytest.warns(UserWarning, match="bertlab validate without --ckpt_path: the weights are those"):
        main(["validate", "--config", f"{project}/pretraining.yaml"])
    found = json.loads((in_tmp / "runs/pretraining/0/results.json").read_text())["val"]
    assert 0 < found["masked_accuracy"] < 0.1
    assert found["masked_loss"] == pytest.approx(BIAS * (1 - found["masked_accuracy"]), rel=0.02)
