"""How much of standard test functions does each architecture leave unexplained, beside the best published emulators?

    python benchmarks/emulators.py [--functions borehole ...] [--rows 100 1000] [--seeds 3] [--architectures mlp ...]

Each function on the unit cube, Latin hypercube designs, 1 - R^2 on 10,000 fresh points, the median over designs; every
architecture with its defaults. `auto` is the one of least cross-validated error on the training rows, of those that
`architecture = "auto"` tries: the fresh points choose nothing. The published figures are the best of the emulators
compared by Rumsey et al. (the duqling study; its functions and ranges are those of the Virtual Library of Simulation
Experiments, Surjanovic & Bingham 2013).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.stats import qmc

from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.progress import Silent
from simfer.stages.settings import Train
from simfer.stages.settings.names import ARCHITECTURES, CANDIDATES
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import Fitted, fit

FOLDS, FRESH = 5, 10_000
Inputs = Float[np.ndarray, "size n"]


def borehole(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return the flow of water through a borehole, m^3 a year (Harper & Gupta 1983)."""
    r_w, r, t_u, h_u, t_l, h_l, length, k_w = x
    log = np.log(r / r_w)
    return 2 * np.pi * t_u * (h_u - h_l) / (log * (1 + 2 * length * t_u / (log * r_w**2 * k_w) + t_u / t_l))


