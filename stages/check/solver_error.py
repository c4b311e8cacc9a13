"""The simulator's own numerical error, at posterior draws: what the check itself cannot see, for it asks the same."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from simfer.stages.check.verdict import Figure
from simfer.stages.infer.target import Target
from simfer.stages.settings import CheckConfig
from simfer.stages.simulate.accuracy import ROWS, Points, in_sigma, solve_again


def solver_figures(
    config: CheckConfig,
    target: Target,
    draws: Float[np.ndarray, "draws size"],
    y: Float[np.ndarray, "draws outputs"],
    usable: Bool[np.ndarray, " draws"],
) -> list[Figure]:
    """Return the figure of the solver's error; none where no solver has a part, or none of the draws can be resolved.

    Sixteen draws are solved again, far more exactly. The figure is the largest root of the summed squares of what that
    changes, over all data in units of their sigma. No posterior mean moves by more of its sd, whatever direction the
    error points in: a change d of what is predicted moves it by at most |d| / sigma, in the linear Gaussian case.
    """
    again = solve_again(config.simulate, target.predictor.space)
    if again is None or not usable.any():
        return []
    of_usable = np.flatnonzero(usable)
    rows = of_usable[np.unique(np.linspace(0, len(of_usable) - 1, ROWS).astype(int))]
    z, noise, _ = target.split(draws[rows])
    exact = again.exactly(Points(np.asarray(z), rows, f"check-{config.round}"))
    if not exact.ok.any():
        return []
    solved = rows[exact.ok]
    noise = np.asarray(noise)[exact.ok]
    error = in_sigma(target.likelihood, y[solved], exact.y[exact.ok], noise, target.predictor.floor)
    largest = float(np.sqrt(np.nansum(error**2, axis=1)).max())
    name = "numerical error of the simulator (data sigma)"
    return [Figure(name, "solver", largest, config.check.max_solver_error)]
