"""metrics.csv, timeline.jsonl, run directories, atomic files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertlab.tracking.atomic import atomic_file
from bertlab.tracking.learning_rates import effective_rates
from bertlab.tracking.metrics_csv import MetricsCsv
from bertlab.tracking.run_directory import RunDirectory
from bertlab.tracking.timeline import Timeline


class TestAtomicFile:
    def test_failure_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_text("before")

        def interrupted() -> None:
            with atomic_file(path) as file:
                file.write(b"half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_others_may_read_it(self, tmp_path: Path) -> None:
        with atomic_file(tmp_path / "made" / "x.txt") as file:
            file.write(b"all")
        (tmp_path / "plain").write_text("")
        assert (tmp_path / "made" / "x.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


class TestMetricsCsv:
    def test_new_keys_are_new_columns(self, tmp_path: Path) -> None:
        metrics = MetricsCsv(tmp_path / "metrics.csv")
        metrics.log_metrics({"epoch": 0, "train/loss": 0.5}, step=0)
        metrics.log_metrics({"epoch": 0, "val/loss": 0.25}, step=0)
        metrics.log_metrics({"epoch": 1, "train/loss": 0.125}, step=1)
        assert (tmp_path / "metrics.csv").read_text().splitlines() == [
            "step,epoch,train/loss,val/loss",
            "0,0,0.5,",
            "0,0,,0.25",
            "1,1,0.125,",
        ]

    def test_rewind_drops_rows_and_columns_of_later_steps(self, tmp_path: Path) -> None:
        metrics = MetricsCsv(tmp_path / "metrics.csv")
        for step in range(3):
            metrics.log_metrics({"epoch": 0, "train/loss": 0.5}, step=step)
        before = (tmp_path / "metrics.csv").read_text()
        metrics.log_metrics({"epoch": 0, "val/loss": 0.25}, step=3)
        again = MetricsCsv(tmp_path / "metrics.csv")
        again.rewind(3)
        assert (tmp_path / "metrics.csv").read_text() == before
        again.log_metrics({"epoch": 0, "val/loss": 0.25}, step=3)
        assert (tmp_path / "metrics.csv").read_text().splitlines()[-1] == "3,0,,0.25"

    def test_a_row_that_a_kill_cut_off_is_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.csv"
        path.write_text("step,epoch,train/loss\n0,0,0.5\n1,0,0.")
        metrics = MetricsCsv(path)
        metrics.rewind(5)
        assert path.read_text() == "step,epoch,train/loss\n0,0,0.5\n"

    def test_rewind_of_a_new_run_makes_no_file(self, tmp_path: Path) -> None:
        MetricsCsv(tmp_path / "metrics.csv").rewind(5)
        assert not (tmp_path / "metrics.csv").exists()


def go_on_from(timeline: Timeline, events: int, fn: str = "fit") -> None:
    trainer: Any = SimpleNamespace(state=SimpleNamespace(fn=fn), is_global_zero=True)
    module: Any = None
    timeline.on_load_checkpoint(trainer, module, {"callbacks": {timeline.state_key: {"events": events}}})


class TestTimeline:
    def test_one_event_a_line(self, tmp_path: Path) -> None:
        timeline = Timeline(tmp_path / "timeline.jsonl")
        timeline.record_event(
            3, 1, "Restarts", "restart", {"cycle": 2, "blocks": ("a", "b"), "x": float("inf")}
        )
        lines = (tmp_path / "timeline.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {
                "step": 3,
                "epoch": 1,
                "strategy": "Restarts",
                "what": "restart",
                "facts": {"cycle": 2, "blocks": ["a", "b"], "x": "inf"},
            }
        ]

    def test_a_resume_drops_what_the_checkpoint_has_not_seen(self, tmp_path: Path) -> None:
        timeline = Timeline(tmp_path / "timeline.jsonl")
        for step in range(3):
            timeline.record_event(step, 0, "S", "x", {})
        with (tmp_path / "timeline.jsonl").open("a") as file:
            file.write('{"step": 9')
        again = Timeline(tmp_path / "timeline.jsonl")
        go_on_from(again, 2, fn="test")
        assert again.state_dict() == {"events": 3}
        go_on_from(again, 2)
        again.record_event(2, 0, "S", "y", {})
        events = [json.loads(line) for line in (tmp_path / "timeline.jsonl").read_text().splitlines()]
        assert [(event["step"], event["what"]) for event in events] == [(0, "x"), (1, "x"), (2, "y")]
        assert again.state_dict() == {"events": 3}


class TestRunDirectory:
    def test_versions_count_up(self, tmp_path: Path) -> None:
        assert [RunDirectory.new(tmp_path, "a").version for _ in range(11)] == [str(i) for i in range(11)]
        assert RunDirectory.newest(tmp_path, "a") is None
        for version in ("9", "10"):
            (tmp_path / "a" / version / "config.yaml").write_text("x: 1")
            newest = RunDirectory.newest(tmp_path, "a")
            assert newest is not None
            assert newest.version == version
        assert RunDirectory.newest(tmp_path, "b") is None

    def test_a_version_that_another_run_has_just_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        RunDirectory.new(tmp_path, "a")
        monkeypatch.setattr(RunDirectory, "versions", staticmethod(lambda *_: []))
        assert RunDirectory.new(tmp_path, "a").version == "1"

    @pytest.mark.parametrize("link", ["runs", "runs/a"])
    def test_a_link_that_leads_nowhere(self, tmp_path: Path, link: str) -> None:
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to(tmp_path / "gone")
        with pytest.raises(
            ValueError, match=r"run\.root is '.*runs', where no folder can be made: .*File exists"
        ):
            RunDirectory.new(tmp_path / "runs", "a")

    def test_another_run_is_refused_at_this_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused, mkdir = RunDirectory.new(tmp_path, "a"), Path.mkdir

        def interrupted(path: Path, *args: Any, **kwargs: Any) -> None:
            if path.name == "1":
                refused.remove_if_empty()
            mkdir(path, *args, **kwargs)

        monkeypatch.setattr(Path, "mkdir", interrupted)
        assert RunDirectory.new(tmp_path, "a").path == tmp_path / "a" / "1"
        assert (tmp_path / "a" / "1").is_dir()


def test_rate_of_a_block_is_schedule_times_strategy() -> None:
    groups = [
        {"lr": 0.1, "block": "head"},
        {"lr": 0.1, "block": "layer.0", "strategy_factor": 0.5},
        {"lr": 0.1, "block": "layer.0", "strategy_factor": 0.5},
        {"lr": 0.2},
    ]
    rates = effective_rates([SimpleNamespace(param_groups=groups)])
    assert rates == {"lr/head": 0.1, "lr/layer.0": 0.05, "lr/group-3": 0.2}
