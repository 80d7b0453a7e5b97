"""Passes through a real BERT with other weights and other word vectors, against models that really have them."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bertlab.callbacks.adversarial_weights import AdversarialWeights
from bertlab.callbacks.fast_gradient import FastGradient
from bertlab.callbacks.free_lb import FreeLB
from bertlab.callbacks.random_state import RandomState
from bertlab.callbacks.sharpness_aware import SharpnessAware
from bertlab.callbacks.strategy import Run, Strategy, TrainingPass
from bertlab.callbacks.training_pass import LossWrapper, wrapped_loss
from bertlab.encoders.encoder import Encoder
from bertlab.interfaces import TextBatch
from bertlab.losses.with_gradients import gradients_of, with_gradients
from bertlab.tasks.pretraining import Pretraining
from bertlab.tasks.sequence_classification import SequenceClassification
from tests.bits import assert_equal
from tests.callbacks.tiny import TinyData, TinyTask, fit
from tests.encoders import tiny as encoders
from tests.ranks import on_two_ranks
from tests.tasks import tiny_pretraining

TYPES = sorted(encoders.CONFIGS)


def classifier(model_type: str = "bert", dropout: float = 0.0, **changes: Any) -> SequenceClassification:
    """On random weights away from their first values, the head built."""
    names = {"attention_probs_dropout_prob", "hidden_dropout_prob"} if model_type != "distilbert" else set()
    if model_type == "distilbert":
        names = {"dropout", "attention_dropout"}
    if model_type == "modernbert":
        names = {"attention_dropout", "mlp_dropout", "embedding_dropout"}
    config = dict.fromkeys(names, dropout) | changes
    encoder = Encoder(encoders.transformer(model_type, **config))
    task = SequenceClassification(encoder, dropout=dropout, label_names=["a", "b", "c"])
    task.head = task.build_head()
    return task


def pretraining(objective: str, dropout: float = 0.0) -> Pretraining:
    encoder = tiny_pretraining.tiny_encoder()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    task = tiny_pretraining.tiny_task(objective, encoder=encoder)
    task.head = task.build_head()
    for module in task.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return task


def texts(lengths: list[int] | None = None, model_type: str = "bert") -> TextBatch:
    """Labelled; every token has an id of its own, so that a row of the table is a token."""
    types = model_type in ("bert", "electra", "albert", "roberta")
    batch = encoders.batch([9, 6, 6, 1] if lengths is None else lengths, types=types)
    labels = torch.arange(batch.size) % 3
    ids = torch.arange(5, 5 + len(batch.input_ids))
    if model_type == "roberta" and types:
        batch.token_type_ids.zero_()
    return replace(batch, input_ids=ids, labels=labels, step_labels=labels)


def masked_texts() -> Any:
    return tiny_pretraining.Language(16).step(torch.arange(16))[0]


def loss_of(task: LightningModule, batch: Any, *wrappers: LossWrapper) -> Tensor:
    return wrapped_loss(task, task.training_loss, batch, wrappers)


def gradients(task: LightningModule, loss: Tensor) -> dict[str, Tensor | None]:
    task.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in task.named_parameters()}


def noise(parameter: Tensor) -> Tensor:
    """A change of a parameter that follows its values, so that a copy of it changes alike."""
    return 0.1 * torch.sin(40 * parameter.detach() + parameter.numel())


def add_noise(parameter: nn.Parameter, value: Tensor) -> Tensor:
    return value + noise(parameter)


def moved_copy(task: Any) -> Any:
    """A task whose weights are really others."""
    other = copy.deepcopy(task)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(noise(parameter))
    return other


def test_without_changes_a_pass_is_the_tasks_own_loss() -> None:
    task, batch = classifier(), texts()
    plain = task.training_loss(batch)
    wrapped = loss_of(task, batch, lambda p: p.loss(), lambda p: p.loss())
    assert torch.equal(plain, wrapped)
    assert_equal(gradients(task, wrapped), gradients(task, plain))


@pytest.mark.parametrize("model_type", TYPES)
def test_other_weights(model_type: str) -> None:
    task, batch = classifier(model_type), texts(model_type=model_type)
    before = copy.deepcopy(task.state_dict())
    other = moved_copy(task)
    expected = other.training_loss(batch)
    found = loss_of(task, batch, lambda p: p.loss(weights=add_noise))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(task, found), gradients(other, expected), rtol=1e-4, atol=1e-7)
    assert_equal(dict(task.state_dict()), dict(before))
    assert all(
        isinstance(p, nn.Parameter) for m in task.modules() for p in m._parameters.values() if p is not None
    )


@pytest.mark.parametrize("objective", ["mlm", "mlm_nsp", "replaced_tokens"])
def test_a_tied_weight_is_changed_everywhere(objective: str) -> None:
    """The decoder of masked words is the embedding table; ELECTRA's generator shares it too."""
    task, batch = pretraining(objective), masked_texts()
    other = moved_copy(task)
    expected = other.training_loss(batch)
    found = loss_of(task, batch, lambda p: p.loss(weights=add_noise))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(task, found), gradients(other, expected), rtol=1e-3, atol=1e-6)
    table = task.word_embedding.weight

    def only_table(parameter: nn.Parameter, value: Tensor) -> Tensor:
        return add_noise(parameter, value) if parameter is table else value

    partly = loss_of(task, batch, lambda p: p.loss(weights=only_table))
    with torch.no_grad():
        table.add_(noise(table))
    torch.testing.assert_close(partly, task.training_loss(batch))


