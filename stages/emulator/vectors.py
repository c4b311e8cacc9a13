"""An emulator as UM-Bridge has models: a vector of parameters in, a vector for each output out, and slopes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from simfer.stages.emulator.emulator import Emulator

METHODS: Mapping[str, str] = {"forward": "__call__", "error": "error", "scatter": "scatter"}  # by the model's name


@dataclass(frozen=True)
class Vectors:
    """One of an emulator's functions, as a model with names in neither its input nor its output."""

    emulator: Emulator
    method: str

    @property
    def input_sizes(self) -> list[int]:
        """The length of each input vector: there is one, of the free parameters in their order."""
        return [len(self.emulator.space.names)]

    @property
    def output_sizes(self) -> list[int]:
        """The length of each output vector, one for each output."""
        return [output.size for output in self.emulator.layout.outputs.values()]

    def inside(self, x: Float[np.ndarray, " size"]) -> bool:
        """Say whether a point lies in the domain that the emulator was trained in."""
        return bool(_inside(self.emulator, jnp.asarray(x)))

    def evaluate(self, x: Float[np.ndarray, " size"]) -> list[np.ndarray]:
        """Return the output vectors."""
        return [np.asarray(each) for each in _evaluate(self.emulator, self.method, jnp.asarray(x))]

    def apply_jacobian(self, x: Float[np.ndarray, " size"], out: int, vec: Float[np.ndarray, " size"]) -> np.ndarray:
        """Return the Jacobian of one output vector times a vector of parameters."""
        return np.asarray(_pushed(self.emulator, self.method, jnp.asarray(x), jnp.asarray(vec))[out])

    def gradient(self, x: Float[np.ndarray, " size"], out: int, sens: Float[np.ndarray, " n"]) -> np.ndarray:
        """Return a vector like one output vector times its Jacobian."""
        parts = tuple(jnp.asarray(sens) if i == out else jnp.zeros(n) for i, n in enumerate(self.output_sizes))
        return np.asarray(_pulled(self.emulator, self.method, jnp.asarray(x), parts))


def _outputs(emulator: Emulator, method: str, x: Float[Array, " size"]) -> tuple[Array, ...]:
    named = getattr(emulator, method)(_point(emulator, x))
    return tuple(named[name].reshape(-1) for name in emulator.layout.outputs)


def _point(emulator: Emulator, x: Float[Array, " size"]) -> dict[str, Array]:
    return dict(zip(emulator.space.names, x, strict=True))


@eqx.filter_jit
def _inside(emulator: Emulator, x: Float[Array, " size"]) -> Bool[Array, ""]:
    return emulator.inside(_point(emulator, x))


@eqx.filter_jit
def _evaluate(emulator: Emulator, method: str, x: Float[Array, " size"]) -> tuple[Array, ...]:
    return _outputs(emulator, method, x)


@eqx.filter_jit
def _pushed(emulator: Emulator, method: str, x: Array, vec: Array) -> tuple[Array, ...]:
    return jax.jvp(lambda x: _outputs(emulator, method, x), (x,), (vec,))[1]


@eqx.filter_jit
def _pulled(emulator: Emulator, method: str, x: Array, sens: tuple[Array, ...]) -> Array:
    return jax.vjp(lambda x: _outputs(emulator, method, x), x)[1](sens)[0]
