"""Names of parameters and outputs that cannot stand beside each other."""

from __future__ import annotations

import numpy as np

from simfer.stages.artifacts.arrays import DERIVATIVES
from simfer.stages.emulator.labels import ERROR, INSIDE, POINT, SCATTER
from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.settings import Problem
from simfer.stages.settings.spelling import unwritable

_NAMES_TAKEN = {
    "simulation",
    "row",
    "chain",
    "draw",
    "z",
    "status",
    "num_steps",
    "attempt",
    "fold",
    "parameter",
    "whitened",
    INSIDE,
    POINT,
}


def name_mistakes(config: Problem, layout: Layout) -> list[Mistake]:
    """List names that are taken or cannot be written, and coordinates that two outputs have otherwise."""
    axes = [dim for output in layout.outputs.values() for dim in output.dims]
    odd = {name: unwritable(name) for name in (*layout.outputs, *axes)}
    if refused := [Mistake("simulate.simulator", what) for what in odd.values() if what]:
        return refused
    taken = _NAMES_TAKEN | {dim for output in layout.outputs.values() for dim in output.dims}
    names = [*layout.outputs, *config.parameters]
    names += [name + DERIVATIVES for name in layout.outputs if config.simulate.derivatives]
    names += [name + kind for name in layout.outputs for kind in (ERROR, SCATTER)]  # of predictions
    found = [
        Mistake("simulate.simulator", f'"{name}" names two things, or one that simfer uses itself; rename it')
        for name in sorted({name for name in names if names.count(name) > 1 or name in taken})
    ]
    places: dict[str, np.ndarray] = {}
    for name, output in layout.outputs.items():
        for dim in output.dims:
            if not np.array_equal(places.setdefault(dim, output.coords[dim]), output.coords[dim]):
                what = f'output {name}: got coordinates "{dim}" other than those of another output; rename one'
                found.append(Mistake("simulate.simulator", what))
    return found
