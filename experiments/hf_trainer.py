"""The peer: the Trainer of transformers, on the rows and the checkpoint that a configuration of bertlab names.

It reads the rows from bertlab's data module, so both sides train, validate and test on the same texts; everything
after that is transformers' own: tokenizer, padding, model, optimizer, loop. Options that are not given are the
Trainer's defaults.

    python -m experiments.hf_trainer fit --config configs/finetune/sms_spam.yaml --output DIR
    python -m experiments.hf_trainer predict --config … --checkpoint runs/…/best.ckpt --output DIR
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from bertlab.data.rows import TextRows
from bertlab.data.text_classification import TextClassificationData
from bertlab.sources.models import model_folder
from experiments.clocks import HuggingFaceClock
from experiments.configurations import load_config
from experiments.turns import add_place_options, place_of


def main() -> None:
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    config = load_config(options.config)
    encoder = config["model"]["init_args"]["encoder"]["init_args"]["source"]
    data_options = config["data"]["init_args"] | ({"source": options.source} if options.source else {})
    data = TextClassificationData(tokenizer=encoder, **data_options)
    splits = data.splits("test")
    assert data.label_names is not None
    set_seed(options.seed)  # before the head is initialised
    tokenizer = AutoTokenizer.from_pretrained(model_folder(encoder))
    model = AutoModelForSequenceClassification.from_pretrained(
        model_folder(encoder),
        num_labels=len(data.label_names),
        attn_implementation=options.attention,
        dtype=torch.float32,
    )
    tokenised = {
        name: tokenise(tokenizer, rows, data.max_length, options.padding) for name, rows in splits.items()
    }
    {"fit": fit, "predict": predict}[options.verb](options, model, tokenizer, tokenised)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["fit", "predict"])
    parser.add_argument("--config", type=Path, required=True, help="of bertlab: data and checkpoint")
    parser.add_argument("--source", help="in place of the configuration's data source")
    parser.add_argument("--output", type=Path, required=True, help="folder for results")
    parser.add_argument("--checkpoint", type=Path, help="predict with the weights of this run of bertlab")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--warmup_fraction", type=float, default=0.0)
    parser.add_argument("--padding", choices=["maximum", "dynamic"], default="dynamic")
    parser.add_argument("--group_by_length", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--test_last", action="store_true", help="test the weights at the end too")
    add_place_options(parser)
    parser.add_argument("--attention", choices=["eager", "sdpa"], help="default: what transformers chooses")
    return parser.parse_args()


def tokenise(tokenizer: Any, rows: TextRows, max_length: int, padding: str) -> Dataset:
    """The rows as transformers' examples do it; `maximum` pads each text to `max_length`, as run_glue.py does."""
    encoded = tokenizer(
        rows.texts,
        rows.pairs,
        truncation=True,
        max_length=max_length,
        padding="max_length" if padding == "maximum" else False,
    )
    return Dataset.from_dict({**encoded, "labels": np.asarray(rows.labels).tolist()})


def make_trainer(
    options: argparse.Namespace, model: Any, tokenizer: Any, tokenised: dict[str, Dataset]
) -> Trainer:
    """The Trainer; validation and a checkpoint after each epoch, as `bertlab fit` has them."""
    arguments = TrainingArguments(
        output_dir=str(options.output / "checkpoints"),
        use_cpu=not torch.cuda.is_available(),
        seed=options.seed,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_fraction,
        bf16=options.bf16,
        train_sampling_strategy="group_by_length" if options.group_by_length else "random",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        metric_for_best_model="macro_f1",
        disable_tqdm=True,
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=tokenised["train"],
        eval_dataset=tokenised["validation"],
        processing_class=tokenizer,
        data_collator=default_data_collator
        if options.padding == "maximum"
        else DataCollatorWithPadding(tokenizer),
        compute_metrics=scores,
    )


def scores(predicted: Any) -> dict[str, float]:
    """Accuracy and macro F1, by scikit-learn."""
    classes = predicted.predictions.argmax(axis=1)
    return {
        "accuracy": float(accuracy_score(predicted.label_ids, classes)),
        "macro_f1": float(f1_score(predicted.label_ids, classes, average="macro")),
    }


def fit(options: argparse.Namespace, model: Any, tokenizer: Any, tokenised: dict[str, Dataset]) -> None:
    """Train; test the weights that validated best, and those at the end if that is asked for."""
    trainer = make_trainer(options, model, tokenizer, tokenised)
    mask = tokenised["train"]["attention_mask"]
    clock = options.output / "clock.json"
    tokens = sum(sum(row) for row in mask)
    trainer.add_callback(HuggingFaceClock(clock, len(mask), tokens, place_of(options)))
    trainer.train()
    results: dict[str, Any] = {"test_rows": len(tokenised["test"])}
    if options.test_last:
        start = time.perf_counter()
        results["last"] = test(trainer, tokenised)
        results["last"]["seconds"] = time.perf_counter() - start
    best = trainer.state.best_model_checkpoint
    assert best is not None
    trainer.model.load_state_dict(load_file(Path(best) / "model.safetensors"))
    results["best"] = test(trainer, tokenised)
    (options.output / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")


def test(trainer: Trainer, tokenised: dict[str, Dataset]) -> dict[str, float]:
    """The scores on the test split."""
    metrics = trainer.predict(tokenised["test"], metric_key_prefix="test").metrics
    return {key: metrics[f"test_{key}"] for key in ("loss", "accuracy", "macro_f1")}


def predict(options: argparse.Namespace, model: Any, tokenizer: Any, tokenised: dict[str, Dataset]) -> None:
    """Time `Trainer.predict` on the test split, with weights that bertlab has trained."""
    model.load_state_dict(weights_of(options.checkpoint), strict=True)
    trainer = make_trainer(options, model, tokenizer, tokenised)
    rows = tokenised["test"].remove_columns("labels")
    start = time.perf_counter()
    logits = trainer.predict(rows).predictions
    seconds = time.perf_counter() - start
    (options.output / "clock.json").write_text(
        json.dumps({"rows": len(rows), "seconds": seconds}), encoding="utf-8"
    )
    probabilities = torch.from_numpy(logits).softmax(dim=1).numpy()
    np.save(options.output / "probabilities.npy", probabilities)


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of a bertlab checkpoint of a BERT classifier, by the names that transformers gives them."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    names = {"encoder.model.": "bert.", "head.output.": "classifier."}
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        renamed[names[old] + name.removeprefix(old)] = tensor
    return renamed


if __name__ == "__main__":
    main()
