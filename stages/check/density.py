"""What a random simulator gives at posterior draws, among data that the emulator's flow draws there.

Nobody knows the simulator's likelihood, so there are no importance weights. What takes their place: at each draw the
simulated data and those of the flow are exchangeable if the flow is right, whatever its shape, so that any number made
of them has a uniform rank; data simulated at one draw must lead the flow back to it among all draws as often as it says
(simulation-based calibration, Talts et al. 2018, the posterior being the prior); and the members of the ensemble,
trained apart, must agree on the posterior.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simfer.stages.batches import in_batches
from simfer.stages.check.effect import DRAWS, effect_p
from simfer.stages.check.members import by_flow
from simfer.stages.check.own_draw import calibration_p, found_p
from simfer.stages.check.verdict import Figure
from simfer.stages.emulator.flow import Flow
from simfer.stages.infer.target import Target
from simfer.stages.settings import Check
from simfer.stages.summary import Table

TITLE = (
    "simulated anew at posterior draws: where these data lie among fifteen that the flow draws there (nobody knows the "
    "simulator's likelihood: there are no weights, and no k-hat)"
)
_REPLICATES = 15  # of the flow at each draw: ranks have sixteen values
_DEGREES = 4  # of the polynomials of ranks
_FAR = 4.0  # sd beyond which a value counts as this: no single one is to decide
_PAIRED = 3  # replicates in the energy test
_PERMUTATIONS = 1999


class Exchanged(NamedTuple):
    """At each usable draw the simulated data, first, and the flow's replicates: what is made of each of them."""

    data: Float[np.ndarray, "draws each n"]
    log_density: Float[np.ndarray, "draws each"]
    scores: Float[np.ndarray, "draws each parameters"]  # of the parameters, whitened by their covariance there
    normal: Float[np.ndarray, "draws each n"]  # data as the flow's standard normals
    calibration_p: float
    predictive_p: float


def no_exchange(target: Target) -> Exchanged:
    """Say that too few draws could be simulated to say anything."""
    n, p, each = len(target.likelihood.index), target.num_named, 1 + _REPLICATES
    none = np.full((1, each, n), np.nan)
    return Exchanged(none, none[..., 0], np.full((1, each, p), np.nan), none, float("nan"), float("nan"))