def otl_circuit(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return the midpoint voltage of a push-pull circuit without transformer (Ben-Ari & Steinberg 2007)."""
    r_b1, r_b2, r_f, r_c1, r_c2, beta = x
    gain = beta * (r_c2 + 9.0)
    v_b1 = 12.0 * r_b2 / (r_b1 + r_b2)
    return ((v_b1 + 0.74) * gain + 11.35 * r_f + 0.74 * r_f * gain / r_c1) / (gain + r_f)


def piston(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return the seconds that a piston takes for a cycle (Kenett & Zacks 1998)."""
    mass, area, volume, spring, pressure, ambient, filling = x
    push = pressure * area + 19.62 * mass - spring * volume / area
    gas = pressure * volume / filling * ambient
    v = area / (2 * spring) * (np.sqrt(push**2 + 4 * spring * gas) - push)
    return 2 * np.pi * np.sqrt(mass / (spring + area**2 * gas / v**2))


def wing_weight(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return the weight of a light aircraft's wing in pounds (Forrester et al. 2008, eq. 1.5)."""
    area, fuel, aspect, sweep, q, taper, thickness, load, gross, paint = x
    cosine = np.cos(np.deg2rad(sweep))
    shape = (aspect / cosine**2) ** 0.6 * q**0.006 * taper**0.04 * (100 * thickness / cosine) ** -0.3
    return 0.036 * area**0.758 * fuel**0.0035 * shape * (load * gross) ** 0.49 + area * paint


def robot_arm(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return how far the end of an arm of four segments is from its shoulder (An & Owen 2001)."""
    angle, length = np.cumsum(x[:4], axis=0), x[4:]
    return np.hypot((length * np.cos(angle)).sum(axis=0), (length * np.sin(angle)).sum(axis=0))


def friedman(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return the function of Friedman (1991), without its noise and its inert inputs."""
    return 10 * np.sin(np.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4]


def ishigami(x: Inputs) -> Float[np.ndarray, " n"]:
    """Return the function of Ishigami & Homma (1990), with a = 7 and b = 0.1."""
    return np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0])


class Case(NamedTuple):
    """A function, the bounds of its inputs, and the least unexplained variance published for some numbers of rows."""

    function: Callable[[Inputs], Float[np.ndarray, " n"]]
    bounds: list[tuple[float, float]]
    published: dict[int, float]

    def on_cube(self, u: Float[np.ndarray, "n size"]) -> Float[np.ndarray, " n"]:
        """Evaluate at points of the unit cube."""
        low, high = np.asarray(self.bounds, float).T
        return self.function((low + u * (high - low)).T)


# In the order of the functions' inputs.
CASES = {
    "borehole": Case(
        borehole,
        [
            (0.05, 0.15),
            (100, 50000),
            (63070, 115600),
            (990, 1110),
            (63.1, 116),
            (700, 820),
            (1120, 1680),
            (9855, 12045),
        ],
        {100: 1.4e-3, 1000: 3.6e-5},
    ),
    "otl_circuit": Case(
        otl_circuit,
        [(50, 150), (25, 70), (0.5, 3), (1.2, 2.5), (0.25, 1.2), (50, 300)],
        {100: 3.3e-4, 1000: 8.5e-7},
    ),
    "piston": Case(
        piston,
        [(30, 60), (0.005, 0.02), (0.002, 0.01), (1000, 5000), (90000, 110000), (290, 296), (340, 360)],
        {100: 1.6e-2, 1000: 1.3e-3},
    ),
    "wing_weight": Case(
        wing_weight,
        [
            *((150, 200), (220, 300), (6, 10), (-10, 10), (16, 45)),
            *((0.5, 1), (0.08, 0.18), (2.5, 6), (1700, 2500), (0.025, 0.08)),
        ],
        {100: 8e-3, 1000: 7.9e-5},
    ),
    "robot_arm": Case(robot_arm, [(0, 2 * np.pi)] * 4 + [(0, 1)] * 4, {100: 0.68, 1000: 0.20}),
    "friedman": Case(friedman, [(0, 1)] * 5, {100: 1.6e-3, 1000: 3.4e-6}),
    "ishigami": Case(ishigami, [(-np.pi, np.pi)] * 3, {1000: 5.9e-5}),
}


class Score(NamedTuple):
    """What an architecture leaves unexplained on fresh points, and on training rows that it had not seen."""

    fresh: float
    validated: float
    seconds: float


def score(case: Case, architecture: str, num_rows: int, seed: int) -> Score:
    """Train one architecture, with its defaults, on one design."""
    design = qmc.LatinHypercube(len(case.bounds), rng=seed).random(num_rows)
    fresh = np.random.default_rng([seed, 1]).random((FRESH, len(case.bounds)))
    y, truth = case.on_cube(design), case.on_cube(fresh)
    center, spread = design.mean(axis=0), design.std(axis=0)
    rows = Rows((design - center) / spread, ((y - y.mean()) / y.std())[:, None])
    fold = 1 + np.arange(num_rows) % FOLDS
    given = {"families": ("uniform",) * len(case.bounds), "layout": Layout({"y": Output()}), "varies": (True,)}
    began = time.perf_counter()
    fitted = fit(Train(architecture=architecture), rows, fold, given, Silent())
    seconds = time.perf_counter() - began
    unseen = np.zeros(num_rows)
    for number in range(1, FOLDS + 1):
        own = fold == number
        unseen[own] = predicted(without(fitted, number), rows.x[own])
    error = predicted(fitted.networks, (fresh - center) / spread) * y.std() + y.mean() - truth
    return Score(float((error**2).mean() / truth.var()), float(((unseen - rows.y[:, 0]) ** 2).mean()), seconds)


def without(fitted: Fitted, fold: int) -> eqx.Module:
    """Return what did not see a fold."""
    if fitted.twins:
        return fitted.twins[fold]
    members = np.flatnonzero(fitted.unseen_folds == fold)
    return jax.tree.map(lambda leaf: leaf[members] if eqx.is_array(leaf) else leaf, fitted.networks)


def predicted(networks: eqx.Module, x: Float[np.ndarray, "n size"]) -> Float[np.ndarray, " n"]:
    """Return a closed form's prediction, or the mean of an ensemble's."""
    if isinstance(networks, ClosedForm):
        evaluate = eqx.filter_jit(lambda m, x: jax.lax.map(m, x, batch_size=500)[:, 0])
    else:
        evaluate = eqx.filter_jit(lambda m, x: eqx.filter_vmap(lambda one: jax.vmap(one)(x))(m).mean(axis=0)[:, 0])
    dtype = jax.tree.leaves(eqx.filter(networks, eqx.is_inexact_array))[0].dtype
    return np.asarray(evaluate(networks, jnp.asarray(x, dtype)), float)


def main() -> None:
    """Print a line for each function, number of rows and architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES), choices=list(ARCHITECTURES))
    parser.add_argument("--rows", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print("| function | rows | architecture | unexplained variance | cross-validated | ratio to published | seconds |")
    print("|---|---|---|---|---|---|---|")
    for num_rows in asked.rows:
        reached = [compare(name, num_rows, asked.architectures, asked.seeds) for name in asked.functions]
        known = [best for best in reached if best is not None]
        print(f"\n{num_rows} rows: auto at or below the best published on {sum(known)} of {len(known)}\n", flush=True)


def compare(name: str, num_rows: int, architectures: list[str], seeds: int) -> bool | None:
    """Print a function's lines; return whether `auto` is at or below the best published, where there is one."""
    case = CASES[name]
    scores = {each: [score(case, each, num_rows, seed) for seed in range(seeds)] for each in architectures}
    tried = [each for each in architectures if each in CANDIDATES] or architectures
    winners = [min(tried, key=lambda each: scores[each][seed].validated) for seed in range(seeds)]
    auto = [scores[winner][seed] for seed, winner in enumerate(winners)]
    chosen = ", ".join(sorted(set(winners)))
    best = case.published.get(num_rows)
    for label, each in [*scores.items(), (f"auto ({chosen})", auto)]:
        fresh, validated, seconds = (statistics.median(column) for column in zip(*each, strict=True))
        ratio = f"{fresh / best:.2g}" if best else ""
        cells = [name, str(num_rows), label, f"{fresh:.1e}", f"{validated:.1e}", ratio, f"{seconds:.0f}"]
        print("|", " | ".join(cells), "|", flush=True)
    return None if best is None else statistics.median(each.fresh for each in auto) <= best


if __name__ == "__main__":
    main()
