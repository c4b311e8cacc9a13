"""A star cluster: a Plummer sphere out of equilibrium, followed body by body."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import StochasticSimulator, as_times
from simfer.stages.simulate.simulators.nbody.gravity import acceleration, potential
from simfer.stages.simulate.simulators.nbody.plummer import plummer_sphere
from simfer.stages.simulate.simulators.nbody.symplectic import INTEGRATORS, integrate

State = tuple[Float[Array, "3 bodies"], Float[Array, "3 bodies"], Float[Array, "3 bodies"]]


class StarCluster(StochasticSimulator):
    """Bodies of equal mass from a Plummer sphere, with velocities scaled to a virial ratio; units have G = 1.

    The virial ratio is kinetic over potential energy, 1/2 in equilibrium, of the sphere that the bodies are drawn from;
    a cluster of few bodies has it only about so. What is observed at each of `times` (multiples of `step`):

    - `radius_P`: of the sphere about the middle (the median of each coordinate) that holds P per cent of the mass;
    - `velocity_dispersion` along a line of sight: the root mean square over all bodies and directions;
    - `bound_fraction`: of the bodies, those whose kinetic and potential energy together are negative.

    `softening`, `step` and `times` are in the units of the parameters. In `dtype` "float32" a run costs half.
    """

    parameters: ClassVar[dict[str, str]] = {"mass": "", "scale_radius": "", "virial_ratio": ""}

    times: np.ndarray = eqx.field(converter=as_times)
    num_bodies: int = 100
    softening: float = 0.1
    step: float = 0.05
    integrator: str = "leapfrog"
    percents: tuple[int, ...] = eqx.field(default=(10, 30, 50, 70, 90), converter=tuple)
    dtype: str = "float64"

    def __check_init__(self) -> None:
        """Refuse options that cannot be met."""
        if self.integrator not in INTEGRATORS:
            raise ValueError(f'got integrator = "{self.integrator}", expected one of {", ".join(INTEGRATORS)}')
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f'got dtype = "{self.dtype}", expected float32 or float64')
        if not self.step > 0 or self.times[0] < 0 or not np.allclose(self.times / self.step, self._steps_to, atol=1e-6):
            raise ValueError(
                f"got step = {self.step} and times = {self.times}, expected times that are multiples of it"
            )
        if not all(0 < percent < 100 for percent in self.percents):
            raise ValueError(f"got percents = {self.percents}, expected numbers between 0 and 100")

    def outputs(self) -> dict[str, Output]:
        """Describe each output: a series over `times`."""
        names = [f"radius_{percent}" for percent in self.percents] + ["velocity_dispersion", "bound_fraction"]
        return {name: Output(("time",), {"time": self.times}) for name in names}

    def __call__(self, parameters: dict[str, Scalar], key: PRNGKeyArray) -> dict[str, Float[Array, " time"]]:
        """Draw a cluster, follow it, and return what is seen of it."""
        splitting, masses = INTEGRATORS[self.integrator], self._masses(parameters)
        accelerate = lambda x: acceleration(x, masses, self.softening)  # noqa: E731

        def until_seen(state: State, num_steps: Int[Array, ""]) -> tuple[State, dict[str, Scalar]]:
            state = integrate(splitting, accelerate, state, self.step, num_steps)
            return state, self.observe(state[0], state[1], masses)

        x, v = self.initial_state(parameters, key)
        num_steps = np.diff(self._steps_to, prepend=0)
        return jax.lax.scan(until_seen, (x, v, accelerate(x)), jnp.asarray(num_steps))[1]

    def initial_state(
        self, p: dict[str, Scalar], key: PRNGKeyArray
    ) -> tuple[Float[Array, "3 bodies"], Float[Array, "3 bodies"]]:
        """Draw positions and velocities, the centre of mass at rest in the origin."""
        x, v = plummer_sphere(key, self.num_bodies, self.dtype)
        x = x * p["scale_radius"].astype(self.dtype)
        v = v * jnp.sqrt(2 * p["virial_ratio"] * p["mass"] / p["scale_radius"]).astype(self.dtype)
        return x - x.mean(axis=1, keepdims=True), v - v.mean(axis=1, keepdims=True)

    def observe(
        self, x: Float[Array, "3 bodies"], v: Float[Array, "3 bodies"], masses: Float[Array, " bodies"]
    ) -> dict[str, Scalar]:
        """Return the outputs at one time."""
        # Not about the centre of mass, which follows a body that is thrown out.
        radius = jnp.sort(jnp.linalg.norm(x - jnp.median(x, axis=1, keepdims=True), axis=0))
        last = {f"radius_{p}": radius[int(np.ceil(p * self.num_bodies / 100)) - 1] for p in self.percents}
        squared = jnp.sum((v - v.mean(axis=1, keepdims=True)) ** 2, axis=0)
        is_bound = 0.5 * squared + potential(x, masses, self.softening) < 0
        return last | {
            "velocity_dispersion": jnp.sqrt(squared.mean() / 3),
            "bound_fraction": is_bound.mean(dtype=x.dtype),
        }

    def _masses(self, p: dict[str, Scalar]) -> Float[Array, " bodies"]:
        return jnp.full(self.num_bodies, p["mass"] / self.num_bodies, self.dtype)

    @property
    def _steps_to(self) -> Int[np.ndarray, " time"]:
        return np.rint(self.times / self.step).astype(int)
