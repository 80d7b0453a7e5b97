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

EARLY_STOPPING = "lightning.pytorch.callbacks.EarlyStopping"
RESTARTS = "bertlab.callbacks.lr_restarts.LrRestarts"
TASKS = "bertlab.tasks"
DATA = "bertlab.data"


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
    BertForPreTraining(BertConfig(vocab_size=65, max_position_embeddings=64, **sizes)).save_pretrained(
        folder / "pretrained"
    )
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


def staged(**init_args: Any) -> list[str]:
    return callback(STAGED, **init_args)


def by_hand(metric: str) -> list[dict[str, Any]]:
    return [{"train": ["head"], "until_step": 1}, {"train": ["layer.1", "head"], "until_plateau": metric}]


def schedule(**init_args: Any) -> str:
    value = {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": init_args}
    return f"--model.schedule={json.dumps(value)}"


def monitor(metric: str, mode: str = "max") -> list[str]:
    return [f"--checkpoints.monitor={metric}", f"--checkpoints.mode={mode}"]


#: The run, its flags, and what is said of them.
METRICS: dict[str, tuple[str, list[str], str]] = {
    "checkpoints": (
        "run",
        monitor("val/f1_macro"),
        r"checkpoints\.monitor is 'val/f1_macro', which validation does not log \(did you mean 'val/macro_f1'\?\): "
        r"it logs val/accuracy, val/calibration_error, val/loss, val/macro_f1, .*, val/positive_recall\n",
    ),
    "unfreezing on a plateau": (
        "run",
        staged(plateau="val_loss"),
        r"trainer\.callbacks: StagedUnfreezing waits for 'val_loss', which .*'val/loss'",
    ),
    "a stage by hand": (
        "run",
        staged(stages=[*by_hand("val/f2"), {"train": ["all"]}]),
        r"trainer\.callbacks: StagedUnfreezing waits for 'val/f2'",
    ),
    "the best weights of a stage": (
        "run",
        staged(restore_best="test/loss"),
        "StagedUnfreezing waits for 'test/loss'",
    ),
    "restarts": (
        "run",
        callback(RESTARTS, at="plateau", plateau="val/los", cycle_steps=2),
        "LrRestarts waits for 'val/los'",
    ),
    "early stopping": (
        "run",
        callback(EARLY_STOPPING, monitor="val_loss"),
        r"trainer\.callbacks: EarlyStopping\.monitor is 'val_loss', which",
    ),
    "a schedule": (
        "run",
        [schedule(monitor="val/lost")],
        r"model\.init_args\.schedule: ReduceLROnPlateau\.monitor is 'val/lost', which",
    ),
    "beside a strategy of one's own, which cannot log": (
        "run",
        [*callback("own_strategies.Sharpened"), *monitor("val/f1_macro")],
        r"checkpoints\.monitor is 'val/f1_macro'",
    ),
    "a task of one's own that names what it logs": (
        "run",
        ["--model=own_metrics.NamesMine", "--model.encoder={model}", *monitor("val/nine")],
        r"checkpoints\.monitor is 'val/nine', .*did you mean 'val/mine'",
    ),
    "words": ("words/run", monitor("val/f1_offers"), r"did you mean 'val/f1_offer'\?.*val/strict_recall\n"),
    "several tasks": (
        "mixture",
        monitor("val/text/macro_f1"),
        r"did you mean 'val/texts/macro_f1'\?\): it logs val/loss, val/mean_score, val/texts/accuracy, .*val/words/f1",
    ),
    "pretraining": (
        "pretraining",
        monitor("val/perplexity", "min"),
        r"it logs val/loss, val/masked_accuracy, .*val/sentence_loss, val/word_perplexity\n",
    ),
}


def flags_in(project: Path, flags: list[str]) -> list[str]:
    encoder = {
        "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
        "init_args": {"source": str(project / "model")},
    }
    return [flag.replace("{model}", json.dumps(encoder)) for flag in flags]


@pytest.mark.parametrize("fault", METRICS)
def test_metrics_that_will_not_come(
    fault: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags, message = METRICS[fault]
    assert_refused(["fit", "--config", f"{project}/{run}.yaml", *flags_in(project, flags)], message, capsys)


@pytest.mark.parametrize(
    "flags",
    [
        [*callback("own_metrics.LogsMine"), *monitor("val/mine")],
        ["--model=own_metrics.TaskOfMine", "--model.encoder={model}", *monitor("val/mine")],
        ["--model=own_metrics.NamesMine", "--model.encoder={model}", *monitor("val/mine")],
        [*callback(EARLY_STOPPING, monitor="train/loss"), *monitor("val/mcc")],
        [
            *callback(EARLY_STOPPING, monitor="val/none", strict=False),
            schedule(monitor="val/accuracy"),
            *staged(plateau="val/positive_f1", mode="max", restore_best="val/loss"),
        ],
    ],
    ids=["a callback's", "a task's", "a named one", "of training", "of the task"],
)
def test_metrics_that_come(flags: list[str], project: Path, in_tmp: Path) -> None:
    common = ["--config", f"{project}/run.yaml", "--run.test_after_fit=false"]
    main(["fit", *common, *flags_in(project, flags)])
    assert (in_tmp / "runs/run/0/checkpoints/best.ckpt").exists()


def test_nothing_is_asked_of_a_validation_that_there_is_not(project: Path, in_tmp: Path) -> None:
    common = ["--config", f"{project}/run.yaml", "--run.test_after_fit=false"]
    main(["fit", *common, *monitor("val/f1_macro"), "--trainer.limit_val_batches=0"])
    assert [path.name for path in (in_tmp / "runs/run/0/checkpoints").iterdir()] == ["last.ckpt"]


def test_a_metric_that_somebody_else_might_have_logged(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not known before: it is said after the first validation, with what was logged."""
    flags = [*callback("own_metrics.LogsMine"), *monitor("val/nine")]
    with pytest.raises(SystemExit):
        main(["fit", "--config", f"{project}/run.yaml", *flags])
    message = r"checkpoints.monitor is 'val/nine', which the validation did not log; it logged val/accuracy"
    assert message in capsys.readouterr().err


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


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_texts_that_are_longer_than_the_encoder_takes(
    split: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that the test after the fit would meet."""
    flags = write_splits(split)
    assert_refused(["fit", "--config", f"{project}/run.yaml", *flags], TOO_LONG, capsys)
    if split == "test":
        main(["fit", "--config", f"{project}/run.yaml", *flags, "--data.max_length=64"])
        assert (in_tmp / "runs/run/0/results.json").exists()


@pytest.fixture(scope="module")
def trained(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.ckpt of a run somewhere else."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTLAB_CACHE", str(root / "cache"))
        main(["fit", "--config", f"{project}/run.yaml", f"--run.root={root}", "--run.test_after_fit=false"])
    return root / "run/0/checkpoints/best.ckpt"


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_texts_that_are_longer_than_a_trained_model_takes(
    verb: str, project: Path, trained: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(trained, in_tmp / "mine.ckpt")
    common = [verb, "--config", f"{project}/run.yaml", "--ckpt_path=mine.ckpt"]
    flags = write_splits({"validate": "validation", "test": "test", "predict": "test"}[verb])
    if verb == "predict":
        flags = ["--data.predict_source=test.csv"]
    assert_refused([*common, *flags], TOO_LONG, capsys)
    # What the verb does not look at may be as long as it likes.
    main([*common, *write_splits("train")])


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        (
            "words/run",
            ["--data.source={project}/long.conll", "--data.max_length=80"],
            r"data\.init_args\.max_length is 80, and the data has a row of 80 tokens; .* takes 64",
        ),
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
        (
            "pretraining",
            ["--data.validation_length=65"],
            r"data\.init_args\.validation_length: a length of 65 tokens is more than the 64 positions",
        ),
    ],
    ids=["words", "several tasks", "pretraining", "validation of pretraining"],
)
def test_other_data_that_is_longer_than_the_encoder_takes(
    run: str, flags: list[str], message: str, project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag.replace("{project}", str(project)) for flag in flags]
    assert_refused(["fit", "--config", f"{project}/{run}.yaml", *flags], message, capsys)


@pytest.mark.parametrize(
    ("verb", "run", "task"),
    [
        ("validate", "run", "SequenceClassification"),
        ("test", "words/run", "TokenClassification"),
        ("predict", "mixture", "MultiTask"),
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


def test_training_does_not_begin_from_nothing(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For other verbs the word is the name of a file."""
    assert_refused(["fit", "--config", f"{project}/run.yaml", "--ckpt_path=untrained"], "untrained", capsys)


def test_a_masked_language_model_with_its_own_head_is_validated(project: Path, in_tmp: Path) -> None:
    """As it was downloaded: with a head made anew its loss would change with the seed."""
    losses: list[float] = []
    for seed in (1, 2):
        with pytest.warns(UserWarning, match="bertlab validate without --ckpt_path: the weights are those"):
            main(["validate", "--config", f"{project}/pretraining.yaml", f"--seed_everything={seed}"])
        kept = in_tmp / "runs/pretraining" / str(len(losses)) / "results.json"
        losses.append(json.loads(kept.read_text())["val"]["loss"])
    assert losses[0] == losses[1] > 0