@pytest.mark.parametrize("lengths", [[9, 6, 6, 1], [7, 7, 7], [5]], ids=str)
@pytest.mark.parametrize("model_type", TYPES)
def test_other_word_vectors(model_type: str, lengths: list[int]) -> None:
    """A table with other rows is the reference: each token has a row of its own.

    DeBERTa and MPNet run on padded tensors, where the word vectors are (S, T, E).
    """
    task, batch = classifier(model_type), texts(lengths, model_type)
    other = copy.deepcopy(task)
    seen: list[tuple[torch.Size, list[int]]] = []
    width = task.word_embedding.weight.shape[1]
    step = 0.1 * torch.randn(sum(lengths), width, generator=torch.Generator().manual_seed(2))
    step.requires_grad_()

    def move(vectors: Tensor, rows: Tensor) -> Tensor:
        seen.append((vectors.shape, rows.tolist()))
        return vectors + step

    found = loss_of(task, batch, lambda p: p.loss(embeddings=move))
    with torch.no_grad():
        other.word_embedding.weight[batch.input_ids] += step
    expected = other.training_loss(batch)
    torch.testing.assert_close(found, expected)
    expected_gradients = gradients(other, expected)
    torch.testing.assert_close(gradients(task, found), expected_gradients, rtol=1e-4, atol=1e-7)
    table = expected_gradients[
        next(n for n, p in other.named_parameters() if p is other.word_embedding.weight)
    ]
    torch.testing.assert_close(step.grad, table[batch.input_ids], rtol=1e-4, atol=1e-7)
    rows = [row for row, length in enumerate(lengths) for _ in range(length)]
    assert seen == [((len(rows), width), rows)]


def test_only_the_encoder_sees_other_word_vectors_not_the_decoder() -> None:
    """In pretraining the table is used twice; a text's vectors are what goes in."""
    task, batch = pretraining("mlm"), masked_texts()
    found = loss_of(task, batch, lambda p: p.loss(embeddings=lambda vectors, _: 1.5 * vectors))
    own = task.encoder.word_embedding.forward
    task.encoder.word_embedding.forward = lambda ids: 1.5 * own(ids)
    torch.testing.assert_close(found, task.training_loss(batch))
    scaled = loss_of(task, batch, lambda p: p.loss(weights=scale_table(task)))
    assert found.item() != pytest.approx(scaled.item())


def scale_table(task: Pretraining) -> Callable[[nn.Parameter, Tensor], Tensor]:
    table = task.word_embedding.weight
    return lambda parameter, value: 1.5 * value if parameter is table else value


def test_the_generator_of_replaced_tokens_keeps_its_own_word_vectors() -> None:
    """Else the second pass would be about other tokens than the first."""
    task, batch = pretraining("replaced_tokens"), masked_texts()
    drawn = []
    task.encoder.register_forward_pre_hook(lambda _, args: drawn.append(args[0].input_ids))
    loss_of(task, batch, lambda p: p.loss() + p.loss(embeddings=lambda vectors, _: -vectors))
    assert torch.equal(*drawn)


def test_changes_add_up_the_outermost_first() -> None:
    task, batch = classifier(), texts()

    def outer(p: TrainingPass) -> Tensor:
        return p.loss(weights=lambda _, v: 1.1 * v, embeddings=lambda v, _: 1.3 * v)

    def inner(p: TrainingPass) -> Tensor:
        return p.loss(weights=lambda _, v: v + 0.01, embeddings=lambda v, _: v + 0.02)

    def both(p: TrainingPass) -> Tensor:
        return p.loss(weights=lambda _, v: 1.1 * v + 0.01, embeddings=lambda v, _: 1.3 * v + 0.02)

    nested, at_once = loss_of(task, batch, outer, inner), loss_of(task, batch, both)
    torch.testing.assert_close(nested, at_once)
    torch.testing.assert_close(gradients(task, nested), gradients(task, at_once), rtol=1e-4, atol=1e-7)
    assert float(nested) != pytest.approx(float(loss_of(task, batch, inner, outer)), rel=1e-6)


