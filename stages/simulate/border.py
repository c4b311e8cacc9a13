"""Where the simulator has an answer: a classifier of solved and failed rows, whose border a sampler can meet.

A Gaussian process with a logistic likelihood (Rasmussen & Williams 2006, chapter 3) over whitened points. Its kernel, a
plane's, a quadric's or either with bumps of some length, is the one of the largest evidence by Laplace's method: a
straight border stays straight, and failures that lie in no region leave the latent function positive everywhere.

Only rows near the border are learned from, and so too many failed ones: the odds are set right for it afterwards, as in
a case-control study (Prentice & Pyke 1979).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.linalg import cho_solve
from scipy.spatial import KDTree
from scipy.special import expit

from simfer.stages.artifacts.posterior import BORDER
from simfer.stages.model.space import Space

_FEW, _MOST = 400, 1500  # rows that a kernel is chosen by, and a border learned from: the work goes with the cube
_SHAPES = ((1, 0.0), (2, 0.0), (1, 2.0), (1, 1.0), (1, 0.5), (1, 0.25))  # power of the plane's kernel, bumps' length
_ENOUGH = 20  # points that a design is drawn from
_NEWTON = 50  # steps at most
_CERTAIN = np.log(20.0)  # odds of being solved
_AMPLITUDES = (1.0, 30.0, 1e3, 3e4)  # variances


@dataclass(frozen=True)
class Border:
    """The latent function of the classifier: above zero a point can be solved, below it cannot."""

    space: Space
    center: Float[np.ndarray, " size"]
    scale: Float[np.ndarray, " size"]
    rows: Float[np.ndarray, "rows size"]  # standardised
    weights: Float[np.ndarray, " rows"]
    power: int
    length: float  # 0 where there are no bumps
    offset: float = 0.0  # of the log odds, for the rows that were left out
    beyond: Float[np.ndarray, "draws all"] | None = None  # what a sampler drew that cannot be solved
    excess: Float[np.ndarray, " draws"] | None = None  # log density there, less that which was sampled
    hidden: Float[np.ndarray, "points all"] | None = None  # where the posterior would be, were there no border
    hidden_weight: float = 0.0  # of each of them, in the mass before the border

    @classmethod
    def learn(cls, z: Float[np.ndarray, "rows size"], solved: Bool[np.ndarray, " rows"], space: Space) -> Border | None:
        """Learn the border from simulated rows; None where all of them were solved, or none."""
        if solved.all() or not solved.any():
            return None
        z = np.asarray(space.on_circle(z))
        center, scale = z.mean(axis=0), np.maximum(z.std(axis=0), 1e-300)
        x, label = (z - center) / scale, np.where(solved, 1.0, -1.0)
        few, near = (_near_the_border(z, solved, most) for most in (_FEW, _MOST))
        shape, amplitude = _best(x[few], label[few])
        base, height = np.asarray(_kernel(x[near], x[near], *shape)), np.zeros(len(near))
        for each in (each for each in _AMPLITUDES if each <= amplitude):
            height = each * _laplace(each * base, label[near], height / each)[1]
        odds = [np.log(each.sum() / (~each).sum()) for each in (solved, solved[near])]
        return cls(space, center, scale, x[near], height, *shape, offset=float(odds[0] - odds[1]))

    def latent(self, z: Float[Any, "... size"]) -> Float[Array, "..."]:
        """Return the latent function at whitened points."""
        x = (self.space.on_circle(z) - self.center) / self.scale
        return _kernel(x, jnp.asarray(self.rows), self.power, self.length) @ jnp.asarray(self.weights) + self.offset

    def holds(self, z: Float[np.ndarray, "... size"]) -> Bool[np.ndarray, "..."]:
        """Say which whitened points can be solved."""
        return np.asarray(self.latent(z)) > 0.0

    def both_sides(
        self,
        inside: Float[np.ndarray, "rows size"],
        z: Float[np.ndarray, "rows size"],
        seed: int,
        miss: tuple[float, float] = (0.9, 1.1),
    ) -> Float[np.ndarray, "rows size"]:
        """Return points with those that cannot be solved put near the border, before or behind it.

        Each is moved towards its own point `inside`: there the border is sought by halving, and missed on purpose, by
        up to a tenth of the way unless `miss` says otherwise.
        """
        out = ~self.holds(z)
        low, high = np.zeros(out.sum()), np.ones(out.sum())
        a, b = inside[out], z[out]
        for _ in range(20):
            middle = 0.5 * (low + high)
            held = self.holds(a + middle[:, None] * (b - a))
            low, high = np.where(held, middle, low), np.where(held, high, middle)
        share = np.random.default_rng(seed).uniform(*miss, len(low))
        moved = z.copy()
        moved[out] = a + np.minimum(low * share, 1.0)[:, None] * (b - a)
        return moved

    def drawn_in(self, rows: Float[np.ndarray, "rows size"]) -> Border:
        """Return a border before this one, up to which a point is all but certain to be solved.

        Its odds are twenty to one there, or a quarter as large (in the logarithm) as those of most solved rows: where
        failures lie in no region, no place is certain.
        """
        usual = max(float(np.median(np.asarray(self.latent(rows)))), 0.0)
        return replace(self, offset=self.offset - min(_CERTAIN, 0.25 * usual))

    def within(self, z: Float[np.ndarray, "rows size"], rows: Float[np.ndarray, "all size"]) -> np.ndarray:
        """Return those of some points that can be solved; where hardly any can be, the nearest of other rows that can.

        Raises:
            ValueError: None of the rows can be solved.
        """
        held, known = z[self.holds(z)], rows[self.holds(rows)]
        return held if len(held) >= _ENOUGH else known[KDTree(known).query(z)[1]]

    def save(self, folder: Path) -> None:
        """Write the border into an artifact's folder."""
        arrays = {name: value for name, value in vars(self).items() if name != "space" and value is not None}
        np.savez(folder / BORDER, **arrays)

    @classmethod
    def load(cls, folder: Path, space: Space) -> Border | None:
        """Read the border of a published posterior; None if it has none."""
        if not (folder / BORDER).exists():
            return None
        with np.load(folder / BORDER) as stored:
            return cls(space, **{name: value if value.ndim else value.item() for name, value in stored.items()})


