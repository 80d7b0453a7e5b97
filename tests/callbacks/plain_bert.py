"""A classifier in plain PyTorch: transformers' BERT on padded tensors, for the papers' algorithms to train.

Nothing of bertlab computes in it. The same texts in the same order as `tests.tasks.tiny.TinyData` has them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel

from bertlab.callbacks.step_seed import StepSeed
from bertlab.callbacks.strategy import Strategy
from bertlab.interfaces import TextBatch
from bertlab.schedules.constant import Constant
from bertlab.tasks.sequence_classification import SequenceClassification
from tests.tasks.tiny import TinyData, tiny_task, tiny_trainer

RATE = 0.2
ROWS, BATCH = 96, 16
STEPS = ROWS // BATCH


def new_task() -> SequenceClassification:
    """In float64 with SGD, so that a difference in the gradient is seen and not normalised away."""
    return tiny_task(
        optimizer=lambda params: torch.optim.SGD(params, lr=RATE),
        schedule=Constant(),
        label_names=["ham", "spam", "news"],
    )


class PlainBert(nn.Module):
    """Has the weights of a task; word vectors can be given from outside."""

    def __init__(self, task: SequenceClassification) -> None:
        super().__init__()
        config = copy.deepcopy(task.encoder.config)
        config._attn_implementation = "eager"
        self.bert = BertModel(config).double()
        self.bert.load_state_dict(task.encoder.model.state_dict())
        assert isinstance(task.head, nn.Module)
        self.output = copy.deepcopy(task.head.output).double()

    def word_vectors(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """(B, T, D) from the table, and the mask (B, T) of tokens."""
        real = torch.arange(int(batch.lengths.max())) < batch.lengths[:, None]
        ids = torch.zeros(real.shape, dtype=torch.int64)
        ids[real] = batch.input_ids
        return self.bert.embeddings.word_embeddings(ids), real

    def losses(self, batch: TextBatch, change: Tensor | float = 0.0) -> Tensor:
        """(B,) cross entropies, with word vectors changed by (B, T, D)."""
        vectors, real = self.word_vectors(batch)
        found = self.bert(inputs_embeds=vectors + change, attention_mask=real.long())
        assert batch.labels is not None
        # In float32, as a task gives its logits: rounded alike, both algorithms agree to the rounding of float64.
        logits = self.output(found.pooler_output).float()
        return functional.cross_entropy(logits, batch.labels, reduction="none")

    def step(self, gradients: list[Tensor]) -> None:
        """One of SGD."""
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters(), gradients, strict=True):
                parameter.sub_(RATE * gradient)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(self.parameters())))


def steps(parts: int = 1) -> list[list[TextBatch]]:
    """The micro-batches of each optimizer step."""
    data = TinyData(rows=ROWS, batch_size=BATCH)
    rows = torch.arange(ROWS).split(BATCH)
    return [[data.batch(step[part::parts]) for part in range(parts)] for step in rows]


def compare(
    strategy: Strategy,
    gradient: Callable[[PlainBert, TextBatch, int, int], list[Tensor]],
    root: Path,
    parts: int = 1,
    **trainer: Any,
) -> tuple[SequenceClassification, PlainBert]:
    """Train by bertlab and by the plain algorithm; all weights must be equal, to the rounding of float64.

    Args:
        strategy: of bertlab.
        gradient: of the paper: from the model, a micro-batch, the step and the micro-batch's number to a gradient.
        root: a folder.
        parts: micro-batches of a step.
        trainer: arguments of the Trainer.
    """
    task = new_task()
    task.head = task.build_head()
    plain, ordinary = PlainBert(task.double()), PlainBert(task)
    fitted = tiny_trainer(
        root, precision="64-true", accumulate_grad_batches=parts, callbacks=[StepSeed(0), strategy], **trainer
    )
    fitted.fit(task, datamodule=TinyData(rows=ROWS, batch_size=BATCH, splits=parts))
    for number, micro_batches in enumerate(steps(parts)):
        found = [gradient(plain, batch, number, part) for part, batch in enumerate(micro_batches)]
        plain.step([torch.stack(each).mean(0) for each in zip(*found, strict=True)])
        losses = torch.stack([ordinary.losses(batch).mean() for batch in micro_batches])
        ordinary.step(ordinary.gradients(losses.mean()))
    names = {f"bert.{name}": p for name, p in task.encoder.model.named_parameters()}
    names |= {"output.weight": task.head.output.weight, "output.bias": task.head.output.bias}
    assert names.keys() == {name for name, _ in plain.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(names[name], parameter, rtol=1e-9, atol=1e-12, msg=name)
    apart = [
        (p - q).abs().max().item() for p, q in zip(plain.parameters(), ordinary.parameters(), strict=True)
    ]
    assert max(apart) > 1e-4  # of a strategy that does nothing the comparison would tell nothing
    return task, plain