def test_a_change_holds_for_its_own_pass_alone() -> None:
    task, batch = classifier(), texts()
    plain = task.training_loss(batch)

    def wrapper(p: TrainingPass) -> Tensor:
        with pytest.raises(ZeroDivisionError):
            p.loss(weights=lambda *_: 1 / 0, embeddings=lambda v, _: v)
        with pytest.raises(ZeroDivisionError):
            p.loss(weights=add_noise, embeddings=lambda *_: 1 / 0)
        p.loss(weights=add_noise, embeddings=lambda v, _: -v)
        return p.loss()

    assert torch.equal(loss_of(task, batch, wrapper), plain)
    assert not task.word_embedding._forward_hooks
    assert not task._forward_hooks
    assert all(
        isinstance(p, nn.Parameter) for m in task.modules() for p in m._parameters.values() if p is not None
    )


def test_outputs_are_those_of_the_last_pass() -> None:
    task, batch = classifier(), texts()

    def wrapper(p: TrainingPass) -> Tensor:
        loss = p.loss(weights=add_noise)
        torch.testing.assert_close(p.outputs, moved_copy(task)(batch))
        loss = loss + p.loss()
        assert torch.equal(p.outputs, task(batch))
        return loss + p.outputs.square().mean()

    loss_of(task, batch, wrapper).backward()


@pytest.mark.parametrize("wrapper", [lambda p: p.outputs, lambda p: p.loss() + p.outputs.mean()])
def test_outputs_of_a_task_that_has_none(wrapper: LossWrapper) -> None:
    with pytest.raises(
        ValueError, match="training loss of Pretraining is not made of the outputs of its forward"
    ):
        loss_of(pretraining("mlm"), masked_texts(), wrapper)


def test_frozen_weights() -> None:
    task, batch = classifier(), texts()
    for block in task.encoder_blocks()[:2]:
        for parameter in block.parameters():
            parameter.requires_grad_(False)
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}

    def wrapper(p: TrainingPass) -> Tensor:
        assert {name: id(q) for name, q in p.named_parameters.items()} == {
            n: id(q) for n, q in trained.items()
        }
        assert [id(q) for q in p.parameters] == [id(q) for q in trained.values()]
        loss = p.loss(weights=add_noise)
        return with_gradients(loss, p.parameters, gradients_of(loss, p.parameters))

    found = gradients(task, loss_of(task, batch, wrapper))
    other = moved_copy(task)
    torch.testing.assert_close(found, gradients(other, other.training_loss(batch)), rtol=1e-4, atol=1e-7)
    assert {name for name, gradient in found.items() if gradient is not None} == trained.keys()


def test_tied_weights_are_one_parameter() -> None:
    task = pretraining("replaced_tokens")
    counts = []
    loss_of(task, masked_texts(), lambda p: (counts.append(len(p.parameters)), p.loss())[1])
    assert counts == [len({id(p) for p in task.parameters()})]
    assert len(list(task.named_parameters(remove_duplicate=False))) > counts[0]


def twice(again: bool, kept: list[Tensor]) -> LossWrapper:
    def wrapper(p: TrainingPass) -> Tensor:
        kept.extend([p.loss(), p.loss(same_dropout=again)])
        return kept[-2] + kept[-1]

    return wrapper


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2"])
def test_dropout_masks_are_shared_if_asked_for(model_type: str, again: bool) -> None:
    task, losses = classifier(model_type, dropout=0.3), []
    torch.manual_seed(0)
    loss_of(task, texts(model_type=model_type), twice(again, losses))
    assert torch.equal(losses[0], losses[1]) is again


def test_masks_differ_within_what_is_repeated() -> None:
    """Of a strategy within that wants two masks: two masks, and the same two in each pass outside."""
    task, inner, outer = classifier(dropout=0.3), [], []
    loss_of(task, texts(), twice(True, outer), twice(False, inner))
    assert len(inner) == 4
    assert not torch.equal(inner[0], inner[1])
    assert torch.equal(inner[0], inner[2])
    assert torch.equal(inner[1], inner[3])
    assert torch.equal(outer[0], outer[1])


def test_the_same_tokens_are_replaced_in_each_pass() -> None:
    """The generator has dropout too: with other masks it would draw other tokens."""
    task, batch, drawn = pretraining("replaced_tokens", dropout=0.3), masked_texts(), []
    task.encoder.register_forward_pre_hook(lambda _, args: drawn.append(args[0].input_ids))
    loss_of(task, batch, twice(True, []))
    assert torch.equal(*drawn)
    drawn.clear()
    loss_of(task, batch, twice(False, []))
    assert not torch.equal(*drawn)


