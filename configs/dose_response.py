"""Cells on a plate, under a drug that slows their growth or kills them."""

import jax.numpy as jnp

from simfer import ODESimulator


class Plate(ODESimulator):
    """Exponential growth whose rate falls with the dose as Hill's curve does."""

    parameters = {"seeded": "cells", "growth": "1/h", "effect": "", "half": "uM", "slope": ""}
    units = {"cells": "cells", "time": "h"}

    dose: float = 0.0  # uM

    def initial_state(self, p):
        return jnp.log(p["seeded"])

    def vector_field(self, t, y, p):
        bound = (self.dose / p["half"]) ** p["slope"] if self.dose else 0.0
        return p["growth"] * (1.0 - p["effect"] * bound / (1.0 + bound)) + 0.0 * y

    def observe(self, t, y, p):
        return {"cells": jnp.exp(y)}
