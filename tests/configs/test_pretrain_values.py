"""What the configurations of BERT's own pretraining say, value by value, and how they go with the hardware overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BertConfig

from bertlab.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
ORIGINAL = CONFIGS / "pretrain" / "google_original.yaml"
HARDWARE = CONFIGS / "hardware"


def printed(capsys: pytest.CaptureFixture[str], *files: Path) -> dict[str, Any]:
    """The whole configuration of a run, with the defaults of all classes that it names."""
    flags = [flag for file in files for flag in ("--config", str(file))]
    with pytest.raises(SystemExit) as end:
        main(["fit", *flags, "--print_config"])
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    return yaml.safe_load(captured.out)


def test_the_original_trains_as_google_did(capsys: pytest.CaptureFixture[str]) -> None:
    """Devlin et al. 2019, appendix A.2; `optimization.py` of google-research/bert: Adam, its decay, clipping."""
    config = printed(capsys, ORIGINAL)
    model, trainer = config["model"]["init_args"], config["trainer"]
    assert model["objective"] == "mlm_nsp"
    assert model["optimizer"] == {
        "class_path": "bertlab.optimizers.bert_adam.BertAdam",
        "init_args": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.01},
    }
    assert (model["weight_decay"], model["layer_decay"]) == (None, 1.0), (
        "the optimizer's own; one rate for all"
    )
    assert model["schedule"]["class_path"] == "bertlab.schedules.linear_from_start.LinearFromStart"
    assert trainer["max_steps"] == 1_000_000
    assert model["schedule"]["init_args"]["warmup_fraction"] * trainer["max_steps"] == 10_000
    assert (trainer["gradient_clip_val"], trainer["gradient_clip_algorithm"]) == (1.0, None), "by the norm"


def test_the_original_is_google_s_model(capsys: pytest.CaptureFixture[str]) -> None:
    """`bert_config.json` of BERT base, uncased; `modeling.py`: `gelu` by tanh, `truncated_normal_initializer`."""
    encoder = printed(capsys, ORIGINAL)["model"]["init_args"]["encoder"]["init_args"]
    assert encoder["model_type"] == "bert"
    assert encoder["truncated_normal"] is True
    assert (encoder["dropout"], encoder["attention_dropout"]) == (None, None), "as the configuration says"
    made = BertConfig(**encoder["config"])
    wanted = {
        "vocab_size": 30_522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
    }  # fmt: skip
    assert {name: getattr(made, name) for name in wanted} == wanted


def test_the_original_has_google_s_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Appendix A.2, and the flags of `create_pretraining_data.py`."""
    data = printed(capsys, ORIGINAL)["data"]["init_args"]
    assert [(phase["length"], phase["fraction"]) for phase in data["phases"]] == [(128, 0.9), (512, 0.1)]
    wanted = {
        "batch_size": 256, "batch_tokens": None, "sentence_task": "next_sentence", "masking": "token",
        "mask_rate": 0.15, "mask_share": 0.8, "random_share": 0.1, "short_fraction": 0.1,
    }  # fmt: skip
    assert {name: data[name] for name in wanted} == wanted
    assert {phase["batch_size"] for phase in data["phases"]} == {None}


@pytest.mark.parametrize("more", ["ddp", "multi_node"])
@pytest.mark.parametrize("name", ["google_original", "bert_base_wikipedia"])
def test_more_gpus_after_one_gpu_compute_in_its_precision(
    name: str, more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, one = CONFIGS / "pretrain" / f"{name}.yaml", HARDWARE / "one_gpu.yaml"
    overlay = yaml.safe_load((HARDWARE / f"{more}.yaml").read_text())["trainer"]
    config = printed(capsys, base, one, HARDWARE / f"{more}.yaml")
    assert {key: config["trainer"][key] for key in overlay} == overlay
    assert config["trainer"]["precision"] == "bf16-mixed"
    assert config["run"]["float32_matmul_precision"] == "high"
    assert "after one_gpu.yaml" in base.read_text()
