"""From raw text to a tuned model by the command line: corpus, pretrain, export, fine-tune, export."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification

from bertlab.encoders.pretrained import PretrainedEncoder
from tests.system.tiny_project import COMMON, HAM, SPAM, bertlab, write_texts

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}


def write_prose(file: Path, documents: int = 120) -> None:
    """Documents of one topic each, a paragraph each, of a few short sentences."""
    draw = random.Random(0)
    paragraphs: list[str] = []
    for _ in range(documents):
        topic = draw.choice([HAM, SPAM])
        sentences = [
            " ".join([*draw.choices(COMMON, k=3), *draw.choices(topic, k=draw.randint(2, 5))]) + "."
            for _ in range(draw.randint(4, 9))
        ]
        paragraphs.append(" ".join(sentence.capitalize() for sentence in sentences))
    file.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


def write_configs(folder: Path) -> None:
    corpus = {
        "name": "tiny",
        "documents": [
            {
                "class_path": "bertlab.corpus.readers.PlainText",
                "init_args": {"path": "prose.txt", "document": "paragraph"},
            }
        ],
        "sentences": {"class_path": "bertlab.corpus.sentences.SentenceSplitter"},
        "vocabulary": {
            "class_path": "bertlab.corpus.vocabulary.TrainedVocabulary",
            "init_args": {"size": 120, "min_frequency": 1},
        },
    }
    pretrain = {
        "model": {
            "class_path": "bertlab.tasks.pretraining.Pretraining",
            "init_args": {
                "objective": "mlm_nsp",
                "encoder": {
                    "class_path": "bertlab.encoders.from_config.EncoderFromConfig",
                    "init_args": {
                        "model_type": "bert",
                        "config": {
                            "vocab_size": 120,
                            "hidden_size": 32,
                            "num_hidden_layers": 2,
                            "num_attention_heads": 2,
                            "intermediate_size": 64,
                            "max_position_embeddings": 64,
                        },
                    },
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 2e-3}},
            },
        },
        "data": {
            "class_path": "bertlab.data.pretraining.PretrainingData",
            "init_args": {
                "store": "corpora/tiny",
                "phases": [{"length": 48}],
                "batch_size": 16,
                "validation_fraction": 0.1,
            },
        },
        "trainer": {"max_epochs": 3, **QUIET},
        "wandb": {"mode": "disabled"},
    }
    finetune = {
        "model": {
            "class_path": "bertlab.tasks.sequence_classification.SequenceClassification",
            "init_args": {
                "encoder": {
                    "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
                    "init_args": {"source": "exported"},
                }
            },
        },
        "data": {
            "class_path": "bertlab.data.text_classification.TextClassificationData",
            "init_args": {"source": "texts.csv", "batch_size": 16},
        },
        "trainer": {"max_epochs": 1, **QUIET},
        "wandb": {"mode": "disabled"},
    }
    for name, content in {"corpus": corpus, "pretrain": pretrain, "finetune": finetune}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_from_raw_text_to_a_tuned_model(tmp_path: Path) -> None:
    write_prose(tmp_path / "prose.txt")
    write_texts(tmp_path / "texts.csv")
    write_configs(tmp_path)
    bertlab(tmp_path, "corpus", "--config", "corpus.yaml")
    bertlab(tmp_path, "fit", "--config", "pretrain.yaml")
    losses = [float(row["val/loss"]) for row in metrics(tmp_path / "runs/pretrain/0") if row.get("val/loss")]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    words = [row for row in metrics(tmp_path / "runs/pretrain/0") if row.get("val/word_perplexity")]
    assert float(words[-1]["val/word_perplexity"]) > 1

    done = bertlab(
        tmp_path, "export", "--config", "pretrain.yaml", "--ckpt_path", "best", "--output", "exported"
    )
    assert "exported: BertForPreTraining" in done.stdout
    model, info = BertForPreTraining.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    state = torch.load(tmp_path / "runs/pretrain/0/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(
        model.bert.embeddings.word_embeddings.weight,
        state["encoder.model.embeddings.word_embeddings.weight"],
    )
    assert torch.equal(model.cls.predictions.bias, state["head.masked_lm.decoder.bias"])
    assert AutoTokenizer.from_pretrained(tmp_path / "exported")("free cash")["input_ids"][0] == 2
    twice = bertlab(
        tmp_path, "export", "--config", "pretrain.yaml", "--ckpt_path=last", "--output=exported", check=False
    )
    assert "exported is there already" in twice.stderr
    assert twice.returncode == 1
    assert [path.name for path in (tmp_path / "runs/pretrain").iterdir()] == ["0"]

    more = ["--config", "pretrain.yaml", "--run.name=more", "--trainer.max_epochs=1", "--model.objective=mlm"]
    source = {
        "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
        "init_args": {"source": "exported"},
    }
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(source))
    bertlab(tmp_path, "fit", *more, "--model.encoder=encoder.yaml")
    continued = [
        float(r["val/masked_loss"]) for r in metrics(tmp_path / "runs/more/0") if r.get("val/masked_loss")
    ]
    assert continued[0] < float(words[0]["val/masked_loss"])
    bertlab(tmp_path, "export", *more, "--model.encoder=encoder.yaml", "--ckpt_path=last", "--output=again")
    _, info = BertForMaskedLM.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]

    bertlab(tmp_path, "fit", "--config", "finetune.yaml")
    bertlab(tmp_path, "export", "--config", "finetune.yaml", "--ckpt_path=best", "--output=tuned")
    tuned, info = BertForSequenceClassification.from_pretrained(tmp_path / "tuned", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert tuned.config.id2label == {0: "ham", 1: "spam"}
    assert PretrainedEncoder(str(tmp_path / "tuned")).has_pooler
