"""An emulator in a line, and in a table for notebooks: what goes in, what comes out, and how far it is off."""

from __future__ import annotations

from html import escape
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float

from simfer.stages import markup
from simfer.stages.emulator.header import Header
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.space import Space
from simfer.stages.settings import Prior


class Described(Protocol):
    """What an emulator is described by."""

    @property
    def space(self) -> Space:
        """The parameters."""

    @property
    def layout(self) -> Layout:
        """The outputs."""

    @property
    def header(self) -> Header:
        """What it was trained as."""

    @property
    def training_z(self) -> Float[Array, "rows size"]:
        """Where it was trained, as far as that is kept."""

    @property
    def training_y(self) -> Float[Array, "rows outputs"]:
        """What was simulated there."""

    @property
    def residuals(self) -> Float[Array, "rows outputs"]:
        """What members were off by that did not see the row."""

    @property
    def num_members(self) -> int:
        """The number of networks."""


def relative_errors(emulator: Described) -> dict[str, float]:
    """Return each output's root mean square error at rows that members did not see, in units of its spread over them.

    In the transformed scale. Empty where arrays have no values, as within `jit`; without outputs that never change.
    """
    residuals, y = emulator.residuals, emulator.training_y
    if not (_has_values(residuals) and _has_values(y)):
        return {}
    squared, variance = np.mean(np.square(residuals), axis=0), np.var(y, axis=0)
    means = {name: (squared[at].mean(), variance[at].mean()) for name, at in emulator.layout.slices.items()}
    return {name: float(np.sqrt(error / spread)) for name, (error, spread) in means.items() if spread > 0}


def _has_values(array: Any) -> bool:
    return isinstance(array, (np.ndarray, jax.Array)) and not isinstance(array, jax.core.Tracer) and array.size > 0


def line(emulator: Described) -> str:
    """Describe an emulator in one line."""
    inputs = ", ".join(_with_unit(name, prior.unit) for name, prior in emulator.space.priors.items())
    outputs = ", ".join(
        f"{_with_unit(name, output.unit)} {output.shape}" for name, output in emulator.layout.outputs.items()
    )
    errors = relative_errors(emulator)
    off = f"; off by {max(errors.values()):.2g} of the spread" if errors else ""
    return f"Emulator({_network(emulator)}: {inputs} -> {outputs}{off})"


def _network(emulator: Described) -> str:
    return f"{emulator.num_members} x {emulator.header.architecture}"


def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def table(emulator: Described) -> str:
    """Describe an emulator in HTML."""
    errors = relative_errors(emulator)
    inputs = [(name, prior.unit, _prior(prior)) for name, prior in emulator.space.priors.items()]
    inputs += [(name, "", f"fixed at {value:g}") for name, value in emulator.space.fixed.items()]
    outputs = [
        (name, output.unit, _shape(output), f"{errors[name]:.2g}" if name in errors else "")
        for name, output in emulator.layout.outputs.items()
    ]
    rows = f"{len(emulator.training_z)} training rows kept" if _has_values(emulator.training_z) else ""
    return (
        f"<div><strong>Emulator</strong> {escape(_network(emulator))}, {rows}"
        + markup.table(("parameter", "unit", "prior"), inputs)
        + markup.table(("output", "unit", "shape", "error / spread"), outputs)
        + "<small>Error: root mean square, of rows that members did not see. Spread: the rows' standard deviation. "
        "Both in the scale of the output's transform.</small></div>"
    )


def _shape(output: Output) -> str:
    return " × ".join(f"{dim}: {len(output.coords[dim])}" for dim in output.dims) or "a number"


def _prior(prior: Prior) -> str:
    return f"{prior.dist}({', '.join(f'{name}={_short(value)}' for name, value in prior.arguments.items())})"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
