"""Several experiments with one Python function: called for each with options of its own, as one simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simfer.stages.simulate.children.functions import Function, named
from simfer.stages.simulate.children.returned import BadOutput, Expected, Returned

Described = dict[str, dict[str, Any]]


def simulation_of(spec: Mapping[str, Any]) -> Function | Experiments:
    """Return what calls the function or the class of a config: once for a row, or once for each experiment."""
    return Experiments(spec) if spec.get("experiments") else Function(spec)


class Experiments:
    """A function made with the options of each experiment; outputs and axes are under the experiments' names.

    Parameters are shared but for those that each has of its own, `NAME.EXPERIMENT`.
    """

    leaves_folders = False

    def __init__(self, spec: Mapping[str, Any]) -> None:
        made = named(spec["target"])
        self._parts = {name: Function({**spec, "options": {**spec["options"], **options}}, made)
                       for name, options in spec["experiments"].items()}  # fmt: skip
        self._each = list(spec["each"])
        self._expected: Expected | None = None

    @property
    def expected(self) -> Expected | None:
        """What every row must give."""
        return self._expected

    @expected.setter
    def expected(self, expected: Expected | None) -> None:
        self._expected = expected
        for experiment, part in self._parts.items():
            part.expected = Expected(_without(experiment, expected.described)) if expected else None

    def facts(self) -> dict[str, Any]:
        """Say what it takes and, where it says so itself, what it gives."""
        facts = {experiment: part.facts() for experiment, part in self._parts.items()}
        units, optional, outputs = dict[str, str](), list[str](), dict[str, Any]()
        for experiment, each in facts.items():
            units |= {self._name(name, experiment): unit for name, unit in each["parameters"].items()}
            optional += [self._name(name, experiment) for name in each["optional"]]
            outputs |= _under(experiment, each["outputs"] or {})
        either = {key: any(each[key] for each in facts.values()) for key in ("any", "stochastic")}
        return {"parameters": units, "optional": optional, "outputs": outputs or None, **either}

    def _name(self, name: str, experiment: str) -> str:
        return f"{name}.{experiment}" if name in self._each else name

    def particulars(self) -> dict[str, Any]:
        """Say what a driver should know of the last row: nothing."""
        return {}

    def run(self, row: int, parameters: dict[str, float], seed: int | None, folder: str = "") -> Returned:
        """Call it for each experiment."""
        found = Returned({}, {}, {})
        for experiment, part in self._parts.items():
            try:
                own = part.run(row, self._own(parameters, experiment), seed)
            except BadOutput as error:
                raise BadOutput(f"experiment {experiment}: {error}") from None
            except Exception as error:
                error.add_note(f"(in the experiment {experiment})")
                raise
            for name, each in own.outputs.items():
                dims = tuple(f"{experiment}.{dim}" for dim in each.dims)
                found.outputs[f"{experiment}.{name}"] = each._replace(dims=dims)
            found.coords.update({f"{experiment}.{dim}": at for dim, at in own.coords.items()})
            found.units.update({f"{experiment}.{dim}": unit for dim, unit in own.units.items()})
        return found

    def _own(self, parameters: Mapping[str, float], experiment: str) -> dict[str, float]:
        mine = {f"{name}.{experiment}": name for name in self._each}
        others = {f"{name}.{other}" for name in self._each for other in self._parts} - mine.keys()
        return {mine.get(name, name): value for name, value in parameters.items() if name not in others}


def _under(experiment: str, described: Mapping[str, Any]) -> Described:
    """Return the description of outputs, and of their axes, under an experiment's name."""
    return {f"{experiment}.{name}": _renamed(each, lambda dim: f"{experiment}.{dim}")
            for name, each in described.items()}  # fmt: skip


def _without(experiment: str, described: Mapping[str, Any]) -> Described:
    """Return the description of an experiment's outputs under their own names."""
    before = f"{experiment}."
    return {name.removeprefix(before): _renamed(each, lambda dim: dim.removeprefix(before))
            for name, each in described.items() if name.startswith(before)}  # fmt: skip


def _renamed(each: Mapping[str, Any], new: Any) -> dict[str, Any]:
    return {**each, "dims": [new(dim) for dim in each["dims"]],
            "coords": {new(dim): at for dim, at in each["coords"].items()}}  # fmt: skip
