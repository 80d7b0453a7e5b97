"""Every file under configs/ runs or is read, so that none can rot."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from bertlab.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
FINETUNE = sorted(CONFIGS.glob("finetune/**/*.yaml"))
PRETRAIN = sorted(CONFIGS.glob("pretrain/**/*.yaml"))
CORPUS = sorted(CONFIGS.glob("corpus/*.yaml"))
EXECUTORS = sorted(CONFIGS.glob("corpus/executors/*.yaml"))  # tests/corpus runs them
FRAGMENTS = {
    "callbacks": "--trainer.callbacks+=",
    "data": "--data=",
    "encoders": "--model.encoder=",
    "losses": "--model.loss=",
    "optimizers": "--model.optimizer=",
    "schedules": "--model.schedule=",
}
HARDWARE = sorted(CONFIGS.glob("hardware/**/*.yaml"))
STRATEGIES = sorted(CONFIGS.glob("callbacks/**/*.yaml"))
SMS = CONFIGS / "finetune" / "sms_spam.yaml"
QUIET = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--wandb.mode=disabled",
]


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as end:
        main(["fit", *flags, "--print_config"])
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    return yaml.safe_load(captured.out)


@pytest.mark.parametrize("path", FINETUNE, ids=name_of)
def test_runs_two_steps(
    path: Path, tiny_bert: str, text_folder: str, word_folder: str, in_tmp: Path, hub: None
) -> None:
    flags = ["--config", str(path), "--model.encoder.source", tiny_bert]
    data = yaml.safe_load(path.read_text())["data"]
    several = data["init_args"].get("tasks", {}) if isinstance(data, dict) else {}
    tasks = {f"data.tasks.{name}": file for name, file in several.items()}
    for key, part in (tasks or {"data": data}).items():
        of_file = part if isinstance(part, dict) else yaml.safe_load((path.parent / part).read_text())
        if str(of_file["init_args"]["source"]).startswith("packaged:"):
            of_words = of_file["class_path"].endswith("TokenClassificationData")
            flags += [f"--{key}.source", word_folder if of_words else text_folder]
    main(
        [
            "fit",
            *flags,
            *QUIET,
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=2",
        ]
    )
    run = in_tmp / "runs" / path.stem / "0"
    assert (run / "checkpoints" / "best.ckpt").exists()
    results = json.loads((run / "results.json").read_text())["test"]
    monitored = yaml.safe_load((run / "config.yaml").read_text())["checkpoints"]["monitor"]
    if monitored:
        assert monitored.removeprefix("val/") in results
    main(["predict", *flags, *QUIET, "--trainer.accelerator=cpu", "--ckpt_path", "best"])
    for folder in several or ["."]:
        assert pq.read_table(run / "predictions" / folder / "test.parquet").num_rows >= 20


def test_micro_batches_are_counted_in_whole_steps() -> None:
    """Training refuses a validation, or the end of an epoch, inside an optimizer step; see the numbers as they are."""
    counts = 0
    for path in CONFIGS.rglob("*.yaml"):
        trainer = (yaml.safe_load(path.read_text()) or {}).get("trainer", {})
        for key in {"val_check_interval", "limit_train_batches"} & trainer.keys():
            assert isinstance(trainer[key], int)
            assert trainer[key] % trainer.get("accumulate_grad_batches", 1) == 0, path
            counts += 1
    assert counts == 4


@pytest.mark.parametrize("path", [*FINETUNE, *PRETRAIN], ids=name_of)
def test_is_short_and_says_what_it_does(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("# ")


#: Devlin et al. 2019, table 1, the row BERT-base: what each file of GLUE says of itself.
PUBLISHED = {
    "cola": 52.1, "sst2": 93.5, "mrpc": 88.9, "stsb": 85.8, "qqp": 71.2, "mnli": 84.6, "qnli": 90.5, "rte": 66.4,
}  # fmt: skip


@pytest.mark.parametrize("task", PUBLISHED)
def test_glue_says_what_is_published(task: str) -> None:
    lines = (CONFIGS / "finetune" / f"glue_{task}.yaml").read_text().splitlines()
    comment = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    assert f"Published for BERT-base: {PUBLISHED[task]} " in comment
    assert "arXiv:1810.04805, table 1" in comment
    assert len(list(CONFIGS.glob("finetune/glue_*.yaml"))) == len(PUBLISHED)


@pytest.mark.parametrize(
    "path", sorted(p for d in FRAGMENTS for p in CONFIGS.glob(f"{d}/**/*.yaml")), ids=name_of
)
def test_fragment_is_read_and_printed_the_same_again(
    path: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = FRAGMENTS[path.relative_to(CONFIGS).parts[0]]
    once = printed(capsys, "--config", str(SMS), "--trainer.callbacks=[]", f"{flag}{path}")
    wanted = yaml.safe_load(path.read_text())
    assert wanted["class_path"] in yaml.safe_dump(once)
    (in_tmp / "printed.yaml").write_text(yaml.safe_dump(once))
    assert printed(capsys, "--config", "printed.yaml") == once


@pytest.mark.parametrize(
    "path",
    [*STRATEGIES, *(path for kind in ("losses", "schedules") for path in CONFIGS.glob(f"{kind}/**/*.yaml"))],
    ids=name_of,
)
def test_fragment_trains_a_bert(
    path: Path,
    on_its_data: Callable[[Path], list[str]],
    tiny_bert: str,
    text_folder: str,
    in_tmp: Path,
) -> None:
    if path in STRATEGIES:
        flags = on_its_data(path)
    else:
        flags = ["--config", str(SMS), "--trainer.callbacks=[]", f"{FRAGMENTS[path.parent.name]}{path}"]
        flags += [
            "--data.source",
            text_folder,
            "--model.encoder.source",
            tiny_bert,
            "--trainer.accelerator=cpu",
        ]
    main(["fit", *flags, *QUIET, "--trainer.max_steps=4", "--trainer.log_every_n_steps=1"])
    (run,) = in_tmp.glob("runs/*/0")
    with (run / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 4
    assert all(loss > 0 for loss in losses)
    name = yaml.safe_load(path.read_text())["class_path"].rpartition(".")[2]
    if path in STRATEGIES:
        events = (run / "timeline.jsonl").read_text().splitlines()
        assert name in {json.loads(event)["strategy"] for event in events}
    else:
        assert name in (run / "config.yaml").read_text()


@pytest.mark.parametrize("base", [SMS, CONFIGS / "pretrain" / "bert_base_wikipedia.yaml"], ids=name_of)
@pytest.mark.parametrize("path", HARDWARE, ids=name_of)
def test_hardware_overlay_is_read(path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = printed(capsys, "--config", str(base), "--config", str(path))
    for key, value in yaml.safe_load(path.read_text())["trainer"].items():
        if not isinstance(value, dict):
            assert config["trainer"][key] == value
    assert len(config["trainer"]["callbacks"] or []) == (3 if base == SMS else 0)


def test_sharding_overlays_count_all_devices_of_all_machines() -> None:
    found = {path.stem: yaml.safe_load(path.read_text())["trainer"] for path in HARDWARE}
    sharded = {name: trainer for name, trainer in found.items() if isinstance(trainer.get("strategy"), dict)}
    assert sorted(sharded) == ["fsdp", "multi_node_fsdp"]
    for trainer in sharded.values():
        assert trainer["strategy"]["class_path"].endswith("ModelParallelStrategy")
        assert trainer["strategy"]["init_args"] == {
            "data_parallel_size": trainer["devices"] * trainer.get("num_nodes", 1),
            "tensor_parallel_size": 1,
            "save_distributed_checkpoint": False,
        }


@pytest.mark.parametrize("overlay", ["cpu", "cpu_bf16"])
def test_cpu_overlay_runs(overlay: str, tiny_bert: str, text_folder: str, in_tmp: Path) -> None:
    flags = [
        "--config",
        str(SMS),
        "--config",
        str(CONFIGS / "hardware" / f"{overlay}.yaml"),
        "--data.source",
        text_folder,
    ]
    main(["fit", *flags, *QUIET, "--model.encoder.source", tiny_bert, "--trainer.max_epochs=1"])
    assert (in_tmp / "runs" / "sms_spam" / "0" / "results.json").exists()


@pytest.mark.parametrize("path", CORPUS, ids=name_of)
def test_corpus_is_built(path: Path, tiny_bert: str, prose: Path) -> None:
    flags = ["--vocabulary.source", tiny_bert] if "GivenVocabulary" in path.read_text() else []
    main(["corpus", "--config", str(path), *flags, "--executor.workers", "1", "--show_progress", "false"])
    summary = json.loads((prose / "corpora" / path.stem / "summary.json").read_text())
    documents = {
        "packaged:news": 4, "packaged:papers": 3, "my_texts,": 4, "my_task/train.csv,": 4, "wikimedia/wikipedia": 3,
    }  # fmt: skip
    read = sum(number for name, number in documents.items() if name in path.read_text())
    assert summary["read"]["documents"] == read
    assert summary["duplicates"].get("exact", 0) == (0 if path.stem == "wikipedia" else 1)
    assert (
        summary["documents"] + sum(summary["duplicates"].values()) + sum(summary["rejected"].values()) == read
    )
    assert summary["sentences"] == (15 if path.stem == "wikipedia" else 3) * summary["documents"]


@pytest.mark.parametrize("path", EXECUTORS, ids=name_of)
def test_executor_of_a_corpus_is_read(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--config", str(CORPUS[0]), "--config", str(path), "--print_config"]
    with pytest.raises(SystemExit):
        main(["corpus", *flags])
    executor, wanted = (
        yaml.safe_load(text)["executor"] for text in (capsys.readouterr().out, path.read_text())
    )
    assert executor["class_path"] == wanted["class_path"]
    assert executor["init_args"] == {**executor["init_args"], **wanted["init_args"]}


@pytest.mark.parametrize("path", [*CORPUS, *EXECUTORS], ids=name_of)
def test_corpus_is_short_and_says_what_it_does(path: Path) -> None:
    test_is_short_and_says_what_it_does(path)


def test_every_file_is_covered_here() -> None:
    known = {"finetune", "pretrain", "hardware", "corpus", *FRAGMENTS}
    for path in CONFIGS.rglob("*.yaml"):
        assert path.relative_to(CONFIGS).parts[0] in known, f"{path}: no test reads it"
