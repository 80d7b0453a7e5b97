"""Every file under configs/pretrain trains two steps, as it is but for the size of model and batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bertlab.cli import main
from tests.corpus.corpus_text import corpus, google_text, write_config

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
}  # fmt: skip
MODERN = {
    f"{token}_token_id": place
    for token, place in (("pad", 0), ("cls", 2), ("bos", 2), ("sep", 3), ("eos", 3))
}
FROM_CONFIG = "bertlab.encoders.from_config.EncoderFromConfig"


def encoder_of(path: Path) -> dict[str, object]:
    named = yaml.safe_load(path.read_text())["model"]["init_args"]["encoder"]
    return yaml.safe_load((path.parent / named).read_text()) if isinstance(named, str) else named


PRETRAIN = sorted(CONFIGS.glob("pretrain/**/*.yaml"))
FROM_SCRATCH = [path for path in PRETRAIN if encoder_of(path)["class_path"] == FROM_CONFIG]
FROM_CHECKPOINT = [path for path in PRETRAIN if path not in FROM_SCRATCH]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text(google_text(60))
    corpus(write_config(folder))
    return folder / "small"


@pytest.mark.parametrize("path", FROM_SCRATCH, ids=lambda path: path.stem)
def test_trains_two_steps(path: Path, store: Path, in_tmp: Path) -> None:
    given = encoder_of(path)["init_args"]
    modern = MODERN if given["model_type"] == "modernbert" else {}
    settings = {**given.get("config", {}), **SMALL, **modern}
    accumulated = yaml.safe_load(path.read_text())["trainer"].get("accumulate_grad_batches", 1)
    main([
        "fit", "--config", str(path), "--data.store", str(store), f"--data.batch_size={8 * accumulated}",
        f"--model.encoder.init_args.config={json.dumps(settings)}", "--data.batch_warmup_start=16",
        "--data.validation_fraction=0.1", "--trainer.accelerator=cpu", "--trainer.max_steps=2",
        f"--trainer.val_check_interval={2 * accumulated}", "--trainer.limit_val_batches=1",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--wandb.mode=disabled",
    ])  # fmt: skip
    run = in_tmp / "runs" / path.stem / "0"
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert "val/loss" in (run / "metrics.csv").read_text()


@pytest.mark.parametrize("path", FROM_CHECKPOINT, ids=lambda path: path.stem)
def test_goes_on_from_a_checkpoint_for_two_steps(
    path: Path, tiny_store: str, tiny_bert: str, in_tmp: Path
) -> None:
    main(
        [
            "fit",
            "--config",
            str(path),
            f"--model.encoder.init_args.source={tiny_bert}",
            f"--data.init_args.store={tiny_store}",
            "--data.init_args.batch_size=8",
            "--data.init_args.validation_fraction=0.1",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1",
            "--trainer.limit_train_batches=2",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            "--wandb.mode=disabled",
        ]
    )
    assert (in_tmp / "runs" / path.stem / "0" / "checkpoints" / "best.ckpt").exists()
