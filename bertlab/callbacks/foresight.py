"""Foresight: what the strategies of a run would do if it went to its end, looked at before it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.combination import FREEZING
from bertlab.callbacks.effects import SEEN, has_effect
from bertlab.callbacks.horizon import horizon_of
from bertlab.callbacks.run import Run
from bertlab.callbacks.trainable import trained_by
from bertlab.interfaces import Block

if TYPE_CHECKING:
    from bertlab.callbacks.strategy import Strategy


class Foresight:
    """What the strategies of a run would do if it went to its end.

    `apply` is a function of the stage without side effects, so it can be asked about stages that are still to come.

    Args:
        strategies: of the trainer.
        trainer: about to train.
        blocks: of the whole task.
        run_in: the run as a strategy would see it in a stage.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        trainer: Trainer,
        blocks: Blocks,
        run_in: Callable[[Strategy, int], Run],
    ) -> None:
        self._strategies, self._trainer, self._blocks, self._run_in = strategies, trainer, blocks, run_in
        self._horizon = horizon_of(trainer)
        self._thawed = {id(p) for block in blocks for p in block.parameters() if p.requires_grad}

    def refuse_stages_of_nothing(self) -> None:
        """Refuse stages in which nothing would be trained: what one strategy leaves is frozen, or left out by another.

        Raises:
            ValueError: there is one; the message names the strategies, the blocks and the stage.
        """
        for strategy in (s for s in self._strategies if s.touches & FREEZING):
            for stage, run in self._runs(strategy):
                wanted = trained_by(self._chosen(run), run.wishes.parameters)
                if wanted and not wanted & self._thawed:
                    raise ValueError(
                        f"{type(strategy).__name__} would train nothing in stage {stage}: all that it names "
                        f"({', '.join(block.name for block in self._chosen(run))}) was frozen before training "
                        "(requires_grad is false), and strategies thaw only what they have frozen themselves"
                    )
        stagers = [s for s in self._strategies if "trainable" in s.touches]
        for strategy in (s for s in self._strategies if "parameters" in s.touches):
            of_strategy = self._ever_trained(strategy)
            for other in stagers:
                for stage, run in self._runs(other):
                    chosen = self._chosen(run)
                    if not of_strategy & trained_by(chosen, None):
                        raise ValueError(
                            f"{type(strategy).__name__} and {type(other).__name__} have nothing in common in stage "
                            f"{stage}: the parameters that the one names are in none of the blocks that the other "
                            f"trains ({', '.join(block.name for block in chosen)}): take one of them out of "
                            "trainer.callbacks, or train another block in that stage"
                        )

    def warn_of_what_never_acts(self) -> dict[str, str]:
        """Say which strategies would do nothing, and which stages would never begin.

        Returns:
            The first thing that was said of each such strategy, by its `state_key`.
        """
        said: dict[str, str] = {}
        for strategy in self._strategies:
            self._warn_of_what_stays_frozen(strategy)
            for message in self._warnings(strategy):
                rank_zero_warn(message)
                said.setdefault(strategy.state_key, message)
        return said

    def stages_of(self, strategy: Strategy) -> Iterator[tuple[Run, set[int]]]:
        """Each stage of a strategy that is reached, as far as is known, and what is trained in it.

        Returns:
            What the strategy wants in the stage; identities of the parameters that are trained if all others train as
            many as they ever do.
        """
        left = set(self._thawed)
        for other in self._strategies:
            if other is not strategy and other.touches & FREEZING:
                left &= self._ever_trained(other)
        for _, run in self._runs(strategy):
            yield run, left & trained_by(self._chosen(run), run.wishes.parameters)

    def never_at_once(self, parameters: Iterable[nn.Parameter], but: Strategy) -> Strategy | None:
        """A strategy that trains all of some parameters in none of its stages; None: each does so in one, or may.

        Args:
            parameters: what has to be trained.
            but: a strategy that is not looked at.
        """
        wanted = {id(parameter) for parameter in parameters}
        for strategy in (s for s in self._strategies if s is not but and s.touches & FREEZING):
            trained = (
                trained_by(self._chosen(run), run.wishes.parameters) for _, run in self._runs(strategy)
            )
            if not any(wanted <= of_stage for of_stage in trained):
                return strategy
        return None

    def _warnings(self, strategy: Strategy) -> Iterator[str]:
        """What is to be said of a strategy."""
        name, horizon = type(strategy).__name__, self._horizon
        if reason := strategy.never_acts(self._run_in(strategy, max(0, strategy.entered))) or self._frozen(
            strategy
        ):
            yield f"{name} would do nothing in this training: {reason}"
            return
        if reason := self._without_effect(strategy):
            yield reason
        if reason := strategy.leaves_out(self._run_in(strategy, max(0, strategy.entered))):
            yield f"{name}: {reason}"
        starts = list(strategy.trigger.starts(horizon))
        if strategy.stages is not None:
            starts = starts[: strategy.stages - 1]
        if late := [start for start in starts if start >= horizon.total_steps]:
            yield (
                f"{name}: {len(late)} of its {len(starts) + 1} stages would begin at "
                f"step {late[0]} or later, and training ends at step {horizon.total_steps}: never reached"
            )
        elif strategy.trigger.waits_for(horizon) == "validation" and not validates(self._trainer):
            yield (
                f"{name} waits for a plateau of a validation metric, and this training has no "
                f"validation: it stays in stage {len(starts)}"
            )

    def _without_effect(self, strategy: Strategy) -> str | None:
        """What a strategy does in no stage, of what it touches and can be seen; None: it does, or may."""
        seen = sorted(strategy.touches & SEEN.keys())
        open_end = strategy.stages is None and not strategy.trigger.complete(self._horizon)
        if not seen or open_end:
            return None
        if any(has_effect(run, self._horizon.total_steps) for _, run in self._runs(strategy)):
            return None
        # Others may act where nobody sees it.
        never = " never acts" if strategy.touches <= SEEN.keys() else ""
        does = " and ".join(SEEN[of] for of in seen)
        return f"{type(strategy).__name__}{never}: in every step of this training it {does}"

    def _warn_of_what_stays_frozen(self, strategy: Strategy) -> None:
        """Say which blocks a strategy names to be trained that were frozen as wholes before."""
        if "trainable" not in strategy.touches:
            return
        named = {id(b): b for _, run in self._runs(strategy) for b in run.wishes.trainable or ()}
        held = {block.name: list(block.parameters()) for block in named.values()}
        frozen = [
            name for name, all_ in held.items() if all_ and not any(id(p) in self._thawed for p in all_)
        ]
        if frozen:
            rank_zero_warn(
                f"{type(strategy).__name__} names {', '.join(frozen)} to be trained, which was frozen before training "
                "(requires_grad is false) and stays so: strategies thaw only what they have frozen themselves"
            )

    def _frozen(self, strategy: Strategy) -> str | None:
        """Why a strategy never acts: all that it works on is frozen in every stage of the strategies that freeze."""
        works_on = strategy.works_on(self._blocks)
        if works_on is None:
            return None
        left = {id(parameter) for parameter in works_on} & self._thawed
        for other in self._strategies:
            if other.touches & FREEZING:
                left &= self._ever_trained(other)
        return None if left else "all that it works on is frozen from start to end"

    def _ever_trained(self, strategy: Strategy) -> set[int]:
        """Identities of the parameters that a strategy leaves to be trained in any stage that is reached."""
        found: set[int] = set()
        for _, run in self._runs(strategy):
            found |= trained_by(self._chosen(run), run.wishes.parameters)
        return found & self._thawed

    def _chosen(self, run: Run) -> Sequence[Block]:
        """The blocks that a strategy wants to be trained: all, if it says nothing of it."""
        return list(self._blocks) if run.wishes.trainable is None else list(run.wishes.trainable)

    def _runs(self, strategy: Strategy) -> Iterator[tuple[int, Run]]:
        """What a strategy wants in each stage that is reached, as far as is known."""
        starts = [0, *strategy.trigger.starts(self._horizon)]
        count = len(starts) if strategy.stages is None else strategy.stages
        empty = strategy.trigger.empty_stages(self._horizon)
        for stage in range(count):
            if stage < len(starts) and starts[stage] >= self._horizon.total_steps:
                break
            if stage in empty:
                continue
            run = self._run_in(strategy, stage)
            strategy.apply(run)
            yield stage, run


def validates(trainer: Trainer) -> bool:
    """Whether any validation comes in a training, for a strategy to wait for."""
    if not trainer.enable_validation:
        return False
    # Loaders that are not made yet, for epochs without validation come first, may hold anything.
    return trainer.val_dataloaders is None or sum(trainer.num_val_batches) > 0
