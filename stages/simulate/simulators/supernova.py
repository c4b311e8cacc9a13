"""Distances of type Ia supernovae in an expanding universe (Hogg 1999, astro-ph/9905116)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from simfer.stages.simulate.simulators.base import ODESimulator


class Supernova(ODESimulator):
    """Distance moduli in flat wCDM: mu = 5 log10[(1 + z) D(z)] + offset, D' = 1 / E(z) over the redshift z.

    E^2 = omega_m (1 + z)^3 + (1 - omega_m) (1 + z)^(3 (1 + w)), for matter and dark energy of pressure w times its
    density (Hogg 1999, with a w that need not be -1). D is the comoving distance in units of c / H0, so that offset =
    25 + 5 log10(c / H0 / Mpc), plus the error of the absolute magnitude assumed. `times` are redshifts, above 0.
    """

    parameters: ClassVar[dict[str, str]] = {"omega_m": "", "w": "", "offset": "mag"}
    units: ClassVar[dict[str, str]] = {"distance_modulus": "mag"}
    coordinate: ClassVar[str] = "redshift"

    start: float = 0.0

    def __check_init__(self) -> None:
        """Refuse redshifts at which there is no distance modulus."""
        if self.start != 0.0 or self.times[0] <= 0.0:
            raise ValueError(f"got start = {self.start}, times = {self.times}, expected redshifts above start = 0")

    def vector_field(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the rate of change of the comoving distance with redshift."""
        dark_energy = (1.0 - p["omega_m"]) * (1.0 + t) ** (3.0 * (1.0 + p["w"]))
        return 1.0 / jnp.sqrt(p["omega_m"] * (1.0 + t) ** 3 + dark_energy)

    def initial_state(self, p: dict[str, Scalar]) -> Float[Array, ""]:
        """Return the comoving distance of redshift 0."""
        return jnp.zeros(())

    def observe(self, t: Scalar, y: Float[Array, ""], p: dict[str, Scalar]) -> dict[str, Scalar]:
        """Return the distance modulus."""
        return {"distance_modulus": 5.0 * jnp.log10((1.0 + t) * y) + p["offset"]}
