"""What a model calls for its simulations: points in, outputs out, whoever gives these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.errors import ConfigError, Mistake, did_you_mean
from simfer.stages.infer.own_model.named import Named
from simfer.stages.infer.own_model.whitening import WHERE
from simfer.stages.infer.predictor import Predictor
from simfer.stages.model.space import Space
from simfer.stages.model.vectors import spread

Outputs = dict[str, Any]  # by name, each with a leading axis of points
Give = Callable[[Float[Array, "points size"], int], Outputs]


class Calls:
    """The `simulate` of a model: it remembers at which whitened points it was called."""

    def __init__(self, space: Space, give: Give) -> None:
        """Take outputs of whitened points from `give`, which is told how many points were asked for before."""
        self._space, self._give = space, give
        self.z: list[Float[Array, "points size"]] = []

    def __call__(self, parameters: Mapping[str, Any]) -> Outputs:
        """Return each output, its own axes after those that the parameters have."""
        values = self._checked(parameters)
        shape = jnp.broadcast_shapes(*(jnp.shape(value) for value in values.values()))
        z = jnp.broadcast_to(self._space.whiten_held(values), (*shape, self._space.size)).reshape(-1, self._space.size)
        before = self.num_points
        self.z.append(z)
        given = {name: y.reshape(*shape, *y.shape[1:]) for name, y in self._give(z, before).items()}
        return Named("simulate(...)", given)

    @property
    def num_points(self) -> int:
        """How many points were asked for so far."""
        return sum(len(z) for z in self.z)

    def points(self) -> Float[Array, "points size"]:
        """Return every point that was asked for, in the order of the calls."""
        return jnp.concatenate([jnp.zeros((0, self._space.size)), *self.z])

    def _checked(self, parameters: Any) -> dict[str, Any]:
        names = self._space.names
        if not isinstance(parameters, Mapping):
            what = f"got {type(parameters).__name__}, expected a table of the parameters: {', '.join(names)}"
            raise ConfigError([Mistake(WHERE, f"simulate(...): {what}")])
        parameters = spread({name: jnp.asarray(value, float) for name, value in parameters.items()}, names)
        if unknown := [str(name) for name in parameters if name not in names]:
            fixed = unknown[0] in self._space.fixed
            what = "is a fixed number in [parameters]" if fixed else "is no free parameter of [parameters]"
            hint = did_you_mean(unknown[0], names)
            text = f"simulate(...): {unknown[0]} {what}; expected {', '.join(names)}.{hint}"
            raise ConfigError([Mistake(WHERE, text)])
        if missing := [name for name in names if name not in parameters]:
            raise ConfigError([Mistake(WHERE, f"simulate(...): {', '.join(missing)} missing; it takes every one")])
        return {name: parameters[name] for name in names}


def flat_to_named(y: Float[Any, "points outputs"], layout: Any) -> Outputs:
    """Return flat outputs in their own units by name and shape."""
    slices = layout.slices
    return {
        name: jnp.asarray(y)[:, slices[name]].reshape(len(y), *output.shape) for name, output in layout.outputs.items()
    }


def ones(layout: Any) -> Give:
    """Return what gives ones for every output, to see what a model does with it."""
    return lambda z, before: {n: jnp.ones((len(z), *o.shape)) for n, o in layout.outputs.items()}


def from_rows(y: Float[Any, "points outputs"], layout: Any) -> Give:
    """Return what gives outputs that are there, point by point in the order of the calls."""
    named = flat_to_named(y, layout)
    return lambda z, before: {name: value[before : before + len(z)] for name, value in named.items()}


def by_emulator(
    predictor: Predictor, factor: Float[np.ndarray, "k outputs"], weights: Float[Array, "points k"]
) -> Give:
    """Return what gives the emulator's outputs, with the error that `weights` of its factors say."""

    def give(z: Array, before: int) -> Outputs:
        mean = jax.vmap(predictor.members)(z).mean(axis=1)
        return dict(predictor.natural(mean + weights[before : before + len(z)] @ jnp.asarray(factor)))

    return give
