"""One run of a model: its sites given values from a whitened point, and what it says of the data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro import handlers
from numpyro.primitives import Messenger

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.infer.own_model.calls import Calls
from simfer.stages.infer.own_model.whitening import WHERE, Centre, scale_of, whitening


class Observed(NamedTuple):
    """What a model says of one site of data."""

    fn: Any
    value: Array
    log_prob: Array


class Ran(NamedTuple):
    """What came of a model at one point."""

    values: dict[str, Array]  # of what it samples
    derived: dict[str, Array]  # by numpyro.deterministic
    observed: dict[str, Observed]
    log_prior_ratio: Array  # of what is sampled, over the standard normal of the point
    log_factor: Array  # of numpyro.factor
    sizes: dict[str, int]  # the number of a point's components, by site
    z: Float[Array, " size"]  # the point
    widths: dict[str, Array]  # of each site's prior, given what it depends on: its slope by the point
    scales: dict[str, bool | None]  # whether it can be centred, and in the logarithm

    @property
    def log_likelihood(self) -> Array:
        """The log probability of the data, factors counted."""
        return self.log_factor + sum((jnp.sum(each.log_prob) for each in self.observed.values()), jnp.zeros(()))


class _Sites(Messenger):  # type: ignore[misc]
    """Gives each site that is sampled its value: from a point, or, where that is None, by chance."""

    def __init__(self, z: Float[Array, " size"] | None, key: Array, centres: Mapping[str, Centre]) -> None:
        super().__init__(fn=None)
        self.z, self.key, self.centres = z, key, centres
        self.parts: dict[str, Array] = {}
        self.widths: dict[str, Array] = {}
        self.scales: dict[str, bool | None] = {}
        self.log_ratio = jnp.zeros(())

    def process_message(self, msg: dict[str, Any]) -> None:
        """Take the place of NumPyro's own drawing."""
        _refuse(msg)
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        at = whitening(msg["name"], msg["fn"], self.centres.get(msg["name"]))
        if self.z is None:
            self.key, own = jax.random.split(self.key)
            part = at.point(msg["fn"].sample(own))
        else:
            before = sum(each.size for each in self.parts.values())
            part = self.z[before : before + at.size]
            if part.shape[0] < at.size:  # to see how many there are
                part = jnp.zeros(at.size)
        value = at.value(part)
        self.parts[msg["name"]] = part
        self.scales[msg["name"]] = scale_of(msg["fn"])
        self.widths[msg["name"]] = jax.jvp(at.value, (part,), (jnp.ones_like(part),))[1]
        self.log_ratio += at.log_ratio(part, value)
        msg["value"] = value


class _Replaced(Messenger):  # type: ignore[misc]
    """Puts other data in the place of the observed ones, or draws new ones."""

    def __init__(self, data: Mapping[str, Array] | None, key: Array | None) -> None:
        super().__init__(fn=None)
        self.data, self.key = data, key

    def process_message(self, msg: dict[str, Any]) -> None:
        """Change what a site of data is said to be."""
        if msg["type"] != "sample" or not msg["is_observed"] or is_factor(msg):
            return
        if self.data is not None:
            msg["value"] = self.data[msg["name"]]
        elif self.key is not None:
            self.key, own = jax.random.split(self.key)
            msg["value"] = msg["fn"].sample(own)


def is_factor(msg: Mapping[str, Any]) -> bool:
    """Say whether a site is a number that was added to the log density, and no data."""
    fn = msg["fn"]
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__ == "Unit"


def run_model(
    model: Any,
    simulate: Calls,
    data: Mapping[str, Any],
    z: Float[Array, " size"] | None,
    replaced: Mapping[str, Array] | None = None,
    redraw: Array | None = None,
    key: Array | None = None,
    centres: Mapping[str, Centre] = MappingProxyType({}),
) -> Ran:
    """Run a model once.

    Args:
        model: The user's function.
        simulate: What it calls.
        data: What it is given.
        z: A whitened point of what it samples; None to draw that by chance, from `key`.
        replaced: Data by site in the place of the observed ones.
        redraw: A key to draw such data from.
        key: Of what is drawn.
        centres: Of sites that move by themselves.
    """
    first = jax.random.key(0) if key is None else key
    sites = _Sites(z, first, centres)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Out-of-support")  # the preflight says what lies there
        return _ran(model, simulate, data, sites, _Replaced(replaced, redraw), first)


def _ran(model: Any, simulate: Calls, data: Mapping[str, Any], sites: _Sites, other: _Replaced, key: Array) -> Ran:
    with handlers.trace() as trace, handlers.seed(rng_seed=key), sites, other:
        model(simulate, data)
    values, derived, observed, factor = {}, {}, {}, jnp.zeros(())
    for name, site in trace.items():
        if site["type"] == "deterministic":
            derived[name] = jnp.asarray(site["value"], float)
        elif site["type"] == "sample" and not site["is_observed"]:
            values[name] = jnp.asarray(site["value"], float)
        elif site["type"] == "sample":
            scale = 1.0 if site["scale"] is None else site["scale"]
            log_prob = scale * jnp.asarray(site["fn"].log_prob(site["value"]))
            if is_factor(site):
                factor = factor + jnp.sum(log_prob)
            else:
                observed[name] = Observed(site["fn"], jnp.asarray(site["value"]), log_prob)
    sizes = {name: int(part.shape[0]) for name, part in sites.parts.items()}
    point = jnp.concatenate([jnp.zeros(0), *sites.parts.values()])
    return Ran(values, derived, observed, sites.log_ratio, factor, sizes, point, sites.widths, sites.scales)


def _refuse(msg: Mapping[str, Any]) -> None:
    """Raise ConfigError for what a model may not do."""
    what = ""
    if msg["type"] == "param":
        what = f'it has a numpyro.param ("{msg["name"]}"), which nothing fits here; sample it'
    elif msg["type"] == "plate" and msg["args"][1] is not None and msg["args"][0] != msg["args"][1]:
        what = f'the plate "{msg["name"]}" takes a part of the data at a time; take all of them'
    elif msg["type"] == "sample" and not msg["is_observed"] and type(msg["fn"]).__name__ == "MaskedDistribution":
        what = f'it samples "{msg["name"]}" from a distribution that is masked; mask data alone'
    if what:
        raise ConfigError([Mistake(WHERE, what)])
