"""What is sampled where a model of one's own says what the data are: its sites, and the emulator's error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.batches import in_batches
from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.infer.own_model.calls import Calls, Give, by_emulator, from_rows, ones
from simfer.stages.infer.own_model.table import read_columns
from simfer.stages.infer.own_model.trace import Ran, run_model
from simfer.stages.infer.own_model.whitening import WHERE, Centre
from simfer.stages.infer.predictor import Predictor
from simfer.stages.infer.target import split_covariance
from simfer.stages.model.near_data import temper
from simfer.stages.model.outputs import Layout
from simfer.stages.model.plugins import resolve
from simfer.stages.model.space import Space
from simfer.stages.settings import LikelihoodConfig

SEEN = "seen.npz"  # the file of what was seen first: the emulator's error near the posterior, and what is centred
_REFERENCE = 400  # points of the posterior that held-out rows are held against
_KNOWN = 0.5  # of the width of a site's prior: below it the data know the site better than the prior
_POOL = 1000  # prior draws that chains may begin from


class Model:
    """The user's function with its data, and what it was seen to sample and to observe."""

    def __init__(
        self,
        config: LikelihoodConfig,
        space: Space,
        layout: Layout,
        centres: Mapping[str, Centre] = MappingProxyType({}),
    ) -> None:
        self.centres = centres
        self.function = resolve(config.infer.model, {}, WHERE)
        self.space, self.layout = space, layout
        self.data = read_columns(config.observation, layout)
        self._see()

    def run(self, give: Give, z: Float[Array, " size"] | None, **more: Any) -> tuple[Ran, Float[Array, "points size"]]:
        """Run it at a whitened point of its sites, with outputs that `give` gives; the points that it asked for too."""
        calls = Calls(self.space, give)
        ran = run_model(self.function, calls, self.data, z, centres=self.centres, **more)
        return ran, calls.points()

    @property
    def size(self) -> int:
        """The number of a point's components."""
        return sum(self.sizes.values())

    @property
    def components(self) -> list[str]:
        """What they are called."""
        return [name if size == 1 else f"{name}[{i}]" for name, size in self.sizes.items() for i in range(size)]

    def _see(self) -> None:
        """Run it on shapes alone, and say what is wrong with it."""
        sizes: dict[str, int] = {}
        counts: list[int] = []
        named: list[list[str]] = []

        def traced(z: Array) -> Any:
            ran, points = self.run(ones(self.layout), z)
            sizes.update(ran.sizes)
            counts.append(int(points.shape[0]))
            named[:] = [[*ran.values, *ran.derived], list(ran.observed)]
            return jnp.zeros(())

        jax.eval_shape(traced, jnp.zeros(0))
        self.sizes, self.num_points, (self.named, self.observed) = sizes, counts[-1], named
        self.scales: dict[str, bool | None] = {}
        wrong = {
            "it never calls simulate(parameters); without a simulator, NumPyro alone will do": not self.num_points,
            "it samples nothing that could be inferred; expected numpyro.sample(name, distribution)": not sizes,
            'it observes nothing; expected numpyro.sample(name, distribution, obs=data["COLUMN"])': not self.observed,
        }
        if found := [Mistake(WHERE, what) for what, is_so in wrong.items() if is_so]:
            raise ConfigError(found)


