"""The steps of a build on Ray, by datatrove."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from bertlab.corpus.datatrove_executor import KILLED, DatatroveExecutor
from bertlab.corpus.executors import BuildError, cores
from bertlab.corpus.stage_run import STAGE, StageRun

GIB = 1 << 30
OBJECTS_BYTES = 100 << 20  # of Ray's memory of objects, when it is started here: what is sent is small
ANSWER_SECONDS = 60  # in which a node has to say what it sees


@dataclass(frozen=True, kw_only=True)
class DatatroveRay(DatatroveExecutor):
    """Tasks on a Ray cluster.

    One that asks for a token finds it as Ray does, by `RAY_AUTH_MODE=token` and `RAY_AUTH_TOKEN` in the environment.

    Attributes:
        workers: tasks that run at the same time; null: as many as the cluster has CPUs for `cpus_per_task` each.
        tasks: what a stage is divided into at most; null: four for each worker.
        cpus_per_task: CPUs that a task reserves, and its processes.
        mem_per_cpu_gb: memory that a task reserves for each of its CPUs, GiB.
        address: of the cluster, `auto` on one of its nodes, or `host:port` of its head; null: Ray is started on this
            machine for the time of a stage (or, where a program has connected to one already, that one).
    """

    mem_per_cpu_gb: float = 1.0
    address: str | None = None

    packages: ClassVar[tuple[str, ...]] = ("datatrove", "ray")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mem_per_cpu_gb < 0:
            raise ValueError(f"executor.mem_per_cpu_gb: {self.mem_per_cpu_gb} is not accepted: 0 or more.")

    def check(self) -> None:
        """As `Executor.check`; a cluster that is named has to answer."""
        super().check()
        if self.address is not None:
            with self._connected():
                pass

    def execute(self, run: StageRun, shards: int, look: Callable[[], list[int]]) -> None:
        """As `DatatroveExecutor.execute`."""
        from datatrove.executor import RayPipelineExecutor

        from bertlab.corpus.datatrove_parts import StageStep

        with self._connected():
            cpus = self._check_nodes(run.folder)
            workers = self.workers or max(1, cpus // self.cpus_per_task)
            tasks = self.tasks_of(shards, workers)
            executor = RayPipelineExecutor(
                pipeline=[StageStep(run.folder, self.cpus_per_task)],
                tasks=tasks,
                workers=min(tasks, workers),
                logging_dir=str(run.folder),
                cpus_per_task=self.cpus_per_task,
                mem_per_cpu_gb=self.mem_per_cpu_gb,
            )

            def look_closer() -> None:
                # datatrove notices an actor that is killed, and tries again, but not the process below it.
                if look() and run.has_orphans():
                    raise BuildError(KILLED)

            self.beside(executor.run, run, look_closer)

    def silence(self) -> str:
        """As `DatatroveExecutor.silence`."""
        return (
            "no task left a word. Its node may have been lost, or its memory exhausted (executor.mem_per_cpu_gb "
            "reserves more); Ray's own logs say more"
        )

    @contextlib.contextmanager
    def _connected(self) -> Generator[None]:
        ray = _ray()
        if ray.is_initialized():
            yield
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _knock(self.address or "")
            if self.address is None:
                cpus = (self.workers or max(1, cores() // self.cpus_per_task)) * self.cpus_per_task
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    object_store_memory=OBJECTS_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
            else:
                ray.init(address=self.address, **quiet)
        except Exception as error:
            raise BuildError(
                f"executor.address: {self.address!r}: Ray cannot be reached: {error}. Accepted: `auto`, `host:port` of "
                "the head of a cluster that runs, or null to start Ray here."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def _check_nodes(self, folder: Path) -> int:
        """Each node that could do a task sees the folder; returns their CPUs together."""
        ray, scheduling = _ray(), import_module("ray.util.scheduling_strategies")

        wanted = {"CPU": self.cpus_per_task, "memory": self.mem_per_cpu_gb * self.cpus_per_task * GIB}
        nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
        able = [node for node in nodes if all(node["Resources"].get(k, 0) >= v for k, v in wanted.items())]
        if not able:
            has = ", ".join(
                f"{node['NodeManagerHostname']}: {node['Resources'].get('CPU', 0):g} CPUs, "
                f"{node['Resources'].get('memory', 0) / GIB:.1f} GiB"
                for node in nodes
            )
            raise BuildError(
                f"executor.cpus_per_task {self.cpus_per_task} with executor.mem_per_cpu_gb {self.mem_per_cpu_gb:g}: no "
                f"node of the Ray cluster has so much ({has})."
            )
        remote: Any = ray.remote(_look_for)
        asked = {
            node["NodeManagerHostname"]: remote.options(
                num_cpus=0,
                scheduling_strategy=scheduling.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(str(folder / STAGE))
            for node in able
        }
        for host, answer in asked.items():
            try:
                said = ray.get(answer, timeout=ANSWER_SECONDS)
            except Exception as error:
                raise BuildError(
                    f"The node {host} of the Ray cluster cannot do a task: {error}. bertlab[cluster] has to be "
                    "installed on all of them."
                ) from error
            if said:
                raise BuildError(said)
        return int(sum(node["Resources"]["CPU"] for node in able))


def _ray() -> Any:
    """Ray, which is an extra: it is imported where it is used, and not known to the type checker."""
    # datatrove's thread may go on after a build that has failed, and must not start a Ray of its own by asking for one.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    return import_module("ray")


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at host:port, for which Ray itself would wait for ever."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


def _look_for(path: str) -> str:
    """On a node: what is wrong, if it does not see a file."""
    if Path(path).is_file():
        return ""
    return (
        f"{socket.gethostname()} does not see {path}: `output` has to lie in a folder that all nodes of the Ray "
        "cluster share, under the same path."
    )
