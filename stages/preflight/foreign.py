"""What a config cannot ask of a simulator that is not JAX: Simfer neither solves it nor differentiates it."""

from __future__ import annotations

from simfer.stages.errors import Mistake
from simfer.stages.settings import Problem

_WHO = {"python": "a Python function", "program": "a program", "http": "a server", "table": "a table of runs"}
_DIFFERENTIABLE = {"http"}  # a server may know its derivatives


def solver_settings(config: Problem) -> list[Mistake]:
    """List the settings that only a simulator in JAX has a use for."""
    settings, who = config.simulate, _WHO.get(config.simulate.kind, "this kind of simulator")
    found = []
    if settings.solver.model_fields_set:
        found.append(Mistake("simulate.solver", f"{who} has a solver of its own, if any; remove it"))
    if settings.retry is not None:
        found.append(Mistake("simulate.retry", f"{who} is not solved by Simfer: again, a row fails again; remove it"))
    if settings.derivatives and settings.kind not in _DIFFERENTIABLE:
        what = f"{who} has no derivatives, which take a simulator in JAX; remove it"
        found.append(Mistake("simulate.derivatives", what))
    if config.infer.likelihood == "simulator":
        what = f'{who} cannot be differentiated, as NUTS needs its likelihood to be; leave it at "emulator"'
        found.append(Mistake("infer.likelihood", what))
    return found
