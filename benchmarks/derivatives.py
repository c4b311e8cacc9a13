"""Do rows that carry derivatives pay? The emulator's error against the number of runs, and against what they cost.

    python benchmarks/derivatives.py REFERENCE_FOLDER [KEY=VALUE ...]

REFERENCE_FOLDER is that of benchmarks/posteriors.py. Rows lie as a round of refinement takes them: posterior draws,
stretched by 1.5. Each line is the median over seeds: what the rows cost, in plain runs (both kinds are timed here, side
by side), the variance that the emulator leaves unexplained at 1,000 fresh posterior draws, and the C2ST of the best
classifier there could be between the exact posterior and the emulator's: 0.5 + TV / 2, with the total variation
distance TV taken from the likelihood ratios at those draws. The emulator's error has no part in its likelihood here.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs from anywhere

from simfer.pipeline import runtime

runtime.prepare()

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.posteriors import CONFIGS, TASKS, cases
from simfer.pipeline import config
from simfer.stages.dataset import stage as dataset
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.model.likelihood import Likelihood
from simfer.stages.model.observation import read
from simfer.stages.model.space import Space
from simfer.stages.progress import Silent
from simfer.stages.settings import DatasetConfig, Problem, TrainConfig
from simfer.stages.simulate import design
from simfer.stages.simulate.ensemble import Ensemble, build_simulator
from simfer.stages.simulate.rows import fill
from simfer.stages.train import stage as train

SIZES = {"lotka_volterra": (25, 50, 100), "sir": (20, 40, 80)}
SEEDS = 2
JUDGED, TIMED, TURNS = 1000, 2048, 3


def main() -> None:
    """Print a line for each task, number of rows, and kind of row."""
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    print("| task | rows | derivatives | cost in plain runs | unexplained variance | C2ST, at best | s to train |")
    print("|---|---|---|---|---|---|---|")
    for task, sizes in SIZES.items():
        _, reference, _ = next(cases(folder, task))  # of the data that the config itself has
        plain, sloped = (
            config.load(CONFIGS / f"{task}.toml", [*overrides, f"simulate.derivatives={kind}"])
            for kind in ("false", "true")
        )
        space = Space(plain.parameters)
        named = dict(zip(TASKS[task], reference.T, strict=True))
        draws = np.asarray(space.whiten({name: named[name] for name in space.names}))
        ratio = price(plain, sloped, draws)
        for size in sizes:
            for checked, cost in ((plain, 1.0), (sloped, ratio)):
                found = np.array([attempt(checked, draws, size, seed) for seed in range(SEEDS)])
                error, c2st, seconds = np.median(found, axis=0)
                kind = "yes" if checked.simulate.derivatives else "no"
                cells = [task, str(size), kind, f"{cost * size:.0f}", f"{error:.2e}", f"{c2st:.3f}", f"{seconds:.0f}"]
                print("|", " | ".join(cells), "|", flush=True)


def price(plain: Problem, sloped: Problem, draws: np.ndarray) -> float:
    """Return how many plain runs a run with derivatives costs, by processor time."""
    solves, taken = [solver(each) for each in (plain, sloped)], np.zeros((TURNS + 1, 2))
    for turn in range(TURNS + 1):  # the first one compiles
        for i, solve in enumerate(solves):
            began = time.process_time()
            solve(draws[:TIMED], np.arange(TIMED))
            taken[turn, i] = time.process_time() - began
    return float(np.divide(*np.median(taken[1:], axis=0)[::-1]))


def solver(checked: Problem) -> Ensemble:
    """Return what solves a config's rows."""
    return Ensemble(build_simulator(checked.simulate), checked.simulate, Space(checked.parameters))


def attempt(checked: Problem, draws: np.ndarray, size: int, seed: int) -> tuple[float, float, float]:
    """Train on rows around the posterior, and return the unexplained variance, the C2ST, and the seconds taken."""
    points = design.stretched(draws, 0, size, checked.refine.stretch, seed)
    checked = checked.model_copy(update={"train": checked.train.model_copy(update={"seed": seed})})
    with tempfile.TemporaryDirectory() as place:
        rows, data, trained = (Path(place, name) for name in ("rows", "data", "trained"))
        for each in (rows, data, trained):
            each.mkdir()
        fill(rows, checked.simulate, Space(checked.parameters), size, lambda a, b: points[a:b], Silent())
        inputs = {"simulations": [rows], "checks": []}
        dataset.run(checked.slice(DatasetConfig), inputs, data, Silent())  # type: ignore[arg-type]
        began = time.process_time()
        train.run(checked.slice(TrainConfig), {"dataset": [data]}, trained, Silent())  # type: ignore[arg-type]
        seconds = time.process_time() - began
        return *judge(checked, load_emulator(trained), draws[-JUDGED:]), seconds


def judge(checked: Problem, emulator: Emulator, z: np.ndarray) -> tuple[float, float]:
    """Hold the emulator against the simulator at posterior draws."""
    likelihood = Likelihood(
        checked.noise, read(checked.observation.file, emulator.layout), emulator.layout, emulator.transform
    )
    solved = solver(checked.model_copy(update={"simulate": checked.simulate.model_copy(update={"derivatives": False})}))
    outputs = solved(z, np.arange(len(z))).outputs
    y = np.concatenate([outputs[name].reshape(len(z), -1) for name in emulator.layout.outputs], axis=1)
    truth = likelihood.to_transformed(y, emulator.floor)
    members = emulator.at(likelihood.index)
    found = np.asarray(jax.jit(jax.vmap(lambda z: members(z).mean(axis=0)))(jnp.asarray(z)))
    values = likelihood.noise_space.values(jnp.zeros(likelihood.noise_space.size))
    log_likelihood = jax.jit(jax.vmap(lambda mean: likelihood.exact(mean, values)))
    weights = np.asarray(jax.nn.softmax(log_likelihood(jnp.asarray(found)) - log_likelihood(jnp.asarray(truth))))
    varies = truth.std(axis=0) > 1e-9
    error = np.mean((found - truth)[:, varies] ** 2) / np.mean(truth[:, varies].var(axis=0))
    return float(error), 0.5 + 0.25 * float(np.abs(len(z) * weights - 1.0).mean())


if __name__ == "__main__":
    main()