def _kernel(a: Any, b: Any, power: int, length: float) -> Any:
    """Return the kernel between points, its variance one at the origin but for the bumps."""
    inner = (1.0 + a @ b.T) ** power
    if not length:
        return inner
    square = (a**2).sum(-1)[..., None] + (b**2).sum(-1) - 2.0 * a @ b.T
    return inner + jnp.exp(-0.5 * jnp.maximum(square, 0.0) / length**2)


def _best(x: Float[np.ndarray, "rows size"], label: Float[np.ndarray, " rows"]) -> tuple[tuple[int, float], float]:
    """Return the kernel's shape and variance of the largest evidence."""
    found = []
    for shape in _SHAPES:
        base, height = np.asarray(_kernel(x, x, *shape)), np.zeros(len(x))
        for amplitude in _AMPLITUDES:  # each begins with the latent values of the one before
            evidence, weights = _laplace(amplitude * base, label, height / amplitude)
            height = amplitude * weights
            found.append((evidence, shape, amplitude))
    _, shape, amplitude = max(found)
    return shape, amplitude


def _near_the_border(z: np.ndarray, solved: np.ndarray, most: int) -> np.ndarray:
    """Choose the rows that tell most of a border, those nearest to a row of the other kind, and some of the rest."""
    if len(z) <= most:
        return np.arange(len(z))
    distance = np.empty(len(z))
    for kind in (True, False):
        distance[solved == kind] = KDTree(z[solved != kind]).query(z[solved == kind])[0]
    order = np.argsort(distance, kind="stable")
    count = most * 2 // 3
    rest = order[count:]
    return np.sort(np.concatenate([order[:count], rest[np.linspace(0, len(rest) - 1, most - count).astype(int)]]))


def _laplace(covariance: np.ndarray, label: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Find the mode of the latent values, by Newton's method (algorithm 3.1 there); return evidence and weights."""

    def objective(weights: np.ndarray, values: np.ndarray) -> float:
        return float(-0.5 * weights @ values - np.logaddexp(0.0, -label * values).sum())

    values = covariance @ weights
    last = objective(weights, values)
    for _ in range(_NEWTON):
        chance = expit(values)
        root = np.sqrt(np.maximum(chance * (1.0 - chance), 1e-12))
        try:
            lower = np.linalg.cholesky(np.eye(len(label)) + root[:, None] * covariance * root)
        except np.linalg.LinAlgError:  # of a variance so large that one is lost in it
            return -np.inf, weights
        drive = root**2 * values + 0.5 * (label + 1.0) - chance
        step = drive - root * cho_solve((lower, True), root * (covariance @ drive)) - weights
        moved, size = covariance @ step, 1.0
        while size > 1e-4 and not objective(weights + size * step, values + size * moved) > last:
            size *= 0.5
        if size <= 1e-4:  # rounding is all that is left
            break
        weights, values = weights + size * step, values + size * moved
        gained, last = objective(weights, values) - last, objective(weights, values)
        if gained < 1e-3:
            break
    return last - float(np.log(np.diag(lower)).sum()), weights
