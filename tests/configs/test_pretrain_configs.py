"""Every file of configs/pretrain runs for two steps over a tiny token store."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bertlab.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
PRETRAIN = sorted(CONFIGS.glob("pretrain/**/*.yaml"))
WORDS = ["the", "a", "film", "was", "good", "bad", "dull", "fine", "call", "now", "win", "oil", "wheat"]
SMALL = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def tiny_store(in_tmp: Path, tiny_bert: str) -> str:
    """Sixty documents of six sentences in the vocabulary of the tiny BERT."""
    documents = [
        "\n".join(" ".join(WORDS[(d * 7 + s * 3 + w) % len(WORDS)] for w in range(9)) for s in range(6))
        for d in range(60)
    ]
    (in_tmp / "prose.txt").write_text("\n\n".join(documents) + "\n")
    corpus = {
        "name": "tiny",
        "documents": [
            {"class_path": "bertlab.corpus.readers.GoogleFormat", "init_args": {"path": "prose.txt"}}
        ],
        "vocabulary": {
            "class_path": "bertlab.corpus.vocabulary.GivenVocabulary",
            "init_args": {"source": tiny_bert},
        },
    }
    (in_tmp / "corpus.yaml").write_text(yaml.safe_dump(corpus))
    main(["corpus", "--config", "corpus.yaml"])
    return str(in_tmp / "corpora" / "tiny")


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda path: path.name)
def test_runs_two_steps(path: Path, tiny_store: str, tiny_bert: str, in_tmp: Path) -> None:
    encoder = yaml.safe_load(path.read_text())["model"]["init_args"]["encoder"]
    if isinstance(encoder, dict):
        flags = [f"--model.encoder.init_args.config={SMALL}"]
    else:
        flags = [f"--model.encoder.init_args.source={tiny_bert}"]
    main(
        [
            "fit",
            "--config",
            str(path),
            *flags,
            f"--data.init_args.store={tiny_store}",
            "--data.init_args.batch_size=8",
            "--data.init_args.validation_fraction=0.1",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=2",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--wandb.mode=disabled",
        ]
    )
    assert (in_tmp / "runs" / path.stem / "0" / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda path: path.name)
def test_is_short_and_says_what_it_does(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("# ")
