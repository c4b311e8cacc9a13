"""What is told of a table of finished runs: what was read, what was left out, and how its runs lie."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.artifacts.twins import twins
from simfer.stages.model.space import Space
from simfer.stages.simulate.finished.runs import FinishedRuns
from simfer.stages.summary import Table

_UNLIKE = 1e-3  # p below which a table does not lie as the prior does
_MOST = 20_000  # rows that are looked at for this
_BLOCK = 4096
_SIGNS = -999.0, -9999.0, -99.0, 9999.0, 99999.0, 1e20, 1e30, 9.969209968386869e36  # that many write for "missing"


class TableSummary(NamedTuple):
    """What is added to the summary of the simulations."""

    facts: dict[str, Any]
    warnings: list[str]
    tables: dict[str, Table]


def of_table(runs: FinishedRuns, simulations: Simulations) -> TableSummary:
    """Describe the table that the first rows of the simulations came from."""
    z = simulations.endings()[0][: len(runs)]
    first = twins(z)
    repeated = int((first != np.arange(len(z))).sum())
    facts: dict[str, Any] = {"finished_runs": runs.file.num, "outside_the_priors": runs.num_outside}
    facts |= {"repeated_parameters": repeated} if repeated else {}
    warnings = [_outside(runs)] if runs.num_outside else []
    warnings += _signs(runs, simulations)
    if repeated and not runs.table.random and (differ := _differing(first, simulations)):
        warnings.append(
            f"{differ} runs have the parameters of another run, and other outputs: if the simulator is random, say "
            "simulate.table.random = true; if not, a column that moved them is missing in [parameters]"
        )
    unlike = unlike_prior(z, runs.space)
    if unlike:
        warnings.append(
            f"the runs do not lie as the prior does (in {', '.join(unlike)}): shares of rows say nothing of the prior, "
            "and the emulator is exact where the runs are"
        )
    rows = [
        {"output": name, "along": ", ".join(o.dims), "values": o.size, "unit": o.unit}
        for name, o in runs.outputs.items()
    ]
    return TableSummary(facts, warnings, {"outputs of the table": rows[:20]})


def unlike_prior(z: Float[np.ndarray, "rows size"], space: Space) -> list[str]:
    """Name the parameters along which rows do not lie as draws of the prior do; a Sobol sequence does, and better."""
    from scipy.stats import kstest

    some = z[np.random.default_rng(0).permutation(len(z))[:_MOST]]
    scores = np.asarray(space.scores(some))
    return [name for name, score in zip(space.names, scores.T, strict=True) if kstest(score, "norm").pvalue < _UNLIKE]


def _outside(runs: FinishedRuns) -> str:
    return (
        f"{runs.num_outside:,} of {runs.file.num:,} runs lie outside the priors, and are left out; a wider prior would "
        "take them in"
    )


def _differing(first: Int[np.ndarray, " rows"], simulations: Simulations) -> int:
    """Count the runs, of the first ones with a twin, whose outputs are not those of their twin."""
    again = np.flatnonzero(first != np.arange(len(first)))[:_BLOCK]
    count = 0
    for row in again.tolist():
        (_, y, ok), (_, twin, twin_ok) = (simulations.rows(i, i + 1) for i in (row, int(first[row])))
        count += bool(ok[0] and twin_ok[0] and not np.array_equal(y, twin))
    return count


def _signs(runs: FinishedRuns, simulations: Simulations) -> list[str]:
    """Warn of values that many write for what is missing, where they are there again and again."""
    seen = dict.fromkeys(_SIGNS, 0)
    for start in range(0, min(len(runs), _MOST), _BLOCK):
        _, y, ok = simulations.rows(start, min(start + _BLOCK, len(runs)))
        for sign in _SIGNS:
            seen[sign] += int((y[ok] == sign).sum())
    return [
        f"{count} outputs are exactly {sign:g}, which many write for a missing value: leave those cells empty"
        for sign, count in seen.items()
        if count > 1
    ]
