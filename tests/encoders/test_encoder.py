"""Every type of encoder says on packed batches what transformers says on padded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from bertlab.encoders.dropout import Dropout
from bertlab.encoders.encoder import Encoder
from bertlab.encoders.packed_layer import PackedLayer
from tests.encoders.tiny import CONFIGS, LENGTHS, PACKED, POOLERS, batch, padded_inputs, transformer

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
NO_DROPOUT = {
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout": 0.0, "attention_dropout": 0.0,
    "mlp_dropout": 0.0, "embedding_dropout": 0.0,
}  # fmt: skip


def without_dropout(model_type: str, attention: float = 0.0) -> dict[str, float]:
    known = transformer(model_type).config
    found = {name: value for name, value in NO_DROPOUT.items() if hasattr(known, name)}
    return {name: attention if name.startswith("attention") else value for name, value in found.items()}


def has_types(model_type: str) -> bool:
    return model_type in ("bert", "electra", "albert", "roberta", "deberta-v2")


def theirs(model: torch.nn.Module, packed, model_type: str):
    inputs, real = padded_inputs(packed, model.config.pad_token_id, has_types(model_type))
    output = model(**inputs)
    return output.last_hidden_state[real], output.get("pooler_output")


@pytest.mark.parametrize("model_type", CONFIGS)
def test_which_models_are_padding_free(model_type: str):
    assert Encoder(transformer(model_type)).padding_free == (model_type in PACKED)
    encoder = Encoder(transformer(model_type), padding_free=False)
    assert not encoder.padding_free


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra"])
def test_layers_like_those_of_bert_are_replaced(model_type: str):
    encoder = Encoder(transformer(model_type))
    assert sum(isinstance(module, PackedLayer) for module in encoder.modules()) == 3


@pytest.mark.parametrize("model_type", CONFIGS)
def test_dropout_is_the_cheap_one(model_type: str):
    modules = list(Encoder(transformer(model_type)).modules())
    assert any(type(module) is Dropout for module in modules)
    assert not any(type(module) is torch.nn.Dropout for module in modules)


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize("model_type", CONFIGS)
def test_equals_transformers_token_by_token(model_type: str, padding_free: bool):
    reference = transformer(model_type).eval()
    encoder = Encoder(transformer(model_type), padding_free).eval()
    packed = batch(types=has_types(model_type))
    with torch.no_grad():
        hidden, pooled = theirs(reference, packed, model_type)
        ours, first = encoder(packed), encoder(packed, first_only=True)
    torch.testing.assert_close(ours.hidden, hidden, **TOLERANCE)
    starts = packed.lengths.cumsum(0) - packed.lengths
    torch.testing.assert_close(ours.first, hidden[starts], **TOLERANCE)
    torch.testing.assert_close(first.first, hidden[starts], **TOLERANCE)
    assert first.hidden.shape == (0, hidden.shape[1])
    assert (ours.pooled is not None) == (model_type in POOLERS)
    if ours.pooled is not None:
        torch.testing.assert_close(ours.pooled, pooled, **TOLERANCE)
        torch.testing.assert_close(first.pooled, pooled, **TOLERANCE)


# 1e-9 drops nothing but takes the path of attention with dropout.
@pytest.mark.parametrize("attention_dropout", [0.0, 1e-9])
@pytest.mark.parametrize("model_type", PACKED)
def test_gradients_equal_those_of_transformers_eager_attention(model_type: str, attention_dropout: float):
    reference = transformer(model_type, **without_dropout(model_type)).train()
    encoder = Encoder(transformer(model_type, **without_dropout(model_type, attention_dropout)))
    assert encoder.training
    packed = batch(types=has_types(model_type))
    hidden, _ = theirs(reference, packed, model_type)
    weights = torch.randn_like(hidden)
    (hidden * weights).sum().backward()
    (encoder(packed).hidden * weights).sum().backward()
    expected = dict(reference.named_parameters())
    for name, parameter in encoder.model.named_parameters():
        if expected[name].grad is None or name.startswith("pooler"):
            assert parameter.grad is None, name
        else:
            scale = expected[name].grad.abs().max().clamp(min=1.0)
            error = (parameter.grad - expected[name].grad).abs().max() / scale
            assert error < 2e-5, (name, error)


@pytest.mark.parametrize("ask", ["all", "first", "some"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "modernbert"])
def test_filler_changes_neither_results_nor_gradients(
    monkeypatch: pytest.MonkeyPatch, model_type: str, ask: str
):
    packed = batch(types=has_types(model_type))
    asked = {"all": {}, "first": {"first_only": True}, "some": {"positions": torch.tensor([1, 9, 4])}}[ask]
    plain, filled = (Encoder(transformer(model_type, **without_dropout(model_type))) for _ in range(2))
    found = []
    for encoder in (plain, filled):
        output = encoder(packed, **asked)
        (output.hidden.square().sum() + output.first.square().sum()).backward()
        found.append((output.hidden, output.first, {n: p.grad for n, p in encoder.named_parameters()}))
        monkeypatch.setattr(Encoder, "_multiple", lambda *_: 16)
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "32-true"])
def test_shapes_come_again_in_bfloat16(precision: str):
    encoder = Encoder(transformer("bert"))
    rows: list[int] = []
    for module in encoder.modules():
        if type(module) is torch.nn.Linear and module.out_features == encoder.config.intermediate_size:
            module.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[0]))
    if precision == "bf16-true":
        encoder = encoder.bfloat16()
    packed = batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        hidden = encoder(packed).hidden
    assert hidden.shape[0] == sum(LENGTHS)
    assert rows == 3 * [sum(LENGTHS) if precision == "32-true" else 64 * -(-sum(LENGTHS) // 64)]


def test_rough_products_are_not_taken_for_another_model():
    """The comparison that decides whether a model is run on packed tokens is exact, whatever the run asks for."""
    seen: set[str] = set()
    watch = torch.nn.modules.module.register_module_forward_hook(
        lambda *_: seen.add(torch.get_float32_matmul_precision())
    )
    torch.set_float32_matmul_precision("medium")
    try:
        encoder = Encoder(transformer("bert"))
        after = torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision("highest")
        watch.remove()
    assert encoder.padding_free
    assert (seen, after) == ({"highest"}, "medium")


def test_gradients_of_the_first_tokens_alone():
    settings = without_dropout("bert")
    whole, few = Encoder(transformer("bert", **settings)), Encoder(transformer("bert", **settings))
    packed = batch()
    for encoder, first_only in ((whole, False), (few, True)):
        encoder(packed, first_only=first_only).pooled.square().sum().backward()
    for (name, one), other in zip(whole.named_parameters(), few.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_neighbour_changes_nothing_bit_for_bit(model_type: str):
    encoder = Encoder(transformer(model_type)).eval()
    packed, edited = batch(types=has_types(model_type)), batch(types=has_types(model_type))
    begin, end = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    edited.input_ids[begin:end] = edited.input_ids[begin:end].flip(0)
    with torch.no_grad():
        one, other = encoder(packed).hidden, encoder(edited).hidden
    assert torch.equal(one[:begin], other[:begin])
    assert torch.equal(one[end:], other[end:])
    assert not torch.equal(one[begin:end], other[begin:end])


@pytest.mark.parametrize("model_type", CONFIGS)
def test_weights_have_the_names_of_transformers(model_type: str, tmp_path: Path):
    encoder = Encoder(transformer(model_type))
    reference = transformer(model_type)
    assert list(encoder.model.state_dict()) == list(reference.state_dict())
    encoder.model.save_pretrained(tmp_path)
    loaded, found = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    packed = batch(types=has_types(model_type))
    with torch.no_grad():
        hidden, _ = theirs(loaded, packed, model_type)
        torch.testing.assert_close(encoder.eval()(packed).hidden, hidden, **TOLERANCE)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_blocks_hold_every_parameter_once_in_order(model_type: str):
    encoder = Encoder(transformer(model_type))
    blocks = encoder.blocks()
    layers = 1 if model_type == "albert" else 3
    names = ["embeddings", *(f"layer.{i}" for i in range(layers))]
    assert [block.name for block in blocks] == names + ["pooler"] * (model_type in POOLERS)
    assert [block.depth for block in blocks] == list(range(len(blocks), 0, -1))
    held = [id(parameter) for block in blocks for parameter in block.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in encoder.parameters()}
    modules = [id(module) for block in blocks for module in block.modules]
    assert len(modules) == len(set(modules))
    assert encoder.blocks()[1] is blocks[1]


def test_modules_beside_the_layers_are_in_the_block_that_they_act_with():
    def held(model_type: str) -> dict[str, set[str]]:
        encoder = Encoder(transformer(model_type))
        names = {id(parameter): name for name, parameter in encoder.model.named_parameters()}
        return {block.name: {names[id(p)] for p in block.parameters()} for block in encoder.blocks()}

    assert "final_norm.weight" in held("modernbert")["layer.2"]
    assert "embeddings_project.weight" in held("electra")["embeddings"]
    assert "encoder.embedding_hidden_mapping_in.weight" in held("albert")["embeddings"]
    assert {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight"} <= held("deberta-v2")["embeddings"]
    assert "encoder.relative_attention_bias.weight" in held("mpnet")["embeddings"]


@pytest.mark.parametrize("model_type", CONFIGS)
def test_frozen_lower_blocks_have_no_graph(model_type: str):
    encoder = Encoder(transformer(model_type))
    blocks = encoder.blocks()
    top = max(i for i, block in enumerate(blocks) if block.name.startswith("layer."))
    for block in blocks[:top]:
        block.train(False)
        for parameter in block.parameters():
            parameter.requires_grad_(False)
    seen: list[torch.Tensor] = []
    for block in blocks[:top]:
        for module in block.modules:
            module.register_forward_hook(lambda *call: seen.append(call[2]))
    output = encoder(batch(types=has_types(model_type)))
    tensors = [value for value in seen if isinstance(value, torch.Tensor)]
    assert tensors
    assert not any(value.requires_grad for value in tensors)
    if model_type != "albert":  # its one layer is the top one
        assert output.hidden.requires_grad
        output.hidden.sum().backward()
        assert all(parameter.grad is None for block in blocks[:top] for parameter in block.parameters())


@pytest.mark.parametrize("model_type", CONFIGS)
def test_dropout_follows_the_generator_and_the_mode(model_type: str):
    encoder = Encoder(transformer(model_type))
    packed = batch(types=has_types(model_type))
    with torch.no_grad():
        torch.manual_seed(1)
        one, other = encoder(packed).hidden, encoder(packed).hidden
        torch.manual_seed(1)
        assert torch.equal(encoder(packed).hidden, one)
        assert not torch.equal(one, other)
        encoder.eval()
        assert torch.equal(encoder(packed).hidden, encoder(packed).hidden)


@pytest.mark.parametrize("padding_free", [True, False])
@pytest.mark.parametrize(("model_type", "longest"), [("bert", 66), ("roberta", 64), ("distilbert", 66)])
def test_the_longest_sequence_and_one_more(model_type: str, longest: int, padding_free: bool):
    encoder = Encoder(transformer(model_type), padding_free)
    assert encoder.max_length == longest
    assert encoder(batch([longest], types=False)).hidden.shape == (longest, 32)
    with pytest.raises(
        ValueError, match=f"a sequence has {longest + 1} tokens; the encoder takes 1 to {longest}"
    ):
        encoder(batch([longest + 1], types=False))
    with pytest.raises(ValueError, match="a sequence has 0 tokens"):
        encoder(batch([3, 0], types=False))


def test_an_id_beyond_the_vocabulary_is_refused():
    encoder = Encoder(transformer("bert"))
    packed = batch()
    packed.input_ids[3] = 100
    with pytest.raises(
        ValueError, match="a token has the id 100, the embedding of the encoder has only 100 rows"
    ):
        encoder(packed)
    assert encoder.vocabulary_size == 100


def test_bfloat16_autocast_stays_near_float32():
    settings = without_dropout("bert", 1e-9)
    exact, rough = Encoder(transformer("bert", **settings)), Encoder(transformer("bert", **settings))
    packed = batch()
    exact(packed).hidden.square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = rough(packed).hidden
    hidden.float().square().sum().backward()
    torch.testing.assert_close(hidden.float(), exact(packed).hidden, atol=0.1, rtol=0.1)
    for (name, one), other in zip(exact.model.named_parameters(), rough.model.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad.dtype == torch.float32
            error = (one.grad - other.grad).norm() / one.grad.norm().clamp(min=1e-3)
            assert error < 0.1 or name.endswith("key.bias"), (name, error)  # a key's bias has no gradient


@pytest.mark.gpu
@pytest.mark.parametrize("model_type", CONFIGS)
def test_on_cuda_it_is_what_it_is_on_the_cpu(model_type: str):
    encoder = Encoder(transformer(model_type)).eval()
    packed = batch(types=has_types(model_type))
    with torch.no_grad():
        expected = encoder(packed).hidden
        found = encoder.cuda()(packed.to("cuda")).hidden.cpu()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
