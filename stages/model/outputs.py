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


@dataclass(frozen=True)
class Output:
    """One output's layout: its dimensions, their coordinates, and its unit."""

    dims: tuple[str, ...] = ()
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)
    unit: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape."""
        return tuple(len(self.coords[dim]) for dim in self.dims)

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape, dtype=int))
