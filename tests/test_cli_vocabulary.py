"""A token store of another vocabulary, at the command line: its ids are never taken for those of other pieces."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer, BertConfig, BertModel

from bertlab.cli import main
from bertlab.corpus.token_store import TokenStore
from tests.corpus.corpus_text import corpus, document, write_config

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PRETRAINED = "bertlab.encoders.pretrained.PretrainedEncoder"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTLAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def build(folder: Path, name: str, first: int, vocabulary: dict[str, Any] | None = None) -> None:
    """A store of thirty documents, of their own vocabulary of 300 pieces if none is given."""
    documents = ["\n".join(document(number)) for number in range(first, first + 30)]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n")
    changes = {} if vocabulary is None else {"vocabulary": vocabulary}
    corpus(write_config(folder, name=name, **changes))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores `mine` and `other` of 300 different pieces each, `more` that extends mine; a checkpoint of mine."""
    folder = tmp_path_factory.mktemp("vocabularies")
    build(folder, "mine", 0)
    build(folder, "other", 100)
    extended = {
        "class_path": "bertlab.corpus.extended_vocabulary.ExtendedVocabulary",
        "init_args": {"source": str(folder / "mine/tokenizer"), "number": 10, "minimum_uses": 2},
    }
    build(folder, "more", 200, extended)
    torch.manual_seed(0)
    # More rows than pieces, as MiniLM has for the vocabularies of most corpora.
    BertModel(BertConfig(vocab_size=320, **TINY)).save_pretrained(folder / "bare")
    shutil.copytree(folder / "bare", folder / "bert")
    # In other files than those of the store, and of another class.
    AutoTokenizer.from_pretrained(folder / "mine/tokenizer").save_pretrained(folder / "bert")
    (folder / "bert/tokenizer.json").unlink()
    shutil.copy(folder / "mine/tokenizer/vocab.txt", folder / "bert")
    config = {
        "model": {
            "class_path": "bertlab.tasks.pretraining.Pretraining",
            "init_args": {
                "objective": "mlm",
                "encoder": {
                    "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
                    "init_args": {"model_type": "bert", "config": {"vocab_size": 300, **TINY}},
                },
            },
        },
        "data": {
            "class_path": "bertlab.data.pretraining.PretrainingData",
            "init_args": {
                "store": str(folder / "mine"),
                "sentence_task": "none",
                "phases": [{"length": 32}],
                "batch_size": 4,
                "validation_fraction": 0.1,
            },
        },
        "trainer": {
            "max_steps": 2,
            "accelerator": "cpu",
            "devices": 1,
            "limit_val_batches": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "run": {"name": "run"},
        "wandb": {"mode": "disabled"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    pretrained = {"class_path": PRETRAINED, "init_args": {"source": str(folder / "bert")}}
    config["model"]["init_args"]["encoder"] = pretrained
    (folder / "continued.yaml").write_text(yaml.safe_dump(config))
    return folder


def said(verb: str, config: Path, *flags: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that is refused."""
    with pytest.raises(SystemExit):
        main([verb, "--config", str(config), *flags])
    return capsys.readouterr().err


def test_a_checkpoint_goes_on_with_a_store_of_its_own_vocabulary_alone(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert TokenStore.open(project / "other").vocabulary_size == 300
    config = project / "continued.yaml"
    error = said("fit", config, f"--data.store={project}/other", capsys=capsys)
    assert f"{project}/other was made by another tokenizer" in error
    assert f"model.init_args.encoder ({project}/bert)" in error
    assert re.search(r"piece \d+ is '\S+' there, '\S+' in the given one", error)
    assert f"GivenVocabulary, source: {project}/bert" in error
    error = said("fit", config, f"--data.store={project}/more", capsys=capsys)
    assert "it has 310 pieces, the given one 300" in error
    assert f"set new_pieces of the encoder to {project}/more/tokenizer" in error
    assert not list(in_tmp.glob("runs/*/*/checkpoints/*"))
    main(["fit", "--config", str(config)])
    extended = [
        f"--data.store={project}/more",
        f"--model.encoder.init_args.new_pieces={project}/more/tokenizer",
    ]
    main(["fit", "--config", str(config), *extended, "--run.name=more"])
    assert [path.parts[-4] for path in sorted(in_tmp.glob("runs/*/0/checkpoints/last.ckpt"))] == [
        "more",
        "run",
    ]
    error = said("fit", config, extended[1], "--run.name=more", capsys=capsys)
    assert "it has 300 pieces, the given one 310" in error


def test_a_checkpoint_without_a_tokenizer_goes_on_with_any_store(
    project: Path, in_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = [f"--model.encoder.init_args.source={project}/bare", f"--data.store={project}/other"]
    main(["fit", "--config", str(project / "continued.yaml"), *flags])
    assert (in_tmp / "runs/run/0/checkpoints/last.ckpt").exists()
    assert f"{project}/bare has no tokenizer to compare that of the data with" in caplog.text


def test_a_run_is_resumed_validated_and_exported_with_the_vocabulary_that_it_was_trained_on(
    project: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "run.yaml"
    main(["fit", "--config", str(config)])
    file = in_tmp / "runs/run/0/checkpoints/last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    stores = [TokenStore.open(project / name) for name in ("mine", "other")]
    arguments = {
        "held_out": {"validation_fraction": 0.1, "split_seed": 0},
        "stream": {"seed": 42, "sentence_task": "none", "short_fraction": 0.1, "phases: the lengths": [32]},
    }
    known = [
        {"tokenizer": store.tokenizer_hash, "store": store.content_hash, **arguments} for store in stores
    ]
    hashes = [store.tokenizer_hash for store in stores]
    assert checkpoint["PretrainingData"] == {"samples": 8, **known[0]}
    other = ["--ckpt_path=last", f"--data.store={project}/other"]
    for verb, flags in (
        ("fit", ["--trainer.max_steps=3"]),
        ("validate", []),
        ("export", ["--output=folder"]),
    ):
        error = said(verb, config, *other, *flags, capsys=capsys)
        assert f"{project}/other is of another vocabulary (tokenizer {hashes[1][:12]})" in error
        assert f"the checkpoint was trained on (tokenizer {hashes[0][:12]})" in error
    assert not (in_tmp / "folder").exists()
    main(["export", "--config", str(config), "--ckpt_path=last", "--output=folder"])
    assert TokenStore.open(project / "mine").difference(AutoTokenizer.from_pretrained("folder")) == ""
    error = said(
        "export", project / "continued.yaml", f"--ckpt_path={file}", other[1], "--output=again", capsys=capsys
    )  # fmt: skip
    assert "was made by another tokenizer" in error
    # A checkpoint that was made before vocabularies and stores were written down does not know better.
    checkpoint["PretrainingData"] = {"samples": 8}
    torch.save(checkpoint, file)
    main(["fit", "--config", str(config), *other, "--trainer.max_steps=3"])
    assert torch.load(file, weights_only=True)["PretrainingData"] == {"samples": 12, **known[1]}
