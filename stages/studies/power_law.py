"""An error that falls as a power of the number of simulations: error = a n^slope, by least squares in logarithms."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float
from scipy.stats import t

_DRAWS = 20_000


class PowerLaw(NamedTuple):
    """A straight line in logarithms, about the mean of its log n: its coefficients and how well they are known."""

    center: float
    height: float
    slope: float
    height_error: float
    slope_error: float
    freedom: int  # points less the two coefficients

    @classmethod
    def fit(cls, n: Float[np.ndarray, " points"], error: Float[np.ndarray, " points"]) -> Self:
        """Fit at least three points; what they scatter about the line says how well it is known."""
        x, y = np.log(n), np.log(np.maximum(error, 1e-300))
        center, freedom = float(x.mean()), len(x) - 2
        weight = float(((x - center) ** 2).sum())
        height, slope = float(y.mean()), float(((x - center) * y).sum() / weight)
        variance = float(((y - height - slope * (x - center)) ** 2).sum()) / freedom
        return cls(center, height, slope, np.sqrt(variance / len(x)), np.sqrt(variance / weight), freedom)

    def at(self, n: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Return the error expected of n simulations."""
        return np.exp(self.height + self.slope * (np.log(n) - self.center))

    def factor(self, n: Float[np.ndarray, " m"], level: float) -> Float[np.ndarray, " m"]:
        """Return by which factor the line may be off at n, either way, at a level of confidence."""
        error = np.hypot(self.height_error, self.slope_error * (np.log(n) - self.center))
        return np.exp(self.reach(level) * error)

    def reach(self, level: float) -> float:
        """Return how many standard errors an interval at this level reaches to either side (Student's t)."""
        return float(t.isf(0.5 - 0.5 * level, self.freedom))

    def falls(self, level: float) -> bool:
        """Say whether the slope is below zero beyond doubt."""
        return self.slope + self.reach(level) * self.slope_error < 0

    def needed(self, target: float, level: float) -> tuple[float, float, float]:
        """Return how many simulations a target takes, and between which numbers that lies; inf where it never falls."""
        rng = np.random.default_rng(0)
        scale = np.sqrt(self.freedom / rng.chisquare(self.freedom, _DRAWS))
        height, slope = (
            middle + error * scale * rng.normal(size=_DRAWS)
            for middle, error in ((self.height, self.height_error), (self.slope, self.slope_error))
        )
        with np.errstate(over="ignore", divide="ignore"):
            drawn = np.exp(self.center + np.where(slope < 0, (np.log(target) - height) / slope, np.inf))
            low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2], method="nearest")
            middle = np.exp(self.center + (np.log(target) - self.height) / self.slope) if self.slope < 0 else np.inf
        return float(middle), float(low), float(high)
