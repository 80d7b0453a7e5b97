"""A project of one's own in a folder: a tiny BERT with its tokenizer, texts in a CSV, and a run's YAML."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import BertConfig, BertModel

from tests.tokenizers import write_tokenizer
from tests.warm import Command, finished, rank_environments

HAM = ["meeting", "lunch", "tomorrow", "report", "thanks", "project", "home", "train", "dinner", "family"]
SPAM = ["win", "free", "cash", "prize", "claim", "urgent", "offer", "click", "winner", "money"]
COMMON = ["the", "a", "to", "you", "for", "is", "on", "and", "it", "we"]
BERTLAB = [sys.executable, "-m", "bertlab.cli"]

STRATEGIES: list[dict[str, Any]] = [
    {
        "class_path": "bertlab.callbacks.staged_unfreezing.StagedUnfreezing",
        "init_args": {"plan": "gradual", "lr_decay": 0.9, "spread_fraction": 0.7},
    },
    {
        "class_path": "bertlab.callbacks.lr_restarts.LrRestarts",
        "init_args": {"at": "stage", "warmup_fraction": 0.1, "minimum_factor": 0.1},
    },
    {
        "class_path": "bertlab.callbacks.cost_weighted_loss.CostWeightedLoss",
        "init_args": {"start_fraction": 0.3, "anneal_fraction": 0.2},
    },
    {
        "class_path": "bertlab.callbacks.frozen_trunk_cache.FrozenTrunkCache",
        "init_args": {"minimum_epochs": 0.5},
    },
]


#: Of the table of the word pieces: so many that `RowAdamW` leaves out those that no text has.
TABLE_ROWS = 160


def write_model(folder: Path, layers: int = 2) -> Path:
    """A BERT of some layers × 32 with dropout, and a tokenizer that knows the words above."""
    write_tokenizer(folder, [*HAM, *SPAM, *COMMON])
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=TABLE_ROWS,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_texts(file: Path, rows: int = 240, seed: int = 0) -> Path:
    """`rows` texts of 3 to 20 words, one in five spam, no two alike."""
    generator = random.Random(seed)
    lines = ["text,label"]
    seen: set[str] = set()
    while len(lines) <= rows:
        spam = generator.random() < 0.2
        words = generator.choices(COMMON, k=generator.randint(2, 15))
        words += generator.choices(SPAM if spam else HAM, k=generator.randint(1, 5))
        generator.shuffle(words)
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            lines.append(f"{text},{'spam' if spam else 'ham'}")
    file.write_text("\n".join(lines) + "\n")
    return file


def write_project(folder: Path, **trainer: Any) -> Path:
    """Everything, and run.yaml, which names it by absolute path; returns run.yaml."""
    model, texts = write_model(folder / "model"), write_texts(folder / "texts.csv")
    config = {
        "model": {
            "class_path": "bertlab.tasks.sequence_classification.SequenceClassification",
            "init_args": {
                "encoder": {
                    "class_path": "bertlab.encoders.pretrained.PretrainedEncoder",
                    "init_args": {"source": str(model)},
                },
                "optimizer": {
                    "class_path": "bertlab.optimizers.row_adamw.RowAdamW",
                    "init_args": {"lr": 1e-3, "table_rows": TABLE_ROWS},
                },
            },
        },
        "data": {
            "class_path": "bertlab.data.text_classification.TextClassificationData",
            "init_args": {"source": str(texts), "batch_size": 16},
        },
        "trainer": {
            "max_epochs": 3,
            "accelerator": "cpu",
            "devices": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": STRATEGIES,
        }
        | trainer,
        "wandb": {"mode": "disabled"},
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def write_sentences(file: Path, rows: int = 200, seed: int = 1) -> Path:
    """`rows` CoNLL sentences of 3 to 20 words, no two alike: runs of spam words are offers, of ham words matters."""
    generator = random.Random(seed)
    sentences: set[str] = set()
    while len(sentences) < rows:
        lines: list[str] = []
        for _ in range(generator.randint(1, 4)):
            lines += [f"{word}\tO" for word in generator.choices(COMMON, k=generator.randint(1, 3))]
            kind, words = generator.choice([("offer", SPAM), ("matter", HAM)])
            found = generator.choices(words, k=generator.randint(1, 3))
            lines += [f"{word}\t{'I' if place else 'B'}-{kind}" for place, word in enumerate(found)]
        sentences.add("\n".join(lines))
    file.write_text("\n\n".join(sorted(sentences)) + "\n")
    return file


def write_words_project(folder: Path, **trainer: Any) -> Path:
    """As `write_project`, for the tags of words; long sentences are divided into windows.

    Without the last strategy, which keeps what the frozen blocks make of whole texts.
    """
    file = write_project(folder, **({"callbacks": STRATEGIES[:-1]} | trainer))
    config = yaml.safe_load(file.read_text())
    config["model"]["class_path"] = "bertlab.tasks.token_classification.TokenClassification"
    config["data"] = {
        "class_path": "bertlab.data.token_classification.TokenClassificationData",
        "init_args": {
            "source": str(write_sentences(folder / "sentences.conll")),
            "batch_size": 16,
            "max_length": 16,
            "window_context": 3,
        },
    }
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def environment(folder: Path) -> dict[str, str]:
    """Of a command: one thread, a cache of its own, no hub."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "BERTLAB_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def bertlab(folder: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a `bertlab` command in a folder, in a process that has torch and Lightning already."""
    with Command(folder, environment(folder), list(args)) as command:
        return finished([command])[0] if check else command.wait()


def bertlab_on_two_ranks(folder: Path, *args: str) -> None:
    """Run a `bertlab` command in two processes, as `torchrun` starts them."""
    ours = environment(folder)
    with ExitStack() as stack:
        commands = [Command(folder, ours | rank, list(args)) for rank in rank_environments()]
        for command in commands:
            stack.enter_context(command)
        finished(commands)


def bertlab_from_scratch(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a `bertlab` command in a folder as a user does, which takes seconds longer.

    Also what `trainer.devices: 2` takes: Lightning starts the second process by the command line of the first.
    """
    done = subprocess.run(
        [*BERTLAB, *args],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (
        f"bertlab {' '.join(args)} ended with {done.returncode}:\n{done.stderr[-4000:]}"
    )
    return done
