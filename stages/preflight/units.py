"""Whether priors are in the units in which the simulator takes its parameters."""

from __future__ import annotations

from collections.abc import Mapping

from simfer.stages.errors import Mistake
from simfer.stages.model.units import contradict
from simfer.stages.settings import Problem
from simfer.stages.settings.names import SIMULATORS


def units_of(config: Problem, known: Mapping[str, str]) -> Mapping[str, str]:
    """Return the units of a simulator's parameters; none of Simfer's own, which serve in any that fit together."""
    return {} if config.simulate.simulator in SIMULATORS else known


def unit_mistakes(config: Problem, known: Mapping[str, str]) -> list[Mistake]:
    """List the priors in another unit than the simulator takes the parameter in: nothing would convert them."""
    units = units_of(config, known)
    return [
        Mistake(
            f"parameters.{name}.unit",
            f'got "{unit}", and the simulator takes {name} in "{units[name]}"; write the prior in that unit, or leave '
            "`unit` out if its numbers are in it already",
        )
        for name, unit in config.units.items()
        if name in config.parameters and contradict(unit, units.get(name, ""))
    ]
