"""Is a posterior that passes right, and does one that is right pass? Small problems, each with its exact posterior.

    python benchmarks/trust.py REFERENCE_FOLDER [PROBLEM ...]

REFERENCE_FOLDER holds score.py and problems/NAME/ with problem.toml, what it reads, and exact.npz (`theta`, `names`).
Each line: the verdict, C2ST against as many exact draws (0.5 is indistinguishable), the largest shift of a mean in
exact sd, the smallest and the largest ratio of sds, simulator runs with the checks' counted, seconds with compilation,
and what failed. A line is marked WRONG where a posterior passed with a C2ST above 0.55, and HARSH where one below 0.53
did not pass. What a user would declare of a problem, and its config does not, is in `DECLARED`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from posteriors import load_score, named_draws, num_runs

from simfer import SimferError, run

# What a problem's text says of it and its config, written for an earlier version, does not.
DECLARED = {
    "05_edge": ['parameters.a={dist="Uniform", low=0.0, high=1.0, edge="meant"}'],
    "11_phase_wrap": ['parameters.phi={dist="Uniform", low=0.0, high=6.283185307179586, periodic=true}'],
    "18b_failed_part": ['simulate.failures="impossible"'],
    **{name: ['train.scatter="auto"'] for name in ("16b_switch", "16d_gamma", "16f_uniform")},  # not Gaussian
}


class Line(NamedTuple):
    """What is printed of one problem."""

    verdict: str
    c2st: float
    shift: float
    sd_ratio: tuple[float, float]
    runs: int
    seconds: float
    words: str

    @property
    def mark(self) -> str:
        """Whether the verdict contradicts the exact posterior."""
        if self.verdict == "passed" and self.c2st > 0.55:
            return "WRONG"
        return "HARSH" if self.verdict != "passed" and self.c2st < 0.53 else ""


def main() -> None:
    """Run the problems named on the command line, or all of them."""
    folder = Path(sys.argv[1])
    names = sys.argv[2:] or sorted(path.parent.name for path in (folder / "problems").glob("*/problem.toml"))
    print("| problem | verdict | C2ST | largest shift, sd | ratio of sds | runs | seconds | | what failed |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        line = judge(folder, name)
        low, high = line.sd_ratio
        cells = [name, line.verdict, f"{line.c2st:.3f}", f"{line.shift:.2f}", f"{low:.2f}-{high:.2f}", str(line.runs)]
        print("|", " | ".join([*cells, f"{line.seconds:.0f}", line.mark, line.words]), "|", flush=True)


def judge(folder: Path, name: str) -> Line:
    """Run one problem in a copy of its folder, and hold its draws against the exact ones."""
    exact = np.load(folder / "problems" / name / "exact.npz")
    reference, names = exact["theta"].astype(float), [str(parameter) for parameter in exact["names"]]
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(folder / "problems" / name, Path(place, name))
        began = time.perf_counter()
        try:
            result = run(copy / "problem.toml", overrides=DECLARED.get(name, []), store=Path(place, "store"))
        except SimferError as error:
            nan, words = float("nan"), " ".join(str(error).split())
            return Line("stopped", nan, nan, (nan, nan), 0, time.perf_counter() - began, words[:300])
        seconds = time.perf_counter() - began
        draws, verdict, runs = named_draws(result, names, len(reference)), result.verdict, num_runs(result)
    shift = np.abs(draws.mean(axis=0) - reference.mean(axis=0)) / reference.std(axis=0)
    ratio = draws.std(axis=0) / reference.std(axis=0)
    random = np.random.default_rng(0)
    fair = reference[random.permutation(len(reference))[: len(draws)]]
    words = "; ".join(f"{each['figure']} {each['value']}" for each in verdict.figures["figures"] if not each["passed"])
    return Line(
        "passed" if verdict.passed else "failed",
        load_score(folder).c2st(fair, draws),
        float(shift.max()),
        (float(ratio.min()), float(ratio.max())),
        runs,
        seconds,
        words,
    )


if __name__ == "__main__":
    main()
