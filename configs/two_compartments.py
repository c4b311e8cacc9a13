"""A drug that is swallowed every twelve hours, in the blood and in the tissue."""

import jax.numpy as jnp

from simfer import ODESimulator


class TwoCompartments(ODESimulator):
    """From gut to blood, between blood and tissue, and out of the blood."""

    parameters = {"ka": "1/h", "CL": "L/h", "V1": "L", "Q": "L/h", "V2": "L"}
    units = {"concentration": "mg/L", "time": "h"}

    dose: float = 200.0  # mg
    every: float = 12.0  # h
    num_doses: int = 6

    def initial_state(self, p):
        return {"gut": jnp.asarray(0.0), "blood": jnp.asarray(0.0), "tissue": jnp.asarray(0.0)}

    def doses(self, p):
        return self.every * jnp.arange(self.num_doses), {"gut": self.dose, "blood": 0.0, "tissue": 0.0}

    def vector_field(self, t, y, p):
        absorbed = p["ka"] * y["gut"]
        exchanged = p["Q"] * (y["blood"] / p["V1"] - y["tissue"] / p["V2"])
        return {
            "gut": -absorbed,
            "blood": absorbed - exchanged - p["CL"] * y["blood"] / p["V1"],
            "tissue": exchanged,
        }

    def observe(self, t, y, p):
        return {"concentration": y["blood"] / p["V1"]}
