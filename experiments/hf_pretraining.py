"""The peer in pretraining: the Trainer of transformers, on bertlab's very examples.

Its model is BertForPreTraining, and BertForMaskedLM where the objective is masked pieces alone.

`draw` takes the examples from bertlab's data module, masks and all, in the order in which `bertlab fit` trains on them,
and writes them as a data set of rows. The command reads that data set; everything in it is transformers' own: padding,
model, loss, optimizer, loop.

    python -m experiments.hf_pretraining --config CASE.yaml --examples FOLDER --output DIR
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForPreTraining,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

from bertlab.interfaces import PretrainingBatch
from bertlab.samplers.phases import StepSchedule
from bertlab.samplers.step_parts import StepPartSampler
from experiments.clocks import HuggingFaceClock
from experiments.configurations import load_config
from experiments.flops import Amount
from experiments.pretraining_data import pretraining_data
from experiments.turns import add_place_options, place_of

IGNORED = -100  # the label of what is not masked, in transformers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="of bertlab: weights, batch size, optimizer"
    )
    parser.add_argument("--examples", type=Path, required=True, help="folder that `draw` has written")
    parser.add_argument("--output", type=Path, required=True, help="folder for results")
    parser.add_argument("--gpu", action="store_true", help="train there; default: on the CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--attention", choices=["eager", "sdpa"], help="default: what transformers chooses")
    add_place_options(parser)
    fit(parser.parse_args())


def draw(config: dict[str, Any], folder: Path) -> list[Amount]:
    """Write the examples of all optimizer steps, those of validation, and the tokenizer.

    `bertlab fit` goes on from one pass over the corpus to the next, and so do the steps that are drawn.

    Args:
        config: of `bertlab fit`, with data.init_args.phases of one phase, trainer.max_steps and seed_everything.
        folder: takes train/, validation/ and tokenizer/.

    Returns:
        What each optimizer step holds.
    """
    data, steps = pretraining_data(config), config["trainer"]["max_steps"]
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, StepPartSampler)
    loader.sampler.resume(StepSchedule(data.phases, [data.full_batch], steps), 0, steps)
    batches = list(loader)
    rows_of(batches).save_to_disk(folder / "train")
    rows_of(data.val_dataloader()).save_to_disk(folder / "validation")
    data.tokenizer.save_pretrained(folder / "tokenizer")
    return [amount_of(batch) for batch in batches]


def amount_of(batch: PretrainingBatch) -> Amount:
    """What a batch holds."""
    squares = int(batch.lengths.square().sum())
    return Amount(batch.size, len(batch.input_ids), squares, len(batch.masked_positions))


def rows_of(batches: Iterable[PretrainingBatch]) -> Dataset:
    """One row for each sequence of packed batches, in order, with the columns that the peer's model takes."""
    columns = defaultdict[str, list[Any]](list)
    for batch in batches:
        labels = torch.full_like(batch.input_ids, IGNORED)
        labels[batch.masked_positions] = batch.masked_labels
        packed = {"input_ids": batch.input_ids, "token_type_ids": batch.token_type_ids, "labels": labels}
        for name, values in packed.items():
            columns[name] += np.split(values.numpy(), batch.lengths.cumsum(0)[:-1].numpy())
        if batch.sentence_labels is not None:
            columns["next_sentence_label"] += batch.sentence_labels.tolist()
    return Dataset.from_dict(dict(columns))


def fit(options: argparse.Namespace) -> None:
    """Train; the loss of each logging and of validation into results.json."""
    config = load_config(options.config)
    source = config["model"]["init_args"]["encoder"]["init_args"]["source"]
    alone = config["model"]["init_args"]["objective"] == "mlm"
    model = (BertForMaskedLM if alone else BertForPreTraining).from_pretrained(
        source, attn_implementation=options.attention, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(options.examples / "tokenizer")
    train, validation = (load_from_disk(str(options.examples / name)) for name in ("train", "validation"))
    trainer = Trainer(
        model=model,
        args=arguments(config, options),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        compute_metrics=validation_loss,
        preprocess_logits_for_metrics=sums_of_rows,
    )
    tokens = sum(len(row) for row in train["input_ids"])
    clock = HuggingFaceClock(options.output / "clock.json", len(train), tokens, place_of(options))
    trainer.add_callback(clock)
    trainer.train()
    history = trainer.state.log_history
    results = {
        "train_losses": [entry["loss"] for entry in history if "loss" in entry],
        "validation_loss": next(e["eval_validation_loss"] for e in history if "eval_validation_loss" in e),
    }
    (options.output / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")


def arguments(config: dict[str, Any], options: argparse.Namespace) -> TrainingArguments:
    """What the configuration of bertlab says, in the Trainer's words; validation and a checkpoint at the end."""
    model, batch_size = config["model"]["init_args"], config["data"]["init_args"]["batch_size"]
    optimizer = model["optimizer"]["init_args"]
    sentences = [] if model["objective"] == "mlm" else ["next_sentence_label"]
    return TrainingArguments(
        output_dir=str(options.output / "checkpoints"),
        use_cpu=not options.gpu,
        dataloader_num_workers=options.workers,
        seed=config["seed_everything"],
        num_train_epochs=1,  # the data set holds the steps of the run, no more
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=optimizer["lr"],
        adam_beta2=optimizer.get("betas", [0.9, 0.999])[1],
        weight_decay=optimizer["weight_decay"],
        warmup_steps=model["schedule"]["init_args"]["warmup_fraction"],
        max_grad_norm=config["trainer"]["gradient_clip_val"],
        bf16=options.bf16,
        train_sampling_strategy="sequential",
        logging_steps=config["trainer"]["log_every_n_steps"],
        eval_strategy="epoch",
        save_strategy="epoch",
        label_names=["labels", *sentences],
        disable_tqdm=True,
    )


def sums_of_rows(logits: Tensor | tuple[Tensor, Tensor], labels: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """(B, 3) of each sequence: summed loss of its masked positions, how many they are, loss of its sentence pair.

    The last is 0 where masked pieces are trained alone. The Trainer's own validation loss is a mean over batches of
    means over masked positions, which depends on how sequences are put into batches; of these sums the mean over all
    masked positions can be made.
    """
    pieces, sentences = (logits, None) if isinstance(logits, Tensor) else logits
    masked_labels, sentence_labels = (labels, None) if isinstance(labels, Tensor) else labels
    rows, places = (masked_labels != IGNORED).nonzero(as_tuple=True)
    losses = functional.cross_entropy(
        pieces[rows, places].float(), masked_labels[rows, places], reduction="none"
    )
    sums, counts, pairs = losses.new_zeros(3, len(masked_labels))
    sums.index_add_(0, rows, losses)
    counts.index_add_(0, rows, torch.ones_like(losses))
    if sentences is not None and sentence_labels is not None:
        pairs = functional.cross_entropy(sentences.float(), sentence_labels.view(-1), reduction="none")
    return torch.stack([sums, counts, pairs], dim=1)


def validation_loss(predicted: Any) -> dict[str, float]:
    """As bertlab's `val/loss`: the mean over all masked positions plus the mean over all sequences."""
    sums, counts, pairs = predicted.predictions.astype(np.float64).T
    return {"validation_loss": float(sums.sum() / counts.sum() + pairs.mean())}


if __name__ == "__main__":
    main()
