"""What do large problems take: a million rows, a hundred parameters, 100,000 outputs, 10,000 data?

    python benchmarks/large.py [CASE ...] [--score SCORE.py]

Each case is a whole chain from an empty store, in a process of its own: seconds with compilation, by the clock and of
the processor (which others may be at as well), the most memory it had, the verdict, and how its posterior compares with
the exact one. A line in its parameters with standard normal priors has one: normal where the noise is known, and a
mixture of such over the noise's sizes where it is inferred. Told are the largest shift of a mean in standard
deviations, the range of the ratios of standard deviations, and C2ST where SCORE.py has a function `c2st(one, other)`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIMULATOR = '''"""A line in many parameters."""

import jax.numpy as jnp
import numpy as np

import simfer


def slopes(num_parameters, num_outputs, is_smooth):
    """Return how each output depends on each parameter: along waves over x, or at random."""
    if not is_smooth:
        return np.random.default_rng(0).normal(size=(num_outputs, num_parameters)) / num_parameters**0.5
    x, waves = np.linspace(0.0, 1.0, num_outputs)[:, None], np.arange(1, num_parameters + 1)
    return np.sin(np.pi * waves * x) + 0.5 * x**waves


class Line(simfer.FunctionSimulator):
    """y = A theta."""

    parameters = {"theta": ""}
    num_parameters: int = 3
    num_outputs: int = 12
    is_smooth: bool = False

    def outputs(self):
        return {"y": simfer.Output(("x",), {"x": np.arange(self.num_outputs)})}

    def __call__(self, p):
        return {"y": jnp.asarray(slopes(self.num_parameters, self.num_outputs, self.is_smooth)) @ p["theta"]}
'''
CONFIG = """
[parameters]
theta = {{ dist = "Normal", size = {parameters} }}

[simulate]
simulator = "line.py:Line"
num_simulations = {rows}

[simulate.options]
num_parameters = {parameters}
num_outputs = {outputs}
is_smooth = {smooth}

[observation]
file = "data.csv"

[noise.y]
dist = "Normal"
scale = {scale}

[infer]
num_samples = 1000
"""


class Case(NamedTuple):
    """A problem: y = A theta + noise of standard deviation sigma, theta standard normal.

    Where sigma is inferred, the prior of its logarithm is normal, about half of the true one.
    """

    title: str
    parameters: int
    outputs: int
    data: int
    sigma: float
    rows: int
    settings: list[str]
    is_smooth: bool = False
    is_sigma_known: bool = True

    @property
    def scale(self) -> str:
        """The noise's, as the config has it."""
        if self.is_sigma_known:
            return str(self.sigma)
        return f'{{ dist = "LogNormal", loc = {np.log(self.sigma / 2.0)}, scale = {_LOG_SPREAD} }}'


_LOG_SPREAD = 0.5  # of the prior of a sigma that is inferred
# Ten rows for each parameter determine few of a network's weights. Of 20,000 draws 4,000 are compared: squares of draws
# of NUTS are worth fewer independent ones than the draws are, which a classifier sees in so many dimensions.
_MANY_PARAMETERS = ['train.architecture="polynomial"', "infer.num_samples=5000"]
CASES = {
    "rows": Case("1,000,000 rows", 3, 12, 12, 1.0, 10**6, ["train.steps=4000", "refine.max_rounds=1"]),
    "30": Case("30 parameters", 30, 60, 60, 1.0, 300, _MANY_PARAMETERS),
    "100": Case("100 parameters", 100, 200, 200, 1.0, 1000, _MANY_PARAMETERS),
    "outputs": Case("100,000 outputs", 3, 10**5, 100, 1.0, 300, ["dataset.pca.y=0.9999"], is_smooth=True),
    "data": Case("10,000 data", 3, 10**4, 10**4, 10.0, 300, ["dataset.pca.y=0.9999"], is_smooth=True),
    "noise": Case("10,000 data, sigma inferred", 3, 10**4, 10**4, 10.0, 300, ["dataset.pca.y=0.9999"], True, False),
}
_DRAWS = 4000


