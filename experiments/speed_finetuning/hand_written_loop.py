"""The yardstick of overhead: a plain PyTorch loop over the batches and the model of `bertlab fit`, logging nothing.

python -m experiments.speed_finetuning.hand_written_loop --source DIR --output clock.json
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from bertlab.allocator import keep_freed_memory
from bertlab.data.text_classification import TextClassificationData
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.heads.classification import ClassificationHead
from bertlab.optimizers.row_adamw import RowAdamW
from experiments.clocks import StepTimes
from experiments.turns import Turns, add_place_options, place_of

SOURCE = "packaged:minilm_l6_v2"
WARMUP = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help="folder of train.csv")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the step times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--matmul_precision", default="highest")
    add_place_options(parser)
    options = parser.parse_args()
    torch.set_float32_matmul_precision(options.matmul_precision)
    keep_freed_memory()
    torch.manual_seed(options.seed)
    data = TextClassificationData(tokenizer=SOURCE, source=options.source, seed=options.seed)
    data.setup("fit")
    assert data.num_labels is not None
    encoder = PretrainedEncoder(SOURCE)
    model = torch.nn.ModuleDict(
        {"encoder": encoder, "head": ClassificationHead(encoder.hidden_size, data.num_labels)}
    )
    train(model, data, options).write(
        options.output, len(data.dataset("train")), int(data.dataset("train").lengths.sum())
    )


def train(model: torch.nn.ModuleDict, data: TextClassificationData, options: argparse.Namespace) -> StepTimes:
    """Train as a person would write it; gives the times of the steps."""
    loader = data.train_dataloader()
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = RowAdamW(groups, lr=5e-5)
    total = options.epochs * len(loader)
    warmup = WARMUP * total
    scheduler = LambdaLR(optimizer, lambda step: min(step / warmup, (total - step) / (total - warmup)))
    place = place_of(options)
    times = StepTimes(None if place is None else Turns(place))
    model.train()
    for epoch in range(options.epochs):
        loader.sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue]
        times.begin_epoch()
        for batch in loader:
            times.start()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if options.bf16 else nullcontext():
                logits = model["head"](model["encoder"](batch, first_only=True), batch.lengths)
                loss = functional.cross_entropy(logits.float(), batch.labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            times.end()
    return times


if __name__ == "__main__":
    main()
