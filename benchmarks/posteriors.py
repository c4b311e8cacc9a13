"""How near are posteriors to reference draws, and for how many simulator runs?

    python benchmarks/posteriors.py REFERENCE_FOLDER [TASK ...]

REFERENCE_FOLDER holds TASK.npz (for supernova, union3.npz), with reference_samples and, for the sbibm tasks,
observations, one row each; and score.py.
Each line: C2ST (0.5 is indistinguishable; an equal number of draws is compared), MMTV, GsKL, simulator runs with the
check's counted, seconds with compilation, and the verdict. The published C2ST beside it is the best of Lueckmann et
al. (2021) at 1,000 and 100,000 runs; those methods learn the noise as well, where an emulator is told of it.
Of the random simulators (`RANDOM`), whose density is learned as those methods do it, there are observations 1 to 3 at
10,000 runs and at 1,000, and the published figure is the best at as many.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simfer import Result, run

CONFIGS = Path(__file__).parent.parent / "configs"
# Parameters in the reference's order; the times and outputs that an sbibm observation's numbers stand for.
TASKS: dict[str, list[str]] = {
    "lotka_volterra": ["alpha", "beta", "gamma", "delta"],
    "sir": ["beta", "gamma"],
    "lynx_hare": ["alpha", "beta", "gamma", "delta", "prey_0", "predator_0", "prey_scale", "predator_scale"],
    "flu": ["beta", "gamma", "infected_inverse_concentration"],
    "supernova": ["omega_m", "w"],
    "two_moons": ["theta_1", "theta_2"],
    "slcp": [f"theta_{i}" for i in range(1, 6)],
    "gaussian_mixture": ["theta_1", "theta_2"],
}
RANDOM = {  # coordinates of an observation's numbers
    "two_moons": {"axis": [1, 2]},
    "slcp": {"point": [1, 1, 2, 2, 3, 3, 4, 4], "axis": [1, 2] * 4},
    "gaussian_mixture": {"axis": [1, 2]},
}
BUDGETS: dict[int, list[str]] = {  # runs at most, those of the checks counted
    10_000: [],  # as the configs are
    1_000: ["simulate.num_simulations=380", "refine.simulations_per_round=140", "check.num_draws=50"],
}
FILES = {"supernova": "union3"}  # where a reference is not named after its task
SERIES = {
    "lotka_volterra": (np.linspace(0.0, 18.9, 10), ["prey", "predator"]),
    "sir": (np.linspace(0.0, 153.0, 10), ["infected"]),
}


def main() -> None:
    """Run the tasks named on the command line, or all of them."""
    folder, wanted = Path(sys.argv[1]), sys.argv[2:] or list(TASKS)
    score, best = load_score(folder), published(folder)
    print("| task | C2ST | MMTV | GsKL | simulator runs | seconds | verdict | published C2ST, few / many runs |")
    print("|---|---|---|---|---|---|---|---|")
    for task in wanted:
        for label, reference, overrides in cases(folder, task):
            with tempfile.TemporaryDirectory() as store:
                began = time.perf_counter()
                result = run(CONFIGS / f"{task}.toml", overrides=[*overrides, *best_draws(len(reference))], store=store)
                seconds = time.perf_counter() - began
                draws = named_draws(result, TASKS[task], len(reference))
                figures = score.c2st(reference, draws), score.mmtv(reference, draws), score.gskl(reference, draws)
                verdict = "passed" if result.verdict.passed else "failed"
                cells = [f"{figures[0]:.4f}", f"{figures[1]:.4f}", f"{figures[2]:.5f}", str(num_runs(result))]
                print("|", " | ".join([label, *cells, f"{seconds:.0f}", verdict, best.get(task, "")]), "|", flush=True)


def load_score(folder: Path) -> Any:
    """Import the module that scores draws, from where the reference draws lie."""
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    assert spec and spec.loader
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    return score


def best_draws(count: int) -> list[str]:
    """Ask for as many draws as the reference has: a classifier between unequal sets is not at 0.5."""
    return ["infer.num_chains=4", f"infer.num_samples={-(-count // 4)}"]


def cases(folder: Path, task: str) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Yield a label, reference draws, and settings for each observation of a task."""
    stored = np.load(folder / f"{FILES.get(task, task)}.npz")
    if task in RANDOM:
        yield from random_cases(task, stored)
        return
    if task not in SERIES:
        yield task, stored["reference_samples"].astype(float), []
        return
    times, outputs = SERIES[task]
    for i, (observed, reference) in enumerate(zip(stored["observations"], stored["reference_samples"], strict=True), 1):
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "observation.csv")
            table = np.column_stack([times, observed.reshape(len(outputs), -1).T])
            np.savetxt(file, table, delimiter=",", header=",".join(["time", *outputs]), comments="", fmt="%.10g")
            yield f"{task} {i}", reference.astype(float), [f"observation.file={file}"]


def random_cases(task: str, stored: Any) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Yield a random simulator's observations at each budget."""
    for runs, overrides in BUDGETS.items():
        for i, (observed, reference) in enumerate(
            zip(stored["observations"], stored["reference_samples"], strict=True)
        ):
            with tempfile.TemporaryDirectory() as place:
                file, names = Path(place, "observation.csv"), [*RANDOM[task], "x"]
                table = np.column_stack([*RANDOM[task].values(), observed])
                np.savetxt(file, table, delimiter=",", header=",".join(names), comments="", fmt="%.10g")
                yield f"{task} {i + 1}, {runs:,}", reference.astype(float), [*overrides, f"observation.file={file}"]


def named_draws(result: Result, names: list[str], count: int) -> np.ndarray:
    """Return as many posterior draws as the reference has, parameters in its order."""
    posterior = result.posterior["posterior"]
    draws = np.stack([posterior[name].values.ravel() for name in names], axis=1)
    return draws[np.random.default_rng(0).permutation(len(draws))[:count]]


def num_runs(result: Result) -> int:
    """Count the simulator's runs in every round, those of the checks among them."""
    return sum(
        outcome.summary["facts"].get("rows", 0) * (outcome.step.stage == "simulate")
        + outcome.summary["facts"].get("simulations", 0) * (outcome.step.stage == "check")
        for outcome in result.history
    )


def published(folder: Path) -> dict[str, str]:
    """Read the best published C2ST of each task at two budgets."""
    file = folder / "sbibm_published_c2st.csv"
    if not file.is_file():
        return {}
    with file.open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    budgets = dict.fromkeys(SERIES, (1_000, 100_000)) | dict.fromkeys(RANDOM, (1_000, 10_000))
    return {task: best for task, each in budgets.items() if (best := _best(rows, task, each))}


def _best(rows: list[dict[str, Any]], task: str, budgets: tuple[int, ...]) -> str:
    found = []
    for budget in budgets:
        scores = [
            float(row["C2ST_mean"]) for row in rows if row["task"] == task and int(row["num_simulations"]) == budget
        ]
        found.append(f"{min(scores):.3f}" if scores else "-")
    return " / ".join(found)


if __name__ == "__main__":
    main()
