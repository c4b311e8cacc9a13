"""Eight schools (Rubin 1981): what coaching adds to the scores of each."""

import jax.numpy as jnp
import numpy as np

from simfer import FunctionSimulator, Output

SCHOOLS = "ABCDEFGH"


class Coaching(FunctionSimulator):
    """The gain of each school is its own effect; of the population that these come from, it knows nothing."""

    parameters = {f"effect_{school}": "points" for school in SCHOOLS}

    def outputs(self):
        return {"gain": Output(("school",), {"school": np.arange(1.0, 9.0)}, unit="points")}

    def __call__(self, p):
        return {"gain": jnp.stack([p[f"effect_{school}"] for school in SCHOOLS])}
