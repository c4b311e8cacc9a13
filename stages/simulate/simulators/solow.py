"""Economic growth by saving (Solow 1956, "A Contribution to the Theory of Economic Growth", QJE 70)."""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from simfer.stages.model.outputs import Output
from simfer.stages.simulate.simulators.base import FunctionSimulator, ODESimulator, as_times

_PARAMETERS = {"saving": "", "alpha": "", "delta": "1/time", "capital_0": ""}


class Solow(FunctionSimulator):
    """Growth of an economy, period by period: k_{t+1} = s k_t^alpha + (1 - delta) k_t, output k^alpha (Solow 1956).

    k is capital per effective worker, s (`saving`) the share of output that is invested, delta the share of capital
    that wears out in a period, the growth of workers and of their skill counted in. `times` are one period apart;
    capital at the first of them is `capital_0`.
    """

    parameters: ClassVar[dict[str, str]] = _PARAMETERS

    times: Any = eqx.field(converter=as_times)

    def __check_init__(self) -> None:
        """Refuse times that lie between the periods."""
        if not np.allclose(np.diff(self.times), 1.0, rtol=0.0, atol=1e-9):
            raise ValueError(f"got times = {self.times}, expected each one period after the last (1, 2, 3, ...)")

    def outputs(self) -> dict[str, Output]:
        """Describe capital and output, series over time."""
        return {name: Output(("time",), {"time": np.asarray(self.times)}) for name in ("capital", "output")}

    def __call__(self, parameters: dict[str, Scalar]) -> dict[str, Float[Array, " time"]]:
        """Return capital and output at every time."""
        saving, alpha, delta = (parameters[name] for name in ("saving", "alpha", "delta"))

        def period(k: Scalar, _: None) -> tuple[Scalar, Scalar]:
            return saving * k**alpha + (1.0 - delta) * k, k

        capital = jax.lax.scan(period, jnp.asarray(parameters["capital_0"], float), length=len(self.times))[1]
        return {"capital": capital, "output": capital**alpha}


class SolowContinuous(ODESimulator):
    """Growth of an economy in continuous time: k' = s k^alpha - delta k, output k^alpha (Solow 1956).

    Names and units are those of `solow`. Written in log k, so that capital cannot pass through zero.
    """

    parameters: ClassVar[dict[str, str]] = _PARAMETERS

    def vector_field(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the rate of change of log capital."""
        return p["saving"] * jnp.exp((p["alpha"] - 1.0) * y) - p["delta"]

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return log capital at the start."""
        return jnp.log(p["capital_0"])

    def observe(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return capital and output."""
        return {"capital": jnp.exp(y), "output": jnp.exp(p["alpha"] * y)}
