"""WandbSettings: the `wandb.*` keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class WandbSettings:
    """Weights & Biases.

    Args:
        mode: "offline" keeps the run in its directory, for `wandb sync` when you like; "online" sends it while it
            runs, and falls back to offline with a message where there is no key or no network; "disabled" does
            nothing.
        project: project the run belongs to.
        entity: user or team; the default of your account, if not given.
        group: name under which runs are shown together.
        tags: of the run.
        log_checkpoint: keep the best checkpoint as an artifact.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "bertlab"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    log_checkpoint: bool = True
