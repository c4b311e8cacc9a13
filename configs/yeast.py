"""Yeast in a closed vessel, solved by SciPy: a simulator that is plain Python, and no JAX."""

import numpy as np
from scipy.integrate import solve_ivp

TIMES = np.arange(0.0, 19.0, 2.0)  # h


def simulate(r, capacity, n_0):
    """Grow logistically: n' = r n (1 - n / capacity), from n_0."""

    def growth(t, n):
        return r * n * (1 - n / capacity)

    solution = solve_ivp(growth, (TIMES[0], TIMES[-1]), [n_0], t_eval=TIMES, rtol=1e-8, atol=1e-6)
    return {"time": TIMES, "yeast": ("time", solution.y[0])}
