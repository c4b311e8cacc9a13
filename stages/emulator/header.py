"""What an emulator was trained on and how: plain data beside its arrays, the same on disk as in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.networks import default_options
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.settings import Transform, short_name

_NUM_ROWS = 4096  # training rows kept: where chains may start, the domain's edge, and the error near given data
_ROW_BYTES = 2**25  # or as many of them as this allows
Leaf = tuple[Sequence[int], str]  # the shape and the type of an array


@dataclass(frozen=True, eq=False)
class Header:
    """What rebuilds an emulator of its arrays; hashable, as what is static under `jit` must be."""

    architecture: str
    options: Mapping[str, Any]
    num_members: int
    num_rows: int  # training rows that are kept
    dtype: str  # of the networks
    training_seconds: float
    space: Space
    layout: Layout
    transform: Mapping[str, Transform]
    floor: float
    families: Sequence[str]
    leaves: Sequence[Leaf] | None  # of a model in closed form
    components: Mapping[str, int]  # principal ones, of outputs that have some
    coordinate_units: Mapping[str, str]
    versions: Mapping[str, str]
    num_scattered: int | None = None  # values of a random simulator that scatter
    flow: Mapping[str, Any] | None = None  # sizes of the flow that gives the density of the data, and which data
    whitened_inputs: bool = False  # as the first format had it

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Header) and self._text == other._text)

    @cached_property
    def _text(self) -> str:
        return json.dumps(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Describe it in plain data."""
        return {
            "architecture": self.architecture,
            "options": dict(self.options),
            "num_members": self.num_members,
            "num_rows": self.num_rows,
            "dtype": self.dtype,
            "training_seconds": self.training_seconds,
            "space": self.space.to_json(),
            "layout": self.layout.to_json(),
            "transform": dict(self.transform),
            "floor": self.floor,
            "families": list(self.families),
            **({"inputs": "whitened"} if self.whitened_inputs else {}),
            **({} if self.leaves is None else {"leaves": list(self.leaves)}),
            **({"pca": dict(self.components)} if self.components else {}),
            "coordinate_units": dict(self.coordinate_units),
            "versions": dict(self.versions),
            **({} if self.num_scattered is None else {"num_scattered": self.num_scattered}),
            **({} if self.flow is None else {"flow": dict(self.flow)}),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Header:
        """Rebuild a header from `to_json`."""
        same = ("architecture", "options", "num_members", "num_rows", "dtype", "transform", "floor", "families")
        return cls(
            **{name: stored[name] for name in same},
            training_seconds=stored.get("training_seconds", 0.0),
            space=Space.from_json(stored["space"]),
            layout=Layout.from_json(stored["layout"]),
            leaves=stored.get("leaves"),
            components=stored.get("pca", {}),
            coordinate_units=stored.get("coordinate_units", {}),
            versions=stored.get("versions", {}),
            num_scattered=stored.get("num_scattered"),
            flow=stored.get("flow"),
            whitened_inputs=stored.get("inputs") == "whitened",
        )


def make_header(
    *,
    space: Space,
    layout: Layout,
    transform: Mapping[str, Transform],
    floor: float,
    families: Sequence[str],
    networks: PyTree,
    architecture: str,
    options: Mapping[str, Any],
    dtype: str,
    num_members: int,
    num_rows: int,
    seconds: float,
    components: Mapping[str, int],
    coordinate_units: Mapping[str, str],
    num_scattered: int | None,
) -> Header:
    """Gather what is needed to rebuild an emulator of `num_rows` training rows, and to know how it was trained."""
    return Header(
        architecture=short_name(architecture),
        options=default_options(architecture) | dict(options),
        num_members=num_members,
        num_rows=min(num_rows, _NUM_ROWS, max(_ROW_BYTES // (8 * layout.size), 64)),
        dtype=dtype,
        training_seconds=seconds,
        space=space,
        layout=layout,
        transform=transform,
        floor=floor,
        families=families,
        leaves=_leaves(networks) if isinstance(networks, ClosedForm) else None,
        components=components,
        coordinate_units=coordinate_units,
        versions={name: version(name) for name in ("jax", "equinox")},
        num_scattered=num_scattered,
    )


def _leaves(model: ClosedForm) -> list[Leaf]:
    return [(list(leaf.shape), leaf.dtype.name) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]