class OwnTarget(NamedTuple):
    """What is sampled: whitened points of a model's sites, and of the weights of the emulator's error behind them."""

    log_likelihood: Callable[..., Float[Array, ""]]
    size: int
    model: Model
    predictor: Predictor
    factor: Float[np.ndarray, "k outputs"]  # each with a weight of its own at each point that is simulated
    chains: Path | None = None
    guide: None = None
    num_scatter: int = 0

    @property
    def num_named(self) -> int:
        """The number of a point's first components that are the model's."""
        return self.model.size

    @property
    def num_predicted(self) -> int:
        """How many numbers an evaluation predicts: all outputs at every point, with the factors of their error."""
        return self.model.num_points * self.model.layout.size * (1 + len(self.factor))

    @property
    def space(self) -> Space:
        """No parameters of a config: sites are mapped one by one, and centred there."""
        return Space({})

    @property
    def components(self) -> list[str]:
        """What these are called."""
        return self.model.components

    def log_ratio(self, z: Float[Array, " size"]) -> Float[Array, ""]:
        """Return the log density of what is sampled over that of a standard normal."""
        return self.log_likelihood(z) + self.run(z)[0].log_prior_ratio

    def run(self, z: Float[Array, " size"], **more: Any) -> tuple[Ran, Float[Array, "points size"]]:
        """Run the model at a point, with the emulator."""
        weights = z[self.num_named :].reshape(self.model.num_points, len(self.factor))
        return self.model.run(by_emulator(self.predictor, self.factor, weights), z[: self.num_named], **more)

    def run_on(
        self, z: Float[Array, " size"], y: Float[Array, "points outputs"], **more: Any
    ) -> tuple[Ran, Float[Array, "points size"]]:
        """Run the model at a point, with outputs that the simulator gave there, in their own units."""
        return self.model.run(from_rows(y, self.model.layout), z[: self.num_named], **more)

    def points(self, z: Float[np.ndarray, "draws size"]) -> Float[np.ndarray, "draws points simulated"]:
        """Return where draws ask for simulations, as whitened points of the simulator's parameters."""
        return np.asarray(in_batches(lambda z: self.run(z)[1], z))

    def centres(self, z: Float[np.ndarray, "draws size"]) -> dict[str, Centre]:
        """Return the sites that draws of the posterior know far better than their prior, with where the latter lies."""

        def look(z: Array) -> Any:
            ran, _ = self.run(z)
            self.model.scales |= ran.scales
            return {n: (ran.values[n], ran.widths[n]) for n, is_log in ran.scales.items() if is_log is not None}

        found: dict[str, Centre] = {}
        seen, prior = in_batches(look, z), in_batches(look, self.prior(_POOL, 0), together=False)
        for name, (values, widths) in seen.items():
            is_log = bool(self.model.scales[name])
            spread = (np.log(values) if is_log else values).std(axis=0)
            if np.all(spread < _KNOWN * np.median(np.abs(widths / values if is_log else widths), axis=0)):
                found[name] = Centre.of(prior[name][0], is_log)
        return found

    def starts(self) -> Float[np.ndarray, "rows size"]:
        """Return points that chains may begin from."""
        return np.random.default_rng(0).standard_normal((_POOL, self.size))

    def prior(self, count: int, seed: int) -> Float[np.ndarray, "draws size"]:
        """Draw what the model samples from its own priors, whitened."""

        def one(key: Array) -> Array:
            return self.model.run(ones(self.model.layout), None, key=key)[0].z

        keys = jax.random.split(jax.random.key(seed), count)
        return np.asarray(in_batches(one, keys, together=False))


def build_own_target(
    config: LikelihoodConfig,
    predictor: Predictor,
    factor: Float[np.ndarray, "k outputs"] | None,
    centres: Mapping[str, Centre] = MappingProxyType({}),
) -> OwnTarget:
    """Put a model together with what predicts the outputs, and with its error; None leaves the error out."""
    model = Model(config, predictor.space, predictor.layout, centres)
    given = np.zeros((0, predictor.layout.size)) if factor is None else factor

    def log_likelihood(z: Float[Array, " size"], data: Mapping[str, Array] | None = None) -> Float[Array, ""]:
        return target.run(z, replaced=data)[0].log_likelihood

    target = OwnTarget(log_likelihood, model.size + model.num_points * len(given), model, predictor, given)
    return target


def error_factor(
    predictor: Predictor, points: Float[np.ndarray, "points size"]
) -> Float[np.ndarray, "k outputs"] | None:
    """Return the emulator's error as factors, from held-out rows near points; None of what makes no error.

    Each factor is a number more that is sampled, at each point that a model asks for: so the members' own spread, which
    is another at each point, is not told apart from the rest, as it is where the error can be integrated out.
    """
    rows = predictor.cross_validation
    if rows is None:
        return None
    weights = temper(_distance(np.asarray(predictor.training_z), points))
    return split_covariance(np.asarray(rows.residuals), weights)[0]


def _distance(rows: Float[np.ndarray, "rows size"], points: Float[np.ndarray, "points size"]) -> np.ndarray:
    """Return half the squared distance of rows to the nearest of some points, in units of these points' covariance."""
    some = points[np.isfinite(points).all(axis=1)]
    some = some[np.linspace(0, len(some) - 1, min(_REFERENCE, len(some))).astype(int)]
    covariance = np.atleast_2d(np.cov(some.T)) + 1e-6 * np.eye(some.shape[1])
    root = np.linalg.inv(np.linalg.cholesky(covariance)).T
    a, b = rows @ root, some @ root
    return 0.5 * ((a[:, None] - b[None]) ** 2).sum(axis=2).min(axis=1)