def exchange(target: Target, draws: np.ndarray, y: np.ndarray) -> Exchanged:
    """Put noise on what the simulator gave at each draw, draw from the flow there, and evaluate all of them alike."""
    likelihood, flow = target.likelihood, target.flow
    assert flow is not None
    truth = jnp.asarray(likelihood.to_transformed(y, target.predictor.floor))
    observed, _ = likelihood.flat()
    keys = jax.random.split(jax.random.key(0), len(draws))

    def one(row: tuple[Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        z, truth, key = row
        noise, *more = jax.random.split(key, 1 + _REPLICATES)
        x, values = target.flow_input(z), likelihood.noise_space.values(target.split(z)[1])
        simulated, _ = likelihood.flat(likelihood.replicate(noise, None, truth, values))
        data = jnp.concatenate([simulated[None], jax.vmap(lambda k: flow.sample(x, k))(jnp.stack(more))])
        density = lambda z, y: flow.log_prob(target.flow_input(z), y)  # noqa: E731
        logs, scores = jax.vmap(jax.value_and_grad(density), (None, 0))(z, data)
        return data, logs, scores, jax.vmap(lambda y: flow.normal(x, y))(data), logs[1:] <= density(z, observed)

    rows = (jnp.asarray(draws), truth, keys)
    data, logs, scores, normal, less = in_batches(one, rows, together=False)
    calibration = calibration_p(draws[:, : target.num_named], data[:, 0], partial(_log_densities, target, flow, draws))
    return Exchanged(data, logs, _whitened(scores), normal, calibration, float(np.mean(less)))


def _whitened(scores: Float[np.ndarray, "draws each p"]) -> Float[np.ndarray, "draws each p"]:
    """Whiten the scores of each draw, by what all of them there and a little those of all draws vary.

    It is the same map for the simulated data and the replicates, and so no harm to the ranks.
    """
    own = np.einsum("rep,req->rpq", scores, scores) / scores.shape[1]
    size = np.trace(own, axis1=1, axis2=2)[:, None, None] / scores.shape[2]
    shape = np.median(own / np.maximum(size, 1e-300), axis=0) + 1e-6 * np.eye(scores.shape[2])
    values, axes = np.linalg.eigh(0.9 * own + 0.1 * size * shape)
    roots = 1.0 / np.sqrt(np.maximum(values, 1e-300))
    return np.einsum("rpk,rk,rqk,req->rep", axes, roots, axes, scores)


def density_figures(limits: Check, target: Target, found: Exchanged, draws: np.ndarray, looks: int) -> list[Figure]:
    """Return the figures of a flow: whether simulated data are like its own, and whether its members agree.

    Args:
        limits: The thresholds.
        target: What was sampled.
        found: What `exchange` returned.
        draws: All posterior draws.
        looks: How often the simulator has been asked so far, this round counted: whoever asks often enough passes a
            test by chance, so the p that is asked for grows with it.
    """
    apart = by_flow(target, draws)
    return [
        Figure("simulated data among the flow's, p of being alike", "density",
               alike_p(found) / looks, limits.min_scatter_p, True),
        Figure("data simulated at the posterior, p of finding their own draw", "density",
               effect_p(found.calibration_p, len(found.data)) / looks, limits.min_scatter_p, True),
        Figure("error of a mean by the flow's members (posterior sd)", "density",
               apart.shift, limits.max_member_shift),
        Figure("error of an sd by the flow's members (share)", "density",
               apart.change, limits.max_scatter_error),
        Figure("posterior mass out of place, of any two parameters", "density",
               apart.mass, limits.max_member_mass),
    ]  # fmt: skip


def _log_densities(
    target: Target, flow: Flow, draws: np.ndarray, simulated: np.ndarray, among: Int[np.ndarray, "draws each"]
) -> Float[np.ndarray, "draws each"]:
    """Return the log density of each row of data at each of the draws that it is looked for among."""
    inputs = jnp.asarray(in_batches(target.flow_input, jnp.asarray(draws)))

    def one(row: tuple[Array, Array]) -> Array:
        y, among = row
        return jax.vmap(lambda x: flow.log_prob(x, y))(inputs[among])

    return np.asarray(in_batches(one, (jnp.asarray(simulated), jnp.asarray(among)), together=False))


def alike_p(found: Exchanged) -> float:
    """Return the least p of five looks at whether simulated data are like the flow's own, by Bonferroni.

    Their density; the scores of the parameters, which are what a posterior is moved by; the standard normals, each for
    itself and all together: of each the mean, the width, skewness and kurtosis. And an energy test of the standard
    normals, for what no such number shows, of some of them if there are many: by permutations, it knows no small p.
    """
    if not all(np.isfinite(part).all() for part in found[1:4]):
        return float("nan")
    scores, normals = _moments(found.scores), _moments(found.normal)
    looks = [exchange_p(_by_rank(found.log_density)), exchange_p(normals.sum(axis=2))]
    for values in (scores, normals):
        each = [exchange_p(values[:, :, i]) for i in range(values.shape[2])]
        looks.append(len(each) * min(each))
    count = len(found.normal)
    looks = [effect_p(p, count) for p in looks]
    looks.append(energy_p(found.normal[:: -(-count // DRAWS)]))
    return float(min(len(looks) * min(looks), 1.0))


def exchange_p(values: Float[np.ndarray, "draws each k"]) -> float:
    """Return the p of the first of a draw's vectors being any of them, by their sum over draws (a score test)."""
    return found_p(values, np.full(values.shape[:2], 1.0 / values.shape[1]))


def _moments(values: Float[np.ndarray, "draws each k"]) -> Float[np.ndarray, "draws each k moments"]:
    """Return four Hermite polynomials: of standard normals, uncorrelated and of mean zero."""
    x = np.clip(values, -_FAR, _FAR)
    return np.stack([x, x**2 - 1.0, x**3 - 3.0 * x, x**4 - 6.0 * x**2 + 3.0], axis=-1)


def _by_rank(values: Float[np.ndarray, "draws each"]) -> Float[np.ndarray, "draws each degrees"]:
    """Return polynomials of ranks within a draw."""
    rank = np.argsort(np.argsort(values, axis=1), axis=1)
    powers = np.vander(np.linspace(-1.0, 1.0, values.shape[1]), _DEGREES + 1, increasing=True)
    return np.asarray(np.linalg.qr(powers)[0][rank][..., 1:])


def energy_p(values: Float[np.ndarray, "draws each n"]) -> float:
    """Return the p of simulated and replicated rows being from one law, by the energy distance (Szekely & Rizzo 2013).

    Only what was made at one draw is exchanged, so that the test is exact whatever the draws are.
    """
    rows = values[:, : 1 + _PAIRED]
    count, each, size = rows.shape
    flat = rows.reshape(-1, size)
    squares = (flat**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * flat @ flat.T, 0.0))
    distance[np.kron(np.eye(count), np.ones((each, each))) > 0] = 0.0  # the same whoever is who
    who = np.random.default_rng(0).integers(0, each, (1 + _PERMUTATIONS, count))
    who[0] = 0
    signs = np.full((1 + _PERMUTATIONS, count * each), -1.0 / _PAIRED)
    np.put_along_axis(signs, np.arange(count) * each + who, 1.0, axis=1)
    statistic = -np.einsum("ki,ki->k", signs @ distance, signs)
    return float((1 + np.count_nonzero(statistic[1:] >= statistic[0])) / (1 + _PERMUTATIONS))


def by_output(target: Target, found: Exchanged) -> Table:
    """Tabulate where simulated data lie among the flow's own, output by output."""
    share = (found.data[:, 1:] < found.data[:, :1]).mean(axis=1)
    return [
        {
            "output": b.name,
            "mean_rank": float(share[:, b.at].mean()),
            "below_the_flows": float(np.mean(share[:, b.at] == 0.0)),
            "above_the_flows": float(np.mean(share[:, b.at] == 1.0)),
            "expected_of_either": 1.0 / (1 + _REPLICATES),
        }
        for b in target.likelihood.blocks
    ]
