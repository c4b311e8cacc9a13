"""Small problems that tests share, run once a session, and the exact answers to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from simfer import pipeline
from simfer.pipeline import chain, config
from simfer.pipeline.chain import Link, Problem
from simfer.pipeline.plan import Plan, Step
from simfer.stages.progress import Silent

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "configs" / "smoke.toml"
STRAIGHT, NEAREST, REFUSES = (f"{ROOT / 'tests' / 'plugins.py'}:{name}" for name in ("Straight", "Nearest", "Refuses"))

X = np.linspace(0.0, 4.0, 9)
SIGMA = 0.5
PRIOR = {"intercept": (0.5, 1.0), "slope": (-1.0, 0.5)}  # mean and sd
TRUTH = {"intercept": 1.2, "slope": -0.7}


class Heard(Silent):
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


def scratch() -> Path:
    """Return a folder that is there until the tests end, one for all that run at the same time."""
    return Path(os.environ["SIMFER_TESTS_SCRATCH"])


def line_data() -> np.ndarray:
    """Return data of a straight line with Gaussian noise."""
    noise = np.random.default_rng(1).normal(size=len(X))
    return TRUTH["intercept"] + TRUTH["slope"] * X + SIGMA * noise


def write_line(file: Path, y: np.ndarray | None = None) -> Path:
    """Write data of a straight line as CSV."""
    rows = zip(X, line_data() if y is None else y, strict=True)
    file.write_text("x,y\n" + "".join(f"{x!r},{value!r}\n" for x, value in ((float(a), float(b)) for a, b in rows)))
    return file


def line(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the linear-Gaussian problem as a config's table, with more keys put into its sections."""
    data = scratch() / "line.csv"
    if not data.exists():  # another worker's tests may be at the same: it is whole whenever it is there
        write_line(data.with_name(f"line-{os.getpid()}.csv")).replace(data)
    table: dict[str, Any] = {
        "parameters": {name: {"dist": "Normal", "loc": m, "scale": s} for name, (m, s) in PRIOR.items()},
        "simulate": {"simulator": "linear", "num_simulations": 200, "options": {"x": X.tolist()}},
        "train": {
            "architecture": "mlp",
            "options": {"width": 16, "depth": 1},
            "ensemble_size": 2,
            "steps": 300,
            "finish_steps": 100,
            "dtype": "float64",
        },
        "observation": {"file": str(data)},
        "noise": {"y": {"dist": "Normal", "scale": SIGMA}},
        "infer": {"sampler": "nuts", "num_warmup": 300, "num_samples": 1000, "num_chains": 2},
        "check": {"num_draws": 64},
    }
    return merged(table, sections)


def merged(table: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Put nested tables on top of others; None takes a key out."""
    out = deepcopy(dict(table))
    for key, value in more.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), dict) and "dist" not in value:
            out[key] = merged(out[key], value)
        else:
            out[key] = deepcopy(value)
    return out


def exact_line(y: np.ndarray | None = None, sigma: float = SIGMA) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact posterior mean and covariance of intercept and slope (Bishop 2006, equation 3.50)."""
    design = np.column_stack([np.ones_like(X), X])
    means, sds = np.array(list(PRIOR.values())).T
    precision = np.diag(1.0 / sds**2) + design.T @ design / sigma**2
    covariance = np.linalg.inv(precision)
    data = line_data() if y is None else y
    return covariance @ (means / sds**2 + design.T @ data / sigma**2), covariance


def problem(table: Mapping[str, Any], *overrides: str) -> Problem:
    """Check a table as a config."""
    return config.from_table(table, overrides, folder=scratch())


def link(checked: Problem, name: str) -> Link:
    """Return the step named, such as "train-0"."""
    turn = chain.Turn(int(name.rpartition("-")[2]), checked.infer.num_samples)
    return next(each for each in chain.links(checked, turn) if each.name == name)


def plan(checked: Problem, extra: Sequence[Link] = ()) -> list[Step]:
    """List the steps of every round, of which nothing is there, and `extra` ones."""
    planned, draws = Plan(checked), checked.infer.num_samples
    rounds = [chain.Turn(number, draws) for number in range(checked.refine.max_rounds + 1)]
    return [planned.step(link) for link in (*(each for turn in rounds for each in chain.links(checked, turn)), *extra)]


def run_stage(checked: Problem, name: str, inputs: Mapping[str, Sequence[Path]], folder: Path) -> dict[str, Any]:
    """Run one stage of a problem without the machinery."""
    folder.mkdir(parents=True, exist_ok=True)
    roles = {role: list(inputs.get(role, [])) for role in link(checked, name).inputs}
    return chain.run(link(checked, name), roles, folder, Silent())


@cache
def line_run(*overrides: str, until: str | None = None) -> pipeline.Result:
    """Run the linear-Gaussian problem, once for each set of overrides; what they leave alone is shared."""
    return pipeline.run(line(), overrides=overrides, store=scratch() / "line", until=until)


@cache
def smoke_run() -> subprocess.CompletedProcess[str]:
    """Run configs/smoke.toml by the command line, into `smoke_store`."""
    return simfer("run", SMOKE, "--store", smoke_store(), "--json")


def smoke_store() -> Path:
    """Return the store of `smoke_run`."""
    return scratch() / "smoke"


def simfer(*arguments: str | Path, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return python("-m", "simfer.pipeline.cli", *arguments, cwd=cwd, timeout=timeout)


def python(*arguments: str | Path, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with warnings as errors in it."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
