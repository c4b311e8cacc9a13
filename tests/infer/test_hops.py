"""Points that hop between places have these in proportion to their mass, whatever proportion they began with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from simfer.stages.infer.samplers.hops import hop
from simfer.stages.infer.samplers.moves import Proposal, Rows, compile_moves
from simfer.stages.infer.samplers.population import Population, populate
from simfer.stages.infer.samplers.smc import ADRIFT, Settled, _hopped
from simfer.stages.infer.target import Target
from simfer.stages.settings import Infer

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
    found, is_through = hop(astray, nearest(astray.z), heights, seed=0)
    assert is_through
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
    found, is_through = hop(rings, label, thin, seed=0)
    assert not is_through
    assert found.num_gradients == 5 * 2000
    assert (found.z == z).all(axis=-1).mean() > 0.99


BRIDGE = (0.75, 0.0, 1.0), (0.15, 2.2, 0.15), (0.1, 1.1, 0.8)  # share, centre, width: a heap beside a wide one


def on_a_bridge(z: np.ndarray) -> np.ndarray:
    """Two heaps with a bridge between them, which are one place, along the first of two coordinates."""
    first = logsumexp([np.log(s) + norm.logpdf(z[..., 0], m, w) for s, m, w in BRIDGE], axis=0)
    return np.asarray(first + norm.logpdf(z[..., 1], 0.0, 0.1))


def test_heaps_within_one_place_have_their_shares() -> None:
    rng = np.random.default_rng(2)
    label = np.stack([rng.choice(3, 1000, p=shares) for shares in ([0.9, 0.0, 0.1], [0.5, 0.4, 0.1]) for _ in range(2)])
    _, centre, width = np.array(BRIDGE).T
    first = centre[label] + width[label] * rng.standard_normal((4, 1000))
    z = np.stack([first, 0.1 * rng.standard_normal((4, 1000))], axis=-1)
    astray = Population(z, on_a_bridge(z), np.array([1.0]), 0, np.zeros(4))
    found, is_through = hop(astray, np.zeros((4, 1000), int), on_a_bridge, seed=0)
    share, mean, width = np.array(BRIDGE).T
    near = share @ (norm.cdf(2.5, mean, width) - norm.cdf(1.9, mean, width))
    assert is_through
    for island in found.z:
        assert np.mean(np.abs(island[:, 0] - 2.2) < 0.3) == pytest.approx(near, abs=0.05)


def test_points_that_are_all_but_one_make_no_place_of_their_own() -> None:
    """Of a place so narrow that no leap leads on, a population has copies of a point or two."""
    rng = np.random.default_rng(3)
    astray = population(rng)
    copies = astray.z.copy()
    copies[:, :20] = CENTRES[2]
    label = nearest(copies)
    label[:, :20] = 3
    found, _ = hop(astray._replace(z=copies, log_density=heights(copies)), label, heights, seed=0)
    assert np.bincount(nearest(found.z).ravel()) / 4000 == pytest.approx(SHARES, abs=0.02)


def test_a_proposal_may_be_a_million_times_as_long_as_wide() -> None:
    moves = compile_moves(lambda z: -0.5 * (1e6 * z[0]) ** 2 + 0.5 * z[0] ** 2, forward=False)
    z = np.random.default_rng(4).standard_normal((500, 2)) * [1e-6, 1.0]
    proposal = Proposal(z, np.full(500, 1.0 / 500))
    rows, probability = proposal.hop(np.random.default_rng(5), moves, Rows(z, moves.log_ratio(z), None), 1.0)
    assert np.isfinite(rows.z).all()
    assert 0.0 < probability.mean() < 0.5


@pytest.mark.parametrize(("data", "narrow"), [((1.0, 3.002, 4.999), True), ((1.0, 3.4, 4.8), False)])
def test_a_neck_that_no_island_has_entered_shows_in_the_drift(data: tuple[float, ...], narrow: bool) -> None:
    """A straight line and three points: where these lie on it, a quarter of the mass is at sds below 0.01."""
    y, x = jnp.asarray(data), jnp.arange(3.0)

    def log_likelihood(z: Array) -> Array:
        sd = jnp.maximum(ndtri(0.5 + 0.5 * ndtr(z[2])), 1e-300)
        return -0.5 * (((y - 5.0 * z[0] - 5.0 * z[1] * x) / sd) ** 2).sum() - 3.0 * jnp.log(sd)

    moves = compile_moves(log_likelihood, False, 100)
    start = populate(moves, 3, 4, 2000, 0)
    settled = Settled(start, np.zeros((4, 2000), int), moves.log_density, 0.0, 0)
    found = _hopped(cast("Target", SimpleNamespace(size=3)), Infer(), settled)
    assert found.drift is not None
    assert (found.drift > 2 * ADRIFT and found.log_evidence is None) if narrow else found.drift == 0.0
