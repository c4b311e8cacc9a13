"""One row of a config run again where it can be watched; the store is looked at, and left as it is."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from typing import Any

from simfer.pipeline import chain, runtime
from simfer.pipeline.chain import Problem
from simfer.pipeline.plan import Plan
from simfer.pipeline.progress import Progress
from simfer.pipeline.store import Store


def run_row(problem: Problem, store: Store, reporter: Progress, row: int, *, aside: bool) -> dict[str, Any]:
    """Run a row of the first round; what it prints goes `aside`, to standard error, where the other is for data."""
    runtime.prepare()
    step = next(Plan(problem, store).walk())  # the first simulations
    with redirect_stdout(sys.stderr) if aside else nullcontext():
        return chain.run_row(step.link, row, store.begun(step.stage, step.fingerprint), reporter)
