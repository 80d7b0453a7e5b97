"""Compiled layers give what layers give, in few programs, and look the same from outside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._functorch.aot_autograd import aot_module_simplified
from torch.fx import GraphModule

from bertlab.cli_compile import PROGRAMS
from bertlab.encoders.compiled import compile_layers
from bertlab.encoders.encoder import Encoder
from bertlab.encoders.layer_drop import dropping
from bertlab.encoders.two_parts import packed_layers
from tests.encoders.tiny import batch, transformer


class Counted:
    """The backend "aot_eager": torch's own operations, forward and backward captured; it counts programs and runs."""

    def __init__(self) -> None:
        self.programs = self.runs = 0

    def __call__(self, graph: GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.programs += 1
        made = aot_module_simplified(graph, inputs, fw_compiler=lambda program, _: make_boxed_func(program))

        def run(*args: Any) -> Any:
            self.runs += 1
            return made(*args)

        return run


def layers_of(encoder: Encoder) -> list[nn.Module]:
    return [block.modules[0] for block in encoder.blocks() if block.name.startswith("layer.")]


def encoders() -> tuple[Encoder, Encoder, Counted]:
    """The same encoder as it is and compiled, without dropout, whose masks are drawn otherwise."""
    torch.compiler.reset()
    plain, compiled = Encoder(transformer("bert")), Encoder(transformer("bert"))
    for module in [*plain.modules(), *compiled.modules()]:
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    backend = Counted()
    compile_layers(packed_layers(compiled), backend)
    return plain, compiled, backend


def gradients(
    encoder: Encoder, lengths: list[int], **arguments: Any
) -> tuple[Tensor, dict[str, Tensor | None]]:
    encoder.zero_grad()
    encoded = encoder(batch(lengths), **arguments)
    hidden = encoded.first if arguments else encoded.hidden
    hidden.square().sum().backward()
    return hidden.detach(), {name: p.grad for name, p in encoder.named_parameters()}


def check_same(plain: Encoder, compiled: Encoder, lengths: list[int], **arguments: Any) -> None:
    expected, found = gradients(plain, lengths, **arguments), gradients(compiled, lengths, **arguments)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


SIZES = [[40, 23, 22, 9, 3, 1], [17, 17, 4], [33, 30, 29, 28, 27, 2, 2, 2], [12, 11]]


def test_results_are_the_same_and_other_lengths_take_no_other_program() -> None:
    plain, compiled, backend = encoders()
    check_same(plain, compiled, SIZES[0])
    programs = backend.programs
    # Before and after the attention; what comes of the embeddings and of a layer are laid out otherwise.
    assert 2 <= programs < 2 * 3
    for lengths in SIZES[1:]:
        check_same(plain, compiled, lengths)
    assert backend.programs == programs
    assert backend.runs == 2 * 3 * len(SIZES)


def test_what_is_frozen_gets_no_gradient_and_is_trained_again_after_it_thaws() -> None:
    plain, compiled, backend = encoders()
    programs: list[int] = []
    for frozen in (0, 3, 2, 1, 0, 2, 3, 1):  # blocks from the bottom: the embeddings, then layers
        for encoder in (plain, compiled):
            for number, block in enumerate(encoder.blocks()):
                block.train(number >= frozen)
                for parameter in block.parameters():
                    parameter.requires_grad_(number >= frozen)
        check_same(plain, compiled, SIZES[0])
        programs.append(backend.programs)
    assert programs[0] < programs[3]
    assert programs[4:] == [programs[3]] * 4  # what was frozen before takes no other program
    assert programs[3] < PROGRAMS


def test_the_first_tokens_alone_and_evaluation() -> None:
    plain, compiled, backend = encoders()
    check_same(plain, compiled, SIZES[0], first_only=True)
    programs = backend.programs
    for lengths in SIZES[1:]:
        check_same(plain, compiled, lengths, first_only=True)
    assert backend.programs == programs
    with torch.inference_mode():
        torch.testing.assert_close(compiled.eval()(batch()).hidden, plain.eval()(batch()).hidden)
    assert backend.programs > programs


def test_names_are_the_same_and_a_copy_is_of_its_own() -> None:
    plain, compiled, _ = encoders()
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in compiled.named_modules()] == [name for name, _ in plain.named_modules()]
    copied = copy.deepcopy(compiled)
    before = compiled(batch()).hidden
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(compiled(batch()).hidden, before)
    assert not torch.equal(copied(batch()).hidden, before)