def main() -> None:
    """Run the cases named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--score", type=Path)
    asked = parser.parse_args()
    print(
        "| problem | rows simulated | seconds | of processor | memory, GB | verdict | means off by, sd | sds | C2ST |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in asked.cases or CASES:
        with tempfile.TemporaryDirectory() as place:
            print("|", " | ".join([CASES[name].title, *run(CASES[name], Path(place), asked.score)]), "|", flush=True)


def run(case: Case, place: Path, score: Path | None) -> list[str]:
    """Run one case in a folder, and return the cells of its line."""
    exact = write(case, place)
    began = time.perf_counter()
    command = [sys.executable, "-m", "simfer.pipeline.cli", "run", "problem.toml", "--store", "store"]
    for setting in case.settings:
        command += ["--set", setting]
    with (place / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    spent = f"{time.perf_counter() - began:.0f}", f"{used.ru_utime + used.ru_stime:.0f}"
    memory = f"{used.ru_maxrss * 1024 / 1e9:.2f}"
    process.returncode = os.waitstatus_to_exitcode(status)  # or it would be waited for again
    if not list((place / "store" / "check").glob("*")):  # came to no verdict
        return [f"{case.rows:,}", *spent, memory, (place / "log.txt").read_text()[-300:], "", "", ""]
    return [f"{case.rows:,}", *spent, memory, *compared(case, place, exact, score)]


def write(case: Case, place: Path) -> np.ndarray:
    """Write simulator, data and config, and return draws from the exact posterior."""
    (place / "line.py").write_text(SIMULATOR)
    smooth = str(case.is_smooth).lower()
    (place / "problem.toml").write_text(CONFIG.format(**case._asdict(), smooth=smooth, scale=case.scale))
    at = np.linspace(0, case.outputs - 1, case.data).astype(int)
    slopes = module("line", place / "line.py").slopes(case.parameters, case.outputs, case.is_smooth)[at]  # type: ignore[attr-defined]
    rng = np.random.default_rng(1)
    y = slopes @ rng.normal(size=case.parameters) + case.sigma * rng.normal(size=case.data)
    np.savetxt(place / "data.csv", np.column_stack([at, y]), delimiter=",", header="x,y", comments="", fmt="%.10g")
    if case.is_sigma_known:
        return given_sigma(rng, slopes, y, np.full(_DRAWS, case.sigma))
    sigma = draw_sigma(rng, case, slopes, y)
    return np.column_stack([given_sigma(rng, slopes, y, sigma), sigma])


def given_sigma(rng: np.random.Generator, slopes: np.ndarray, y: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Draw parameters from their posterior, a normal, once for each sigma."""
    precisions, axes = np.linalg.eigh(slopes.T @ slopes)
    variance = 1.0 / (1.0 + precisions / sigma[:, None] ** 2)
    mean = variance * (axes.T @ (slopes.T @ y)) / sigma[:, None] ** 2
    return (mean + np.sqrt(variance) * rng.normal(size=mean.shape)) @ axes.T


def draw_sigma(rng: np.random.Generator, case: Case, slopes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Draw the noise's size from its posterior on a grid: with parameters integrated out, y is normal."""
    precisions, axes = np.linalg.eigh(slopes.T @ slopes)
    along = (axes.T @ (slopes.T @ y)) ** 2 / precisions  # squares of y in the plane of the slopes, and those across it
    log_sigma = np.log(case.sigma) + np.linspace(-0.2, 0.2, 200_001)
    variance = np.exp(2.0 * log_sigma)
    log_density = -0.5 * ((log_sigma - np.log(case.sigma / 2.0)) / _LOG_SPREAD) ** 2
    log_density -= 0.5 * ((len(y) - len(along)) * np.log(variance) + (y @ y - along.sum()) / variance)
    for square, precision in zip(along, precisions, strict=True):
        log_density -= 0.5 * (np.log(variance + precision) + square / (variance + precision))
    mass = np.exp(log_density - log_density.max())
    return np.exp(rng.choice(log_sigma, _DRAWS, p=mass / mass.sum()))


def compared(case: Case, place: Path, exact: np.ndarray, score: Path | None) -> list[str]:
    """Hold the posterior against the exact one."""
    from simfer import load

    result = load(place / "problem.toml", overrides=case.settings, store=place / "store")
    posterior = result.posterior["posterior"]
    found = np.asarray(posterior["theta"]).reshape(-1, case.parameters)
    if not case.is_sigma_known:
        found = np.column_stack([found, np.asarray(posterior["y_scale"]).ravel()])
    found = found[np.random.default_rng(0).permutation(len(found))[: len(exact)]]
    shift = np.abs(found.mean(axis=0) - exact.mean(axis=0)) / exact.std(axis=0)
    ratio = found.std(axis=0) / exact.std(axis=0)
    c2st = f"{module('score', score).c2st(exact, found):.3f}" if score else ""  # type: ignore[attr-defined]
    verdict = "passed" if result.verdict.passed else "failed"
    return [verdict, f"{shift.max():.2f}", f"{ratio.min():.2f} to {ratio.max():.2f}", c2st]


def module(name: str, file: Path) -> object:
    """Import a module from a file."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


if __name__ == "__main__":
    main()
