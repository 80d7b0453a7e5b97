"""The triggers: by time, by a metric, by the stages of another strategy. What all have in common says `Trigger`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.trigger import Trigger, Waited


class AtStep(Trigger):
    """A new stage at each of the given optimizer steps.

    Args:
        steps: optimizer steps, in any order.

    Raises:
        ValueError: a step is negative.
    """

    def __init__(self, *steps: int) -> None:
        for step in steps:
            if step < 0:
                raise ValueError(f"AtStep takes steps of 0 or more, got {step}")
        self.steps = tuple(sorted(steps))

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """The steps themselves."""
        return self.steps


class AtFraction(Trigger):
    """A new stage when each of the given fractions of training is done.

    Args:
        fractions: in [0, 1], in any order.

    Raises:
        ValueError: a fraction is outside [0, 1].
    """

    def __init__(self, *fractions: float) -> None:
        for fraction in fractions:
            if not 0 <= fraction <= 1:
                raise ValueError(f"AtFraction takes fractions of training in [0, 1], got {fraction}")
        self.fractions = tuple(sorted(fractions))

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """The fractions in steps, rounded to the nearest."""
        return [horizon.step_of(fraction=fraction) for fraction in self.fractions]


class AtEpoch(Trigger):
    """A new stage when each of the given numbers of epochs is done.

    Args:
        epochs: in any order; may be fractions of an epoch.

    Raises:
        ValueError: an epoch is negative or infinite.
    """

    def __init__(self, *epochs: float) -> None:
        for epoch in epochs:
            if not 0 <= epoch < math.inf:
                raise ValueError(f"AtEpoch takes epochs of 0 or more, got {epoch}")
        self.epochs = tuple(sorted(epochs))

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """The epochs in steps, rounded to the nearest."""
        return [horizon.step_of(epoch=epoch) for epoch in self.epochs]


class EachEpoch(Trigger):
    """A new stage every so many epochs.

    Args:
        every: epochs of a stage; may be a fraction of an epoch.

    Raises:
        ValueError: `every` is not above 0.
    """

    def __init__(self, every: float = 1.0) -> None:
        if not 0 < every < math.inf:
            raise ValueError(f"EachEpoch takes a number of epochs above 0, got {every}")
        self.every = every

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """Every multiple of `every` epochs before the end."""
        count = math.ceil(horizon.total_steps / horizon.steps_per_epoch / self.every)
        steps = [horizon.step_of(epoch=index * self.every) for index in range(1, count + 1)]
        return [step for step in steps if step < horizon.total_steps]


class OnPlateau(Trigger):
    """A new stage when a validation metric has stopped getting better.

    Args:
        metric: a logged key, such as "val/loss".
        patience: validations without betterment that end a stage.
        mode: whether less ("min") or more ("max") is better.
        min_delta: a change of at most this much is no betterment.

    Raises:
        ValueError: a patience below 1, or a mode that is neither.
    """

    def __init__(
        self, metric: str, patience: int = 1, mode: Literal["min", "max"] = "min", min_delta: float = 0.0
    ) -> None:
        if patience < 1:
            raise ValueError(f"OnPlateau takes a patience of 1 validation or more, got {patience}")
        if mode not in ("min", "max"):
            raise ValueError(f"OnPlateau takes mode 'min' or 'max', got {mode!r}")
        self.metric, self.patience, self.mode, self.min_delta = metric, patience, mode, min_delta
        self._starts: list[int] = []
        self._best: float | None = None
        self._waited = 0

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """The plateaus seen so far."""
        return self._starts

    def waits_for(self, horizon: Horizon) -> Waited:
        """A plateau may come with any validation."""
        return "validation"

    def awaited(self, horizon: Horizon) -> str:
        """The plateau."""
        return f"a plateau of {self.metric} (patience {self.patience})"

    def observe(self, metrics: Mapping[str, float], step: int, horizon: Horizon) -> None:
        """Count validations without betterment; the stage ends with the `patience`-th of them."""
        value = metric_value(metrics, self.metric, "OnPlateau.metric")
        sign = 1.0 if self.mode == "max" else -1.0
        if self._best is None or sign * (value - self._best) > self.min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self._starts.append(step)
            self._best, self._waited = None, 0

    def watched_metrics(self) -> Sequence[str]:
        """The one metric."""
        return (self.metric,)

    def state_dict(self) -> dict[str, Any]:
        """Plateaus seen, best value, validations waited."""
        return {"starts": list(self._starts), "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._starts, self._best, self._waited = list(state["starts"]), state["best"], state["waited"]


class InTurn(Trigger):
    """Stages that each end in a way of their own: one at a step, the next on a plateau.

    Args:
        ends: how stage 0, 1, … ends; of a trigger by time its first stage counts, on the clock of the whole
            run. A time that has passed when its stage begins ends the stage at once.
    """

    def __init__(self, ends: Sequence[Trigger]) -> None:
        self.ends = tuple(ends)

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """As far as known: up to the first plateau that has not come yet."""
        starts: list[int] = []
        for end in self.ends:
            found = end.starts(horizon)
            if not found:
                break
            starts.append(max(found[0], starts[-1] if starts else 0))
        return starts

    def waits_for(self, horizon: Horizon) -> Waited | None:
        """What the first end waits for that is not known yet."""
        known = len(self.starts(horizon))
        return None if known == len(self.ends) else self.ends[known].waits_for(horizon)

    def awaited(self, horizon: Horizon) -> str:
        """In words, what the first end waits for that is not known yet."""
        known = len(self.starts(horizon))
        return super().awaited(horizon) if known == len(self.ends) else self.ends[known].awaited(horizon)

    def observe(self, metrics: Mapping[str, float], step: int, horizon: Horizon) -> None:
        """Let the end of the stage learn whose steps were validated; one that begins with the next step has none."""
        current = self.stage_at(step - 1, horizon)
        if current < len(self.ends):
            self.ends[current].observe(metrics, step, horizon)

    def watched_metrics(self) -> Sequence[str]:
        """Those of every end."""
        return [metric for end in self.ends for metric in end.watched_metrics()]

    def state_dict(self) -> dict[str, Any]:
        """What every end has learnt."""
        return {"ends": [end.state_dict() for end in self.ends]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for end, kept in zip(self.ends, state["ends"], strict=True):
            end.load_state_dict(kept)


class Follow(Trigger):
    """The stages of another strategy, the one that leads `follows`; each epoch where there is none."""

    def __init__(self) -> None:
        self.leader: Trigger = EachEpoch()
        #: whether the leader is that of another strategy.
        self.has_leader = False

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """Those of the leader."""
        return self.leader.starts(horizon)

    def waits_for(self, horizon: Horizon) -> Waited | None:
        """As the leader."""
        return self.leader.waits_for(horizon)

    def awaited(self, horizon: Horizon) -> str:
        """As the leader."""
        followed = "" if self.follows is None else f", with which the next {self.follows} begins"
        return f"{self.leader.awaited(horizon)}{followed}"


class EachStage(Follow):
    """A new stage with each stage of unfreezing; without a strategy that unfreezes in stages, each epoch."""

    follows = "stage"


class EachCycle(Follow):
    """A new stage with each cycle of the learning rate; without a strategy that has cycles, each epoch."""

    follows = "cycle"


def metric_value(metrics: Mapping[str, float], key: str, argument: str) -> float:
    """The value of a logged metric.

    Raises:
        ValueError: the key was not logged, or its value is not finite.
    """
    if key not in metrics:
        raise ValueError(
            f"{argument}: no metric {key!r} was logged by validation; there are {', '.join(sorted(metrics))}"
        )
    value = float(metrics[key])
    if not math.isfinite(value):
        raise ValueError(f"{argument}: the metric {key!r} is {value}")
    return value