@pytest.mark.gpu
def test_masks_of_a_gpu_are_shared() -> None:
    task, losses = classifier(dropout=0.3).cuda(), []
    loss_of(task, texts().to("cuda"), twice(True, losses))
    assert torch.equal(losses[0], losses[1])
    loss_of(task, texts().to("cuda"), twice(False, losses))
    assert not torch.equal(losses[2], losses[3])


def test_random_state() -> None:
    torch.rand(3)
    state = RandomState(torch.device("cpu"))
    once = torch.rand(3)
    state.restore()
    assert torch.equal(torch.rand(3), once)


def two_passes(p: TrainingPass) -> Tensor:
    """The plain gradient in two halves, the second of which is a graph."""
    loss = p.loss() / 2
    found = gradients_of(loss, p.parameters)
    return with_gradients(loss, p.parameters, found) + p.loss(same_dropout=True) / 2


@pytest.mark.parametrize("cache", [True, False])
def test_autocast_and_its_cache_of_weights(cache: bool) -> None:
    """The cache holds casts with the graph of the pass that made them."""
    task, batch = classifier(), texts()

    def under_autocast(*wrappers: LossWrapper) -> dict[str, Tensor | None]:
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
            loss = loss_of(task, batch, *wrappers)
        return gradients(task, loss)

    plain = under_autocast()
    assert_equal(under_autocast(two_passes), plain)
    assert_equal(under_autocast(two_passes, lambda p: p.loss(weights=lambda _, v: v * 1.0)), plain)
    changed = under_autocast(lambda p: p.loss(weights=add_noise))
    assert_equal(under_autocast(lambda p: (p.loss(), p.loss(weights=add_noise))[1]), changed)
    other = moved_copy(task)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
        loss = other.training_loss(batch)
    assert_equal(changed, gradients(other, loss))

    def looked_first(p: TrainingPass) -> Tensor:
        with torch.no_grad():
            p.loss()
        return p.loss()

    assert_equal(under_autocast(looked_first), plain)


def repr_of(strategy: Strategy) -> str:
    return type(strategy).__name__


class Halves(Strategy):
    """Trains as without it, in two passes."""

    touches: ClassVar[set[str]] = {"loss", "passes"}

    def apply(self, run: Run) -> None:
        run.wrap_loss(two_passes)


class MoreHalves(Halves):
    """The same again, within."""

    nesting: ClassVar[int] = -1


def trained(strategies: list[Strategy], root: Path, **arguments: Any) -> dict[str, Tensor]:
    accumulate = arguments.get("accumulate_grad_batches", 1)
    task, _ = fit(strategies, root, task=TinyTask(), data=TinyData(6 * accumulate), epochs=1, **arguments)
    return {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.1}, {"precision": "64-true"}],
    ids=str,
)
def test_training_in_parts_is_training(arguments: dict[str, Any], tmp_path: Path) -> None:
    plain = trained([], tmp_path, **arguments)
    parts = trained([Halves(), MoreHalves()], tmp_path, **arguments)
    torch.testing.assert_close(parts, plain, rtol=1e-5, atol=1e-6)


def on_a_rank(root: Path) -> list[dict[str, Tensor]]:
    common: dict[str, Any] = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    return [
        trained(strategies, root, accumulate_grad_batches=2, **common)
        for strategies in ([], [Halves(), MoreHalves()])
    ]


class Held:
    """A tensor that a graph keeps for its backward."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def most_held(strategies: list[Strategy], root: Path) -> int:
    """The most elements that graphs keep at any time of training."""
    held: weakref.WeakSet[Held] = weakref.WeakSet()
    most = 0

    def keep(tensor: Tensor) -> Held:
        nonlocal most
        holder = Held(tensor)
        held.add(holder)
        most = max(most, sum(each.tensor.numel() for each in held))
        return holder

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
        fit(strategies, root, task=TinyTask(layers=6), data=TinyData(2), epochs=1)
    return most


@pytest.mark.parametrize(
    "strategy", [SharpnessAware(), AdversarialWeights(), FastGradient(), FreeLB(ascent_steps=6)], ids=repr_of
)
def test_strategies_hold_one_graph_at_a_time(strategy: Strategy, tmp_path: Path) -> None:
    plain = most_held([], tmp_path)
    weights = sum(p.numel() for p in TinyTask(layers=6).parameters())
    assert most_held([strategy], tmp_path) <= plain + weights  # the gradients of the passes that are done
    assert weights < plain / 2


def test_two_ranks_train_in_parts(tmp_path: Path) -> None:
    """DDP exchanges the gradients of all passes at once, in the one backward."""
    ranks = on_two_ranks(on_a_rank, tmp_path, tmp_path)
    assert_equal(ranks[0][1], ranks[1][1])
    torch.testing.assert_close(ranks[0][1], ranks[0][0], rtol=1e-5, atol=1e-6)