def test_layers_can_be_left_out() -> None:
    plain, compiled, _ = encoders()
    found: list[Tensor] = []
    for encoder in (plain, compiled):
        with dropping(layers_of(encoder), iter([False, True, False]).__next__):
            found.append(encoder(batch()).hidden)
    torch.testing.assert_close(found[1], found[0])


def test_dropout_is_drawn_anew_in_each_pass_and_off_in_evaluation() -> None:
    torch.compiler.reset()
    encoder, backend = Encoder(transformer("bert")), Counted()
    compile_layers(packed_layers(encoder), backend)
    torch.manual_seed(0)
    first, second = encoder(batch()).hidden, encoder(batch()).hidden
    torch.manual_seed(0)
    assert torch.equal(encoder(batch()).hidden, first)
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(batch()).hidden, encoder(batch()).hidden)


@pytest.mark.parametrize(("model_type", "padding_free"), [("modernbert", True), ("bert", False)])
def test_layers_that_are_built_otherwise_are_refused(model_type: str, padding_free: bool) -> None:
    encoder = Encoder(transformer(model_type), padding_free=padding_free)
    with pytest.raises(
        ValueError, match=r"run.compile takes encoders whose layers .* got (Modern)?BertModel: set it"
    ):
        encoder.compile_layers()


def flash(
    qkv: Tensor, offsets: Tensor, longest: int, scaling: float, p: float, window: int | None = None
) -> Tensor:
    """What the kernels of a GPU give, by plain products."""
    query, key, value = qkv.permute(1, 2, 0, 3)
    rows = torch.bucketize(torch.arange(len(qkv), device=qkv.device), offsets, right=True)
    scores = query @ key.transpose(1, 2) * scaling
    scores = scores.masked_fill(rows[:, None] != rows, float("-inf"))
    return (scores.softmax(2) @ value).transpose(0, 1)


def check_one_program_a_layer(device: str, precision: torch.dtype, tolerance: float) -> None:
    """For batches of all shapes; with the results of the layers themselves."""
    plain, compiled, backend = encoders()
    plain.to(device)
    compiled.to(device)
    programs = set()
    for number, lengths in enumerate(([9, 5, 3], [17, 2], [30, 30, 30, 1])):
        texts = batch(lengths).to(device)
        found = []
        for encoder in (plain, compiled):
            encoder.zero_grad()
            with torch.autocast(device, precision, enabled=precision != torch.float32):
                hidden = encoder(texts).hidden
            hidden.float().square().sum().backward()
            found.append((hidden, encoder.word_embedding.weight.grad))
        torch.testing.assert_close(found[1][0], found[0][0], atol=tolerance, rtol=tolerance)
        assert (found[1][1] - found[0][1]).norm() < 2 * tolerance * found[0][1].norm()
        assert backend.runs == (number + 1) * len(packed_layers(compiled))
        programs.add(backend.programs)
    assert len(programs) == 1  # no new one after the first batch


def test_by_the_kernels_of_a_gpu_a_layer_is_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertlab.encoders.flash_attention.takes", lambda *_: True)
    monkeypatch.setattr("bertlab.encoders.flash_attention.flash_attention", flash)
    check_one_program_a_layer("cpu", torch.float32, 1e-5)


@pytest.mark.gpu
def test_on_cuda_a_layer_is_one_program() -> None:
    check_one_program_a_layer("cuda", torch.bfloat16, 0.03)
