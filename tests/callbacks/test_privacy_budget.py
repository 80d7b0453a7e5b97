from __future__ import annotations

import math

import pytest
from opacus.accountants import RDPAccountant

from bertlab.callbacks.privacy_budget import PrivacyBudget


def moments(order: int, rate: float, noise: float) -> float:
    """Rényi divergence of one step at a whole order: Mironov et al. 2019, arXiv:1908.10530, section 3.3."""
    terms = [
        math.comb(order, k) * (1 - rate) ** (order - k) * rate**k * math.exp((k * k - k) / (2 * noise**2))
        for k in range(order + 1)
    ]
    return math.log(math.fsum(terms)) / (order - 1)


def epsilon(steps: int, rate: float, noise: float, delta: float, tight: bool) -> float:
    """The least over whole orders; by Mironov 2017, proposition 3, or Balle et al. 2020, theorem 21."""
    best = math.inf
    for order in range(2, 64):
        least = steps * moments(order, rate, noise) - math.log(delta) / (order - 1)
        if tight:
            least += math.log((order - 1) / order) - math.log(order) / (order - 1)
        best = min(best, least)
    return best


def test_the_example_of_the_paper() -> None:
    """Abadi et al. 2016, section 5.1: q = 0.01, σ = 4, 10,000 steps, δ = 1e-5: (1.26, 1e-5)."""
    assert epsilon(10_000, 0.01, 4.0, 1e-5, tight=False) == pytest.approx(1.26, abs=0.005)
    spent = PrivacyBudget("rdp", 1e-5)
    for _ in range(10_000):
        spent.step(4.0, 0.01)
    assert spent.steps == 10_000
    assert spent.epsilon() == pytest.approx(epsilon(10_000, 0.01, 4.0, 1e-5, tight=True), rel=1e-3)
    assert spent.epsilon() == PrivacyBudget("rdp", 1e-5).epsilon_after(10_000, 4.0, 0.01)
    # Tighter accounting spends less, and no less than an analysis of the two distributions allows.
    assert 0.9 < PrivacyBudget("prv", 1e-5).epsilon_after(10_000, 4.0, 0.01) < spent.epsilon()


def test_opacus_counts_the_same() -> None:
    mine, theirs = PrivacyBudget("rdp", 1e-5), RDPAccountant()
    assert mine.epsilon() == 0.0
    for noise, rate in [(1.0, 0.1)] * 5 + [(2.0, 0.05)] * 7:
        mine.step(noise, rate)
        theirs.step(noise_multiplier=noise, sample_rate=rate)
    assert mine.epsilon() == theirs.get_epsilon(1e-5)
    again = PrivacyBudget("rdp", 1e-5)
    again.load_state_dict(mine.state_dict())
    assert mine.state_dict()["history"] == [[1.0, 0.1, 5], [2.0, 0.05, 7]]
    assert (again.epsilon(), again.steps) == (mine.epsilon(), 12)


def test_noise_for_a_target() -> None:
    budget = PrivacyBudget("rdp", 1e-5)
    noise = budget.noise_multiplier(3.0, rate=0.05, steps=400)
    assert 2.97 <= budget.epsilon_after(400, noise, 0.05) <= 3.0
