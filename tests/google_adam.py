"""Google's update of one weight, in numpy's float32: optimization.py of google-research/bert, line by line."""

from __future__ import annotations

import re

import numpy as np

EXCLUDED = ["LayerNorm", "layer_norm", "bias"]


def clip(gradients: dict[str, np.ndarray], norm: float = 1.0) -> dict[str, np.ndarray]:
    """tf.clip_by_global_norm."""
    total = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))
    return {
        name: (g * np.float32(norm / max(total, norm))).astype(np.float32) for name, g in gradients.items()
    }


class GoogleAdam:
    """AdamWeightDecayOptimizer as create_optimizer makes it."""

    def __init__(self) -> None:
        self.m: dict[str, np.ndarray] = {}
        self.v: dict[str, np.ndarray] = {}

    def apply(self, name: str, param: np.ndarray, grad: np.ndarray, rate: float) -> np.ndarray:
        """The next value of a variable."""
        f = np.float32
        m, v = self.m.get(name, np.zeros_like(param)), self.v.get(name, np.zeros_like(param))
        self.m[name] = f(0.9) * m + f(1.0 - 0.9) * grad
        self.v[name] = f(0.999) * v + f(1.0 - 0.999) * np.square(grad)
        update = self.m[name] / (np.sqrt(self.v[name]) + f(1e-6))
        if not any(re.search(pattern, name) for pattern in EXCLUDED):
            update = update + f(0.01) * param
        return param - f(rate) * update
