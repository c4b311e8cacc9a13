"""The verdict on a model of one's own: its draws, with the true simulator at every point that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from simfer.stages.artifacts.posterior import Posterior
from simfer.stages.batches import in_batches
from simfer.stages.check.convergence import convergence_figures
from simfer.stages.check.evidence import Change, changes, smooth, weight_figures
from simfer.stages.check.verdict import Figure, edge_mass
from simfer.stages.infer.own_model.posterior import by_element
from simfer.stages.infer.own_model.sampling import load_own_target
from simfer.stages.infer.own_model.target import OwnTarget
from simfer.stages.infer.own_model.trace import Observed, Ran
from simfer.stages.infer.posterior import AGREEMENT
from simfer.stages.model.space import Space
from simfer.stages.settings import HANDED, Check, CheckConfig
from simfer.stages.simulate import design
from simfer.stages.simulate.accuracy import ROWS, Points, solve_again
from simfer.stages.summary import Table

TITLE = "emulator error at the posterior, in data sigma"


class Asked(NamedTuple):
    """Draws of a model, and the points that they are simulated at."""

    target: OwnTarget
    z: Float[np.ndarray, "draws size"]
    points: Float[np.ndarray, "draws points simulated"]

    @property
    def flat(self) -> Float[np.ndarray, "rows simulated"]:
        """All points in a row, those of a draw side by side."""
        return self.points.reshape(-1, self.points.shape[-1])

    def by_draw(self, solved: Bool[np.ndarray, " rows"]) -> Bool[np.ndarray, " draws"]:
        """Say of which draws every point was solved."""
        return np.asarray(solved.reshape(len(self.z), -1).all(axis=1))


class Beside(NamedTuple):
    """What the model says with the true simulator, beside what it says with the emulator."""

    error: dict[str, Float[np.ndarray, "draws n"]]  # by site of data, in its sigma
    weights: Float[np.ndarray, " draws"]
    log_ratio: Float[np.ndarray, " draws"]
    k_hat: float
    change: Change
    predictive_p: float


def ask(config: CheckConfig, inputs: Mapping[str, Sequence[Path]]) -> Asked:
    """Pick the draws that are simulated."""
    posterior = inputs["posterior"][0]
    target, handed = load_own_target(config, inputs["emulator"][0], posterior), Posterior.load(posterior).z(HANDED)
    z = handed[np.sort(design.picked(len(handed), config.check.num_draws, config.check.seed))]
    return Asked(target, z, target.points(z))


def compare(asked: Asked, y: Float[np.ndarray, "draws points outputs"], solved: Bool[np.ndarray, " draws"]) -> Beside:
    """Run the model at each draw with both, and once more with new data."""
    target, keys = asked.target, jax.random.split(jax.random.key(0), len(asked.z))

    def one(row: tuple[Array, Array, Array]) -> Any:
        z, y, key = row
        exact, emulated = target.run_on(z, y)[0], target.run(z)[0]
        # The emulator's mean, whatever error this draw has
        mean = target.run(jnp.concatenate([z[: target.num_named], jnp.zeros(target.size - target.num_named)]))[0]
        again = target.run_on(z, y, redraw=key)[0]
        ratio = exact.log_likelihood - emulated.log_likelihood + exact.log_prior_ratio - emulated.log_prior_ratio
        return _in_sigma(mean, exact), ratio, _log_prob(again) <= _log_prob(exact)

    rows = (asked.z[solved], y[solved], keys[solved])
    error, ratio, less = in_batches(one, rows, together=False)
    weights, k_hat = smooth(np.asarray(ratio))
    change = changes(asked.z[solved][:, : target.num_named], weights)
    return Beside(error, weights, np.asarray(ratio), k_hat, change, float(np.mean(less)))


def nothing(target: OwnTarget) -> Beside:
    """Say that too few draws could be simulated to say anything: every figure fails."""
    nan = float("nan")
    blank = np.array([nan])
    error = {name: np.full((1, 1), nan) for name in target.model.observed}
    return Beside(error, blank, blank, nan, Change(nan, nan, nan), nan)


def figures(
    config: CheckConfig,
    asked: Asked,
    found: Beside,
    solved: Bool[np.ndarray, " draws"],
    y: Float[np.ndarray, "draws points outputs"],
    tree: xr.DataTree,
) -> list[Figure]:
    """Return the figures of a verdict."""
    limits, target = config.check, asked.target
    return [
        *(
            Figure(f"emulator error, {name} (99th percentile, data sigma)", "emulator",
                   float(np.nanquantile(np.abs(error), 0.99)) if np.isfinite(error).any() else float("nan"),
                   limits.max_emulator_error)
            for name, error in found.error.items()
        ),
        *weight_figures(limits, found.weights, found.log_ratio, found.k_hat, found.change),
        *_domain(limits, target, asked.flat),
        Figure("draws that the simulator cannot solve", "failures", float(np.mean(~solved)), limits.max_outside),
        Figure("posterior mass at a prior's edge", "prior", _at_edge(config, asked.flat), limits.max_edge),
        *convergence_figures(limits, _Named(target), _elements(tree)),  # type: ignore[arg-type]
        *_solver(config, asked, solved, y),
        Figure("posterior predictive p", "model", found.predictive_p, limits.min_predictive_p, True),
    ]  # fmt: skip


def table(found: Beside) -> Table:
    """Tabulate the emulator's error at the posterior."""
    return [
        {
            "data": name,
            "median": float(np.nanmedian(np.abs(e))),
            "percentile_99": float(np.nanquantile(np.abs(e), 0.99)),
        }
        for name, e in found.error.items()
        if np.isfinite(e).any()
    ]


