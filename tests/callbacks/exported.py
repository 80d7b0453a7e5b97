"""What the command makes of a fit with adapters: a folder in which transformers alone says what bertlab says."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from transformers import BertForSequenceClassification

from bertlab.cli import main
from tests.callbacks.tiny_bert import bert_data, bert_task
from tests.encoders.tiny import padded_inputs
from tests.system.tiny_project import write_project


def check_exported(folder: Path, fragment: str, rate: float | None = None) -> None:
    """Fit with a fragment, export, and compare; training has changed what is said.

    Args:
        folder: to work in; the cache is as the environment says.
        fragment: name of a file of configs/callbacks, which puts adapters in.
        rate: of the optimizer; None: that of the tiny project.
    """
    file = write_project(folder, max_epochs=1, callbacks=[])
    config = yaml.safe_load(file.read_text())
    config["trainer"]["callbacks"] = [yaml.safe_load(Path(f"configs/callbacks/{fragment}.yaml").read_text())]
    if rate is not None:
        config["model"]["init_args"]["optimizer"]["init_args"]["lr"] = rate
    config["run"] = {"root": str(folder / "runs"), "name": "adapters", "test_after_fit": False}
    file.write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(file)])
    main(["export", "--config", str(file), "--ckpt_path", "last", "--output", str(folder / "out")])

    model, info = BertForSequenceClassification.from_pretrained(folder / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    checkpoint = torch.load(folder / "runs/adapters/0/checkpoints/last.ckpt", weights_only=True)
    task = bert_task(folder)
    task.on_load_checkpoint(checkpoint)
    task.load_state_dict(checkpoint["state_dict"])
    task.eval()
    rows = bert_data(folder).dataset("train").batch([0, 1, 2, 3, 4])
    inputs, _ = padded_inputs(rows, 0, types=True)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(**inputs).logits, task(rows), rtol=1e-4, atol=1e-5)
        start = bert_task(folder).encoder.eval()(rows).first
        assert not torch.allclose(start, task.encoder(rows).first, atol=1e-3)
