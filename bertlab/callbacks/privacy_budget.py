"""PrivacyBudget: how much noise a training needs, and what it has spent, by the accountants of opacus."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from opacus.accountants import create_accountant
from opacus.accountants.utils import get_noise_multiplier

Accounting = Literal["rdp", "prv"]


class PrivacyBudget:
    """The accountant of one training: steps of Gaussian noise on sums over Poisson samples.

    Args:
        accounting: "rdp": Rényi differential privacy (Mironov et al. 2019, arXiv:1908.10530); "prv": privacy loss
            random variables (Gopi et al. 2021, arXiv:2106.02848), tighter and slower.
        delta: of the guarantee.

    Examples:
        An example of Abadi et al. 2016, arXiv:1607.00133: q = 0.01, σ = 4, 10,000 steps, δ = 1e-5. Their moments
        accountant gives 1.26; opacus turns the same moments into ε by a later, tighter theorem (Balle et al. 2020,
        arXiv:1905.09982).

        >>> budget = PrivacyBudget("rdp", delta=1e-5)
        >>> round(budget.epsilon_after(10_000, noise_multiplier=4.0, rate=0.01), 4)
        1.0355
    """

    def __init__(self, accounting: Accounting, delta: float) -> None:
        self.accounting: Accounting = accounting
        self.delta = delta
        self._accountant = create_accountant(accounting)

    def step(self, noise_multiplier: float, rate: float) -> None:
        """Count one optimizer step."""
        self._accountant.step(noise_multiplier=noise_multiplier, sample_rate=rate)

    @property
    def steps(self) -> int:
        """Optimizer steps that were counted."""
        return sum(steps for _, _, steps in self._accountant.history)

    def epsilon(self) -> float:
        """ε that was spent so far."""
        return _epsilon(self.accounting, self.delta, tuple(self._accountant.history))

    def epsilon_after(self, steps: int, noise_multiplier: float, rate: float) -> float:
        """ε that will have been spent after some more steps."""
        more = [(noise_multiplier, rate, steps)] if steps else []
        return _epsilon(self.accounting, self.delta, (*self._accountant.history, *more))

    def noise_multiplier(self, target_epsilon: float, rate: float, steps: int) -> float:
        """The noise with which a whole training spends at most ε: within 1 % of the least that does.

        Raises:
            ValueError: there is none.
        """
        return _noise_multiplier(self.accounting, self.delta, target_epsilon, rate, steps)

    def state_dict(self) -> dict[str, Any]:
        """What was counted, in plain values."""
        history = [[float(noise), float(rate), int(steps)] for noise, rate, steps in self._accountant.history]
        return {"accounting": self.accounting, "delta": self.delta, "history": history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; by the accountant and δ of this object."""
        self._accountant.history = [(noise, rate, steps) for noise, rate, steps in state_dict["history"]]


@lru_cache(maxsize=64)
def _epsilon(accounting: Accounting, delta: float, history: tuple[tuple[float, float, int], ...]) -> float:
    accountant = create_accountant(accounting)
    accountant.history = list(history)
    return float(accountant.get_epsilon(delta=delta)) if history else 0.0


@lru_cache(maxsize=64)
def _noise_multiplier(accounting: Accounting, delta: float, target: float, rate: float, steps: int) -> float:
    return float(
        get_noise_multiplier(
            target_epsilon=target,
            target_delta=delta,
            sample_rate=rate,
            steps=steps,
            accountant=accounting,
            epsilon_tolerance=target / 100,
        )
    )