class _Named:
    """What `convergence_figures` asks of a target."""

    def __init__(self, target: OwnTarget) -> None:
        self.log_ratio, self.components = target.log_ratio, target.components


def _elements(tree: xr.DataTree) -> xr.DataTree:
    kept = ("unconstrained_posterior", "sample_stats", AGREEMENT)
    groups = {name: tree[name].to_dataset() for name in kept if name in tree}
    return xr.DataTree.from_dict(groups | {"posterior": by_element(tree["posterior"].to_dataset())})


def _log_prob(ran: Ran) -> Array:
    return sum((jnp.sum(each.log_prob) for each in ran.observed.values()), jnp.zeros(()))


def _in_sigma(ran: Ran, exact: Ran) -> dict[str, Array]:
    """Return how far the means of data lie from those by the simulator, in their sd there; NaN where there is none."""
    return {name: _gap(ran.observed[name], each) for name, each in exact.observed.items()}


def _gap(emulated: Observed, exact: Observed) -> Array:
    shape = jnp.shape(exact.value)
    try:
        gap = (_center(emulated.fn) - _center(exact.fn)) / _width(exact.fn)
    except (NotImplementedError, AttributeError):
        return jnp.full(shape, jnp.nan).reshape(-1)
    return jnp.broadcast_to(gap, shape).reshape(-1)


def _inner(fn: Any) -> Any:
    while hasattr(fn, "base_dist") and not hasattr(fn, "transforms"):
        fn = fn.base_dist
    return fn


def _center(fn: Any) -> Any:
    """Return where a distribution lies; of one that is the exponential of another, in the logarithm."""
    fn = _inner(fn)
    return _inner(fn.base_dist).mean if hasattr(fn, "transforms") else fn.mean


def _width(fn: Any) -> Any:
    fn = _inner(fn)
    return jnp.sqrt(_inner(fn.base_dist).variance if hasattr(fn, "transforms") else fn.variance)


def _domain(limits: Check, target: OwnTarget, points: Float[np.ndarray, "rows size"]) -> list[Figure]:
    if target.predictor.cross_validation is None:
        return []
    inside = np.asarray(target.predictor.domain.holds(target.predictor.space.on_circle(points)))
    return [Figure("draws outside the training domain", "domain", float(np.mean(~inside)), limits.max_outside)]


def _at_edge(config: CheckConfig, points: Float[np.ndarray, "rows size"]) -> float:
    """Return the share of simulated points at an edge of where the config's priors let the emulator be trained."""
    space = Space(config.parameters)
    known = points[np.isfinite(points).all(axis=1)]
    scores = dict(zip(space.names, np.asarray(space.scores(known)).T, strict=True))
    theta = dict(zip(space.names, np.asarray(space.theta(known)).T, strict=True))
    return edge_mass(space.priors, theta, scores)


def _solver(
    config: CheckConfig,
    asked: Asked,
    solved: Bool[np.ndarray, " draws"],
    y: Float[np.ndarray, "draws points outputs"],
) -> list[Figure]:
    """Return the figure of the solver's own error, at a few draws; none where no solver has a part."""
    again, target = solve_again(config.simulate, asked.target.predictor.space), asked.target
    count = asked.points.shape[1]
    if again is None or not solved.any() or count > ROWS:
        return []
    of_solved = np.flatnonzero(solved)
    rows = of_solved[np.unique(np.linspace(0, len(of_solved) - 1, ROWS // count).astype(int))]
    numbers = (rows[:, None] * count + np.arange(count)).ravel()
    exact = again.exactly(Points(asked.flat[numbers], numbers, f"check-{config.round}"))
    fine = exact.ok.reshape(len(rows), count).all(axis=1)
    if not fine.any():
        return []
    true = exact.y.reshape(len(rows), count, -1)[fine]

    def one(row: tuple[Array, Array, Array]) -> Array:
        z, y, exact = row
        gaps = _in_sigma(target.run_on(z, y)[0], target.run_on(z, exact)[0])
        return sum((jnp.nansum(gap**2) for gap in gaps.values()), jnp.zeros(()))

    squares = in_batches(one, (asked.z[rows][fine], y[rows][fine], true), together=False)
    largest = float(np.sqrt(np.asarray(squares)).max())
    name = "numerical error of the simulator (data sigma)"
    return [Figure(name, "solver", largest, config.check.max_solver_error)]
