"""What a config cannot ask of a simulator that is not JAX: Simfer neither solves it nor differentiates it."""

from __future__ import annotations

from dataclasses import replace

from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import Problem
from simfer.stages.settings.names import SIMULATORS
from simfer.stages.simulate.backends.table import unlike
from simfer.stages.simulate.finished.runs import open_runs
from simfer.stages.simulate.simulators.base import Simulator

_WHO = {
    "python": "a Python function",
    "program": "a program",
    "http": "a server",
    "table": "a table of runs",
    "ask": "who is asked for runs",
}
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


def experiment_mistakes(config: Problem, stochastic: bool) -> list[Mistake]:
    """List what several experiments take that a simulator which is not JAX cannot do."""
    kind = config.simulate.kind
    if kind == "python":
        random = "the simulator is random; several experiments take one that is not"
        return [Mistake("experiments", random)] if stochastic and config.experiments else []
    what = (
        f"{_WHO[kind]} takes no options; let it give the outputs of every experiment in one run, as EXPERIMENT.OUTPUT, "
        "or call it by a Python function, whose arguments options are"
    )
    return [Mistake(f"experiments.{name}.options", what) for name, each in config.experiments.items() if each.options]


def without_simulator(config: Problem) -> list[Mistake]:
    """List what takes a simulator that can be run, where there is a table of finished runs alone."""
    if config.simulate.kind != "table":
        return []
    nobody = "nobody can simulate more: there is a table of finished runs alone"
    asked = {
        "refine.max_rounds": (
            config.refine.max_rounds,
            "leave it out, or name a simulator that goes on with the table",
        ),
        "check.reweight": (config.check.reweight, "weights take simulations at posterior draws; leave it out"),
        "calibrate.over": (config.calibrate.over == "posterior", 'leave it at "auto", which takes held-out runs'),
    }
    return [Mistake(key, f"{nobody}; {what}") for key, (is_asked, what) in asked.items() if is_asked]


def beside_table(config: Problem, simulator: Simulator, layout: Layout, progress: Progress) -> list[Mistake]:
    """List where a simulator does not go on with the table of finished runs that it is named beside."""
    if config.simulate.table is None:
        return []
    if config.simulate.derivatives:
        return [Mistake("simulate.derivatives", "the runs of simulate.table have no derivatives; remove it")]
    runs = open_runs(config.simulate.table, Space(config.parameters))
    progress.note(f"simulate.table: {runs.words()}")
    outputs, units = dict(layout.outputs), {**simulator.parameters, **getattr(simulator, "units", {})}
    if config.simulate.simulator in SIMULATORS:  # they serve in any units that fit together
        outputs, units = {name: replace(output, unit="") for name, output in outputs.items()}, {}
    return unlike(runs, outputs, units)
