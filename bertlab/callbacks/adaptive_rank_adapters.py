"""AdaptiveRankAdapters: low-rank adapters of which the important ones keep their ranks (AdaLoRA)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning.pytorch import Trainer
from peft import AdaLoraConfig
from peft.tuners.adalora.layer import RankAllocator
from torch import Tensor

from bertlab.callbacks.blocks import Blocks
from bertlab.callbacks.conductor import Conductor
from bertlab.callbacks.horizon import Horizon
from bertlab.callbacks.low_rank_adapters import LowRankAdapters
from bertlab.callbacks.strategy import Run
from bertlab.callbacks.undone import Undone
from bertlab.losses.orthogonality import orthogonality_gradient

#: The name under which peft puts an adapter in.
ADAPTER = "default"


class AdaptiveRankAdapters(LowRankAdapters):
    """Trains adapters as `LowRankAdapters` does, and takes ranks from those that matter least (AdaLoRA).

    Zhang et al. 2023, arXiv:2303.10512, section 3 and algorithm 1: a frozen weight W is seen as W + B·diag(e)·A·α/r₀.
    All adapters begin with r₀ ranks; from the end of the warmup on their total falls on a cubic curve to r₁ for each,
    until the final part of training. Each `interval_steps` optimizer steps the ranks that matter least, among those of
    all adapters, get e = 0, from which the optimizer may lift them again until the final part begins. What a rank
    matters is told by |w·gradient| of its numbers, smoothed over steps, times its smoothed deviation from that. The
    budget, the scores and the masks are peft's own (`peft.tuners.adalora`).

    A and Bᵀ are drawn to orthonormal rows; that gradient is added once for each optimizer step, before clipping, and
    `train/loss` is without it. It is of ‖A·Aᵀ − 1‖, the mean over all A and Bᵀ, as in peft.

    Scores are taken after each step from its gradients, of all micro-batches and ranks, and are in every checkpoint. In
    steps in which an adapter is frozen or has no part, no score changes and no rank is taken; if that holds when the
    final part begins, ranks are taken in the first step after it in which all have a part. If none comes, that is said.

    Args:
        target_modules: which linear layers, as of `LowRankAdapters`.
        initial_rank: r₀.
        target_rank: r₁, less than r₀, the mean of all adapters in the final part.
        alpha: α.
        dropout: of what the adapters see, in [0, 1).
        warmup_fraction: share of the optimizer steps before any rank is taken.
        final_fraction: share of the optimizer steps, the last, in which ranks stay.
        interval_steps: optimizer steps from one division of the ranks to the next.
        score_decay: β₁, of the smoothed scores, in (0, 1).
        deviation_decay: β₂, of their smoothed deviations, in (0, 1).
        orthogonality: strength of the gradient towards orthonormal rows, 0 or more.

    Raises:
        ValueError: an argument is out of range; no step is left between warmup and final part.
    """

    touches: ClassVar[set[str]] = {"parameters", "gradients", "weights"}
    sets_weights: ClassVar[bool] = True

    def __init__(
        self,
        target_modules: str | list[str] = "all-linear",
        initial_rank: int = 12,
        target_rank: int = 8,
        alpha: int = 32,
        dropout: float = 0.0,
        warmup_fraction: float = 0.1,
        final_fraction: float = 0.3,
        interval_steps: int = 10,
        score_decay: float = 0.85,
        deviation_decay: float = 0.85,
        orthogonality: float = 0.5,
    ) -> None:
        ranges = {
            "target_rank": (target_rank, f"1 to {initial_rank - 1}", 0 < target_rank < initial_rank),
            "alpha": (alpha, "a number above 0", alpha > 0),
            "dropout": (dropout, "a share in [0, 1)", 0 <= dropout < 1),
            "warmup_fraction": (warmup_fraction, "a share in [0, 1)", 0 <= warmup_fraction < 1),
            "final_fraction": (final_fraction, "a share in [0, 1)", 0 <= final_fraction < 1),
            "interval_steps": (interval_steps, "1 or more", interval_steps >= 1),
            "score_decay": (score_decay, "a number in (0, 1)", 0 < score_decay < 1),
            "deviation_decay": (deviation_decay, "a number in (0, 1)", 0 < deviation_decay < 1),
            "orthogonality": (orthogonality, "a number of 0 or more", 0 <= orthogonality < float("inf")),
        }  # fmt: skip
        for name, (value, accepted, is_right) in ranges.items():
            if not is_right:
                raise ValueError(f"AdaptiveRankAdapters.{name} takes {accepted}, got {value}")
        self.orthogonality = orthogonality
        self.warmup_fraction, self.final_fraction = warmup_fraction, final_fraction
        # What peft needs to put adapters in; its steps are those of `prepare`, when the length of training is known.
        self._settings = {
            "peft_type": "ADALORA", "target_modules": target_modules, "init_r": initial_rank, "target_r": target_rank,
            "lora_alpha": alpha, "lora_dropout": dropout, "beta1": score_decay, "beta2": deviation_decay,
            "deltaT": interval_steps, "total_step": 1,
        }  # fmt: skip
        self._trained = ()
        self._ranks: RankAllocator | None = None
        self._last_step = 0
        self._kept: dict[str, Any] = {"scores": {}, "deviations": {}, "pattern": {}, "final": False}

    def prepare(self, trainer: Trainer, blocks: Blocks, horizon: Horizon) -> None:
        """Turn shares of the training into steps.

        Raises:
            ValueError: none is left in which ranks could be taken.
            TypeError: gradients are scaled.
        """
        if trainer.precision == "16-mixed":
            raise TypeError(
                "AdaptiveRankAdapters scores ranks by gradients, which trainer.precision 16-mixed may make infinite: "
                "use bf16-mixed"
            )
        total = horizon.total_steps
        warmup, final = round(self.warmup_fraction * total), round(self.final_fraction * total)
        self._last_step = total - final
        if warmup >= self._last_step:
            raise ValueError(
                f"AdaptiveRankAdapters.warmup_fraction {self.warmup_fraction:g} and final_fraction "
                f"{self.final_fraction:g} leave none of the {total} optimizer steps to take ranks in: make them smaller"
            )
        super().prepare(trainer, blocks, horizon)
        steps = {"tinit": warmup, "tfinal": final, "total_step": total}
        kind: Any = AdaLoraConfig
        self._ranks = RankAllocator(
            trainer.lightning_module, kind(**_of_peft(self._settings), **steps), ADAPTER
        )

    def leaves_out(self, run: Run) -> str | None:
        """Whether another strategy never lets all adapters be trained at once: in such steps alone ranks are taken."""
        foresight = Conductor.of(run.trainer).foresight
        other = foresight and foresight.never_at_once(self._trained, self)
        if other is None:
            return None
        return (
            f"it would never take a rank, since {type(other).__name__} trains all adapters in none of its stages: "
            "train all blocks in one of them, or take LowRankAdapters, or fewer target_modules"
        )

    def left_undone(self, run: Run) -> Undone | None:
        """Whether the ranks were not taken to the end."""
        if self._kept["final"]:
            return None
        return Undone(
            what=f"did not go down to target_rank {self._settings['target_r']}",
            waited_for=f"a step after step {self._last_step - 1} in which all adapters are trained",
            instead="More ranks are left, and nothing says which matter",
            advice="let all adapters be trained in the last part of training",
        )

    def apply(self, run: Run) -> None:
        """Train the adapters and the head; draw A and Bᵀ to orthonormal rows."""
        super().apply(run)
        parameters = dict(run.trainer.lightning_module.named_parameters())
        right = [p for name, p in parameters.items() if f"lora_A.{ADAPTER}" in name]
        left = [p for name, p in parameters.items() if f"lora_B.{ADAPTER}" in name]
        strength = self.orthogonality / max(1, len(right) + len(left))

        def pull() -> None:
            for parameter in right:
                if parameter.grad is not None:
                    parameter.grad.add_(orthogonality_gradient(parameter), alpha=strength)
            for parameter in left:
                if parameter.grad is not None:
                    parameter.grad.add_(orthogonality_gradient(parameter.T).T, alpha=strength)

        run.edit_gradients(pull)

    def after_step(self, run: Run) -> None:
        """Score the ranks by the gradients of the step, and take some."""
        if any(parameter.grad is None for parameter in self._trained):
            return
        ranks, module, step = self._allocator(run), run.trainer.lightning_module, run.trainer.global_step
        if self._kept["final"]:
            ranks.mask_using_rank_pattern(module, self._kept["pattern"])
            return
        if step < self._last_step:
            _, pattern = ranks.update_and_allocate(module, step)
        else:
            if not ranks.exp_avg_ipt:
                ranks.update_ipt(module)
            _, pattern = ranks.update_and_allocate(module, step, force_mask=True)
            ranks.reset_ipt()
            self._kept["final"] = True
        self._kept |= {"scores": ranks.exp_avg_ipt, "deviations": ranks.exp_avg_unc}
        if pattern:
            self._kept["pattern"] = pattern
            if self._kept["final"]:
                run.note(
                    "ranks", ranks={name.split(".lora_E")[0]: sum(kept) for name, kept in pattern.items()}
                )

    def state_dict(self) -> dict[str, Any]:
        """The scores of the ranks, and which are left."""
        return super().state_dict() | {"ranks": dict(self._kept)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._kept = dict(state_dict["ranks"])
        super().load_state_dict(state_dict)

    def _allocator(self, run: Run) -> RankAllocator:
        """What divides the ranks, with the scores so far, on the device of the parameters."""
        ranks = self._ranks
        assert ranks is not None
        if self._kept["scores"] and not ranks.exp_avg_ipt:  # resumed
            device = run.trainer.strategy.root_device

            def there(values: dict[str, Tensor]) -> dict[str, Tensor]:
                return {name: value.to(device) for name, value in values.items()}

            ranks.exp_avg_ipt, ranks.exp_avg_unc = (
                there(self._kept["scores"]),
                there(self._kept["deviations"]),
            )
            ranks.ipt = {name: torch.zeros_like(value) for name, value in ranks.exp_avg_ipt.items()}
        return ranks


def _of_peft(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in {"peft_type", "total_step"}}
