"""Against TensorFlow itself, in an environment of its own (tests/tensorflow/make_environment.sh)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForPreTraining

from bertlab.encoders.blocks import blocks_of
from bertlab.encoders.from_config import EncoderFromConfig
from bertlab.encoders.pretrained import PretrainedEncoder
from bertlab.export.hugging_face import export_hugging_face
from bertlab.interfaces import Block, TextBatch
from bertlab.optimizers.bert_adam import BertAdam
from bertlab.optimizers.parameter_groups import build_optimizer, parameter_groups
from bertlab.schedules.linear_from_start import LinearFromStart
from bertlab.sources.google_checkpoint import read_google_checkpoint
from bertlab.sources.google_conversion import convert_google_checkpoint
from bertlab.sources.google_names import torch_name
from bertlab.sources.tensor_bundle import TensorBundle
from bertlab.tasks.pretraining import Pretraining
from tests.google_bert import CONFIG, all_values, shapes, value
from tests.tensorflow.adam_update import RATE, STEPS, WARM, gradients_at
from tests.tokenizers import write_tokenizer

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("how", [(), ("--parts", 3, "--devices", 2)], ids=["one file", "sharded, in parts"])
def test_a_checkpoint_of_tensorflow_s_saver(
    tmp_path: Path, under_tensorflow: Callable[..., None], how: tuple
):
    under_tensorflow("write_checkpoint", tmp_path, *how)
    bundle = TensorBundle(tmp_path / "bert_model.ckpt")
    expected = all_values()
    assert set(bundle.names) == {*expected, "global_step"}
    for name, array in expected.items():
        np.testing.assert_array_equal(bundle.read(name), array, strict=True)
    _, weights = read_google_checkpoint(tmp_path)
    assert len(weights) == len(shapes()) + 2  # Adam's moments skipped, the tied decoder named
    for name in shapes():
        array = expected[name].T if name.endswith("/kernel") else expected[name]
        np.testing.assert_array_equal(weights[torch_name(name)].numpy(), array, strict=True)


def test_the_fixtures_are_what_this_tensorflow_writes(tmp_path: Path, under_tensorflow: Callable[..., None]):
    under_tensorflow("write_checkpoint", tmp_path)
    fixture = Path(__file__).parents[1] / "sources" / "google_tiny"
    for path in fixture.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def padded_batch(size: int, length: int, vocabulary: int) -> tuple[dict[str, np.ndarray], TextBatch]:
    """Random tokens in both forms: padded as KerasHub takes them, packed as bertlab does."""
    random = np.random.default_rng(0)
    lengths = np.sort(random.integers(2, length + 1, size))[::-1].copy()
    real = np.arange(length) < lengths[:, None]
    ids = np.where(real, random.integers(5, vocabulary, (size, length)), 0)
    types = np.where(real, np.arange(length) >= lengths[:, None] // 2, 0)
    padded = {
        "input_ids": ids,
        "token_type_ids": types.astype(np.int64),
        "attention_mask": real.astype(np.int64),
    }
    tensors = [torch.from_numpy(padded[name][real]) for name in ("input_ids", "token_type_ids")]
    return padded, TextBatch(*tensors, torch.from_numpy(lengths), torch.arange(size))


@pytest.mark.parametrize("source", ["google", "transformers", "bertlab"])
def test_keras_hub_says_the_same(tmp_path: Path, under_tensorflow: Callable[..., None], source: str):
    folder = tmp_path / "exported"
    vocabulary, length = 200, 64
    settings = {
        "vocab_size": vocabulary, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 256, "max_position_embeddings": length, "hidden_act": "gelu_new", "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(0)
    encoder = None
    if source == "google":
        under_tensorflow("write_checkpoint", tmp_path / "google")
        convert_google_checkpoint(tmp_path / "google", folder)
        vocabulary, length = CONFIG["vocab_size"], CONFIG["max_position_embeddings"]
    elif source == "transformers":
        BertForPreTraining(BertConfig(**settings)).save_pretrained(folder)
    else:
        encoder = EncoderFromConfig("bert", settings)
        task = Pretraining(encoder)
        task.head = task.build_head()
        write_tokenizer(tmp_path / "tokenizer", [f"piece{number}" for number in range(vocabulary - 5)])
        export_hugging_face(task, AutoTokenizer.from_pretrained(tmp_path / "tokenizer"), folder)
    padded, packed = padded_batch(6, length, vocabulary)
    np.savez(tmp_path / "inputs.npz", **padded)
    under_tensorflow("keras_hub_states", folder, tmp_path / "inputs.npz", tmp_path / "outputs.npz")
    real = padded["attention_mask"].astype(bool)
    model = BertForPreTraining.from_pretrained(folder).eval()
    with torch.no_grad():
        plain = model.bert(**{name: torch.from_numpy(array) for name, array in padded.items()})
        ours = (encoder or PretrainedEncoder(str(folder))).eval()(packed)
    with np.load(tmp_path / "outputs.npz") as said:
        np.testing.assert_allclose(plain.last_hidden_state[real], said["hidden"][real], atol=1e-4)
        np.testing.assert_allclose(ours.hidden, said["hidden"][real], atol=1e-4)
        np.testing.assert_allclose(ours.pooled, said["pooled"], atol=1e-4)


def test_a_training_run_of_google_s_optimizer(tmp_path: Path, under_tensorflow: Callable[..., None]):
    under_tensorflow("adam_update", tmp_path / "variables.npz")
    model = BertForPreTraining(BertConfig(**CONFIG))
    parameters = dict(model.named_parameters())
    named = {variable: parameters[torch_name(variable)] for variable in shapes()}

    def oriented(variable: str, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((array.T if variable.endswith("/kernel") else array).copy())

    with torch.no_grad():
        for variable, parameter in named.items():
            parameter.copy_(oriented(variable, value(variable, shapes()[variable])))
    blocks = [*blocks_of(model.bert), Block("head", (model.cls,), 0)]
    optimizer = build_optimizer(
        lambda groups: BertAdam(groups, lr=RATE), parameter_groups(blocks, None, model=model)
    )
    schedule = LinearFromStart(warmup_fraction=WARM / STEPS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(min(step / STEPS, 1.0)))
    for step in range(STEPS):
        for variable, gradient in gradients_at(step).items():
            named[variable].grad = oriented(variable, gradient)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    with np.load(tmp_path / "variables.npz") as expected:
        for variable, parameter in named.items():
            wanted = oriented(variable, expected[variable.replace("/", "|")])
            torch.testing.assert_close(parameter.detach(), wanted, rtol=2e-5, atol=1e-6, msg=variable)
