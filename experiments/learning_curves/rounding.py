"""How far gradients in bfloat16 are from those in float32: bertlab's and the Trainer's, on the same batches.

python -m experiments.learning_curves.rounding --model exported/tiny_news --store corpora/news_and_papers
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DataCollatorForTokenClassification

from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.export.hugging_face import copied_into, hugging_face_model
from bertlab.interfaces import PretrainingBatch
from bertlab.tasks.pretraining import Pretraining
from experiments.commands import ROOT
from experiments.configurations import load_config
from experiments.hf_pretraining import rows_of
from experiments.pretraining_data import pretraining_data
from experiments.tables import markdown_table

#: From a batch to its loss.
Loss = Callable[[PretrainingBatch], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a trained BertForMaskedLM")
    parser.add_argument("--store", type=Path, required=True, help="token store of its vocabulary")
    parser.add_argument("--batches", type=int, default=30)
    options = parser.parse_args()
    task = Pretraining(
        PretrainedEncoder(str(options.model), dropout=0.0, attention_dropout=0.0), objective="mlm"
    )
    task.head = task.build_head()
    model = hugging_face_model(task)
    model.set_attn_implementation("eager")
    names = copied_into(model, task)
    config = load_config(ROOT / "configs/pretrain/tiny_news.yaml") | {"seed_everything": 0}
    config["data"]["init_args"]["store"] = str(options.store)
    data = pretraining_data(config)
    batches = list(islice(data.train_dataloader(), options.batches))
    padded = DataCollatorForTokenClassification(data.tokenizer)

    def ours(batch: PretrainingBatch) -> Tensor:
        return task.heads.training_loss(task.encoder, batch, 1)

    def theirs(batch: PretrainingBatch) -> Tensor:
        return model(**padded(list(rows_of([batch])))).loss

    own, other = dict(task.named_parameters()), dict(model.named_parameters())
    of_task, of_model = list(own.values()), [other[names[name]] for name in own]
    exact = steps(model, theirs, of_model, batches)
    found = {
        "bertlab, float32": steps(task, ours, of_task, batches),
        "bertlab, bfloat16": steps(task, in_bfloat16(ours), of_task, batches, "medium"),
        "HF Trainer, bfloat16": steps(model, in_bfloat16(theirs), of_model, batches),
    }
    head = ["", "gradient: distance", "mean gradient: distance", "gradient: length", "loss: difference"]
    print(
        f"{len(batches)} batches, mean loss {exact[0].mean():.4f}; distances from transformers in float32\n"
    )
    print(markdown_table([head, *([name, *apart(steps, exact)] for name, steps in found.items())]))


def in_bfloat16(loss_of: Loss) -> Loss:
    """The forward pass under autocast, as both sides have it; gradients come outside."""

    def loss(batch: PretrainingBatch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss_of(batch)

    return loss


def steps(
    model: nn.Module,
    loss_of: Loss,
    parameters: list[nn.Parameter],
    batches: list[PretrainingBatch],
    matmul_precision: str = "highest",
) -> tuple[Tensor, Tensor]:
    """The loss of each batch, (n,), and its gradients one after another, (n, parameters)."""
    torch.set_float32_matmul_precision(matmul_precision)
    model.train()
    losses, gradients = [], []
    for batch in batches:
        loss = loss_of(batch)
        losses.append(loss.detach().float())
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    return torch.stack(losses), torch.stack(gradients)


def apart(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor]) -> list[str]:
    """The cells of a row.

    Distances are divided by the length of the exact gradient; the distance of the means is what does not average out
    over batches; the length is along the exact gradient, less 1.
    """
    (losses, gradients), (exact_losses, true) = found, exact
    errors = gradients - true
    each = (errors.norm(dim=1) / true.norm(dim=1)).mean()
    of_mean = errors.mean(0).norm() / true.mean(0).norm()
    along = ((errors * true).sum(1) / true.square().sum(1)).mean()
    return [f"{each:.3%}", f"{of_mean:.3%}", f"{along:+.3%}", f"{(losses - exact_losses).mean():+.5f}"]


if __name__ == "__main__":
    main()
