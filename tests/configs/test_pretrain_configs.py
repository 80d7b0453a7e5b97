"""Every file under configs/pretrain trains a few steps, in each of its phases, with a small model and batch."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from bertlab.cli import main
from bertlab.interfaces import PretrainingBatch
from bertlab.tasks.pretraining import Pretraining
from tests.corpus.corpus_text import corpus, document, write_config
from tests.ranks import on_two_ranks
from tests.warm import leave_ranks, rank_environments, slurm_environments, take_environment

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
    # Long enough for sequences of 512 pieces.
    texts = ["\n".join(document(number, sentences=30)) for number in range(60)]
    (folder / "text.txt").write_text("\n\n".join(texts) + "\n")
    corpus(write_config(folder))
    return folder / "small"


@pytest.mark.parametrize("path", FROM_SCRATCH, ids=lambda path: path.stem)
def test_trains_in_each_phase(path: Path, store: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, file = encoder_of(path)["init_args"], yaml.safe_load(path.read_text())
    modern = MODERN if given["model_type"] == "modernbert" else {}
    settings = {**given.get("config", {}), **SMALL, **modern}
    accumulated = file["trainer"].get("accumulate_grad_batches", 1)
    phases = file["data"]["init_args"].get("phases", [{"length": 128}])
    # With fewer than six, the nine steps in ten of a first phase would be all.
    steps = 2 if len(phases) == 1 else 6
    lengths: list[int] = []
    loss = Pretraining.training_loss

    def watched(task: Pretraining, batch: PretrainingBatch) -> Tensor:
        lengths.append(int(batch.lengths.max()))
        return loss(task, batch)

    monkeypatch.setattr(Pretraining, "training_loss", watched)
    main([
        "fit", "--config", str(path), "--data.store", str(store), f"--data.batch_size={8 * accumulated}",
        f"--model.encoder.init_args.config={json.dumps(settings)}", "--data.batch_warmup_start=16",
        "--data.validation_fraction=0.1", "--trainer.accelerator=cpu", f"--trainer.max_steps={steps}",
        f"--trainer.val_check_interval={steps * accumulated}", "--trainer.limit_val_batches=1",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--wandb.mode=disabled",
    ])  # fmt: skip
    run = in_tmp / "runs" / path.stem / "0"
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert "val/loss" in (run / "metrics.csv").read_text()
    bounds = [0, *(phase["length"] for phase in phases)]
    for shorter, longer in pairwise(bounds):
        assert any(shorter < length <= longer for length in lengths), f"no step of length {longer}"


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


def fits(folder: Path, launches: list[tuple[list[dict[str, str]], list[str]]]) -> None:
    """One `bertlab fit` after another, each as its launcher starts it: what that sets for each rank, and the flags."""
    rank, torchrun = int(os.environ["RANK"]), set(rank_environments()[0])
    own = {name: value for name, value in os.environ.items() if name not in torchrun}
    os.chdir(folder)
    for environments, flags in launches:
        take_environment(own | environments[rank])
        main(["fit", *flags])
        leave_ranks()


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_two_machines_are_two_devices_of_one(store: Path, tmp_path: Path) -> None:
    hardware = CONFIGS / "hardware"
    tiny = [
        "--config", str(CONFIGS / "pretrain" / "bert_base_wikipedia.yaml"), "--data.store", str(store),
        f"--model.encoder.init_args.config={json.dumps(SMALL)}", "--data.batch_size=8",
        "--data.validation_fraction=0.1", "--trainer.max_steps=4", "--trainer.val_check_interval=4",
        "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", "--wandb.mode=disabled",
    ]  # fmt: skip
    cpu = ["--trainer.accelerator=cpu", "--trainer.devices"]
    ddp = [*tiny, "--config", str(hardware / "multi_node.yaml"), *cpu, "1", "--run.name", "ddp"]
    fsdp = [*tiny, "--config", str(hardware / "multi_node_fsdp.yaml"), *cpu, "1", "--run.name", "fsdp"]
    fsdp += ["--trainer.strategy.init_args.data_parallel_size=2"]
    one = [*tiny, "--config", str(hardware / "ddp.yaml"), *cpu, "2", "--run.name", "one"]
    modern = encoder_of(CONFIGS / "pretrain" / "crammed_24h.yaml")["init_args"]["config"] | SMALL | MODERN
    # The smallest of its batches is what two machines with eight GPUs each take at a time.
    crammed = [
        "--config", str(CONFIGS / "pretrain" / "crammed_24h.yaml"), "--data.store", str(store),
        "--config", str(hardware / "multi_node.yaml"), *cpu, "1", "--run.name", "crammed",
        f"--model.encoder.init_args.config={json.dumps(modern)}", "--trainer.max_steps=4",
        "--trainer.val_check_interval=64", "--data.batch_size=64", "--data.batch_warmup_start=32",
        "--data.validation_fraction=0.1", *tiny[-3:],
    ]  # fmt: skip
    launches = [
        (rank_environments(), [*one, "--run.version=a"]),
        (rank_environments(nodes=2), [*ddp, "--run.version=a"]),
        (slurm_environments(), fsdp),
        (rank_environments(nodes=2), [*crammed, "--run.version=a"]),
    ]
    on_two_ranks(fits, tmp_path, tmp_path, launches)
    runs = [tmp_path / "runs" / run for run in ("one/a", "ddp/a", "fsdp/4711")]
    assert last_weights(tmp_path / "runs" / "crammed" / "a")
    tables = [(run / "metrics.csv").read_text().splitlines() for run in runs]
    assert len(tables[0]) > 4
    assert tables[0] == tables[1]
    whole, across, sharded = (last_weights(run) for run in runs)
    assert whole.keys() == across.keys() == sharded.keys()
    for name, value in whole.items():
        assert torch.equal(across[name], value), name
        torch.testing.assert_close(sharded[name], value, rtol=1e-3, atol=1e-5, msg=name)
