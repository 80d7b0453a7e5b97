"""Two ranks: one run directory, and the files of one process."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from bertlab.tracking.checkpoint_io import read_checkpoint
from tests.system.tiny_project import bertlab_on_two_ranks

CONFIG = {
    "model": {"class_path": "small.SmallTask"},
    "data": {"class_path": "small.SmallData"},
    "trainer": {
        "accelerator": "cpu",
        "devices": 2,
        "max_epochs": 1,
        "strategy": "ddp",
        "use_distributed_sampler": True,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "small.Note"}],
    },
    "wandb": {"mode": "disabled"},
}


@pytest.mark.timeout(600)
def test_fit_resume_and_predict(in_tmp: Path) -> None:
    Path("two.yaml").write_text(yaml.safe_dump(CONFIG))
    bertlab_on_two_ranks(in_tmp, "fit", "--config", "two.yaml", "--run.version=0")
    more = ("--ckpt_path=last", "--trainer.max_epochs=2")
    bertlab_on_two_ranks(in_tmp, "fit", "--config", "two.yaml", *more)
    bertlab_on_two_ranks(in_tmp, "predict", "--config", "two.yaml", "--ckpt_path=best")
    assert [path.name for path in Path("runs/two").iterdir()] == ["0"]
    run = Path("runs/two/0")
    lines = (run / "timeline.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines))
    # 48 rows over two ranks in batches of 4 are 6 steps an epoch.
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 12
    table = pq.read_table(run / "predictions" / "test.parquet")
    assert table["id"].to_pylist() == [f"row-{i}" for i in range(48)]
    assert not list(run.rglob("*.part"))
