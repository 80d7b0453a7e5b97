"""Two ranks: one run directory, and the files of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from bertlab.tracking.checkpoint_io import read_checkpoint

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


def bertlab(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bertlab.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.timeout(600)
def test_fit_resume_and_predict(in_tmp: Path) -> None:
    Path("two.yaml").write_text(yaml.safe_dump(CONFIG))
    done = bertlab("fit", "--config", "two.yaml")
    assert done.returncode == 0, done.stderr
    done = bertlab("fit", "--config", "two.yaml", "--ckpt_path=last", "--trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    done = bertlab("predict", "--config", "two.yaml", "--ckpt_path=best")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in Path("runs/two").iterdir()] == ["0"]
    run = Path("runs/two/0")
    lines = (run / "timeline.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines))
    # 48 rows over two ranks in batches of 4 are 6 steps an epoch.
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 12
    table = pq.read_table(run / "predictions" / "test.parquet")
    assert table["id"].to_pylist() == [f"row-{i}" for i in range(48)]
    assert not list(run.rglob("*.part"))
