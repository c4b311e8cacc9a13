"""Points that hop between places have these in proportion to their mass, whatever proportion they began with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from simfer.stages.infer.samplers.hops import hop
from simfer.stages.infer.samplers.population import Population

SHARES = np.array([0.7, 0.2, 0.1])
CENTRES = np.array([[2.0, 0.0], [-2.0, 1.0], [0.0, -3.0]])
WIDTHS = np.array([0.1, 0.3, 0.2])
MODES = [multivariate_normal(centre, width**2) for centre, width in zip(CENTRES, WIDTHS, strict=True)]


def heights(z: np.ndarray) -> np.ndarray:
    return np.asarray(logsumexp([np.log(s) + mode.logpdf(z) for s, mode in zip(SHARES, MODES, strict=True)], axis=0))


def nearest(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.argmin([((z - centre) ** 2).sum(axis=-1) for centre in CENTRES], axis=0))


def population(rng: np.random.Generator) -> Population:
    """Return islands whose shares went astray, each its own way."""
    astray = [[0.5, 0.4, 0.1], [0.9, 0.05, 0.05], [0.6, 0.2, 0.2], [0.75, 0.05, 0.2]]
    label = np.stack([rng.choice(3, 1000, p=shares) for shares in astray])
    z = CENTRES[label] + WIDTHS[label][..., None] * rng.standard_normal((4, 1000, 2))
    return Population(z, heights(z), np.array([1.0]), 100, np.zeros(4))


def test_shares_that_went_astray_are_put_right() -> None:
    astray = population(np.random.default_rng(0))
    found = hop(astray, nearest(astray.z), heights, seed=0)
    label = nearest(found.z)
    for island in label:
        assert np.bincount(island) / 1000 == pytest.approx(SHARES, abs=0.05)
    assert np.bincount(label.ravel()) / 4000 == pytest.approx(SHARES, abs=0.02)
    for k in range(3):
        assert found.z[label == k].mean(axis=0) == pytest.approx(CENTRES[k], abs=0.2 * WIDTHS[k])
        assert found.z[label == k].std(axis=0) == pytest.approx(WIDTHS[k], rel=0.15)
    assert found.log_density == pytest.approx(heights(found.z))
    assert found.num_gradients > astray.num_gradients


def test_nothing_is_taken_where_the_density_is_nowhere_near_what_is_proposed() -> None:
    """Along rings, a Student's t for each of them proposes next to nothing that is right: points stay as they were."""
    rng = np.random.default_rng(1)
    angle, label = rng.uniform(0.0, 2.0 * np.pi, (4, 500)), rng.integers(0, 2, (4, 500))
    z = np.stack([np.cos(angle) + 4.0 * label, np.sin(angle)], axis=-1)

    def thin(z: np.ndarray) -> np.ndarray:
        radius = np.minimum(*(np.hypot(z[..., 0] - x, z[..., 1]) for x in (0.0, 4.0)))
        return -0.5 * ((radius - 1.0) / 1e-4) ** 2

    rings = Population(z, thin(z), np.array([1.0]), 0, np.zeros(4))
    found = hop(rings, label, thin, seed=0)
    assert found.num_gradients == 5 * 2000
    assert (found.z == z).all(axis=-1).mean() > 0.99
