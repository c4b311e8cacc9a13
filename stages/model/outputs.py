"""What a simulation gives: named outputs, how they lie in one flat vector, and how it ended."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layout:
    """How named outputs lie in one flat vector, in a fixed order."""

    outputs: Mapping[str, Output]

    @property
    def size(self) -> int:
        """The length of the flat vector."""
        return sum(output.size for output in self.outputs.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Where each output lies in it."""
        ends = np.cumsum([output.size for output in self.outputs.values()]).tolist()
        return {name: slice(end - out.size, end) for end, (name, out) in zip(ends, self.outputs.items(), strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Describe the layout in plain data."""
        return {
            name: {
                "dims": list(o.dims),
                "coords": {d: np.asarray(o.coords[d]).tolist() for d in o.dims},
                "unit": o.unit,
            }
            for name, o in self.outputs.items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Layout:
        """Rebuild a layout from `to_json`."""
        return cls(
            {
                name: Output(tuple(o["dims"]), {d: np.asarray(o["coords"][d]) for d in o["dims"]}, o["unit"])
                for name, o in stored.items()
            }
        )


class Status(enum.IntEnum):
    """How one simulation ended."""

    PENDING = -1
    OK = 0
    MAX_STEPS = 1
    STEP_TOO_SMALL = 2
    NOT_FINITE = 3
    NONLINEAR_SOLVE = 4
    OTHER = 5
    RAISED = 6  # an exception in Python
    EXIT = 7  # a program's exit code, or its own word, says that it failed
    CRASHED = 8  # ended by a signal, as by a segmentation fault
    TIMEOUT = 9
    BAD_OUTPUT = 10  # missing, unreadable, stale, or of another shape or other coordinates than the others


@dataclass(frozen=True)
class Output:
    """What one output of a simulator looks like; its values are float64 of shape `shape`.

    Args:
        dims: Names of its axes, such as `("time",)`; none of a single number.
        coords: The coordinates along each of them, arrays of numbers that increase; data are looked up by these.
        unit: The unit of its values, as the data's; "" for none.

    Example:
        >>> import numpy as np
        >>> import simfer
        >>> output = simfer.Output(("time", "place"), {"time": np.arange(4.0), "place": np.arange(3)}, "cm")
        >>> output.shape, output.size
        ((4, 3), 12)
    """

    dims: tuple[str, ...] = ()
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)
    unit: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape: the number of coordinates along each of `dims`."""
        return tuple(len(self.coords[dim]) for dim in self.dims)

    @property
    def size(self) -> int:
        """The number of its values; 1 of a single number."""
        return int(np.prod(self.shape, dtype=int))
