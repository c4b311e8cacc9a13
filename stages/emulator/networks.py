"""Networks built by the name of their architecture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import NoneType
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from simfer.stages.batches import compiled
from simfer.stages.emulator.architectures.base import PROVIDED, ClosedForm
from simfer.stages.model.plugins import resolve
from simfer.stages.settings import Train
from simfer.stages.settings.names import ARCHITECTURES


def build_networks(
    architecture: str,
    options: Mapping[str, Any],
    sizes: tuple[int, int],
    keys: Array,
    dtype: str,
    context: Mapping[str, Any] | None = None,
) -> PyTree:
    """Build an ensemble: one network of the named architecture for each key, their leaves stacked; or one ClosedForm.

    `context` holds the `layout`, the `families` and what `varies`, for constructors that take them.
    """
    make = resolve(architecture, ARCHITECTURES)
    wanted = inspect.signature(make).parameters
    extra = {name: value for name, value in (context or {}).items() if name in wanted}
    if issubclass(make, ClosedForm):
        return make(*sizes, key=keys[0], **extra, **options)
    networks = eqx.filter_vmap(lambda key: make(*sizes, key=key, **extra, **options))(keys)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, networks)


def draw_networks(train: Train, sizes: tuple[int, int], keys: Array, context: Mapping[str, Any] | None) -> PyTree:
    """Build the ensemble that `train` names by `build_networks`, as one program: by itself every weight is several."""

    def build(keys: Array) -> PyTree:
        return build_networks(train.architecture, network_options(train), sizes, keys, train.dtype, context)

    if issubclass(resolve(train.architecture, ARCHITECTURES), ClosedForm):
        return build(keys)
    _, static = eqx.partition(eqx.filter_eval_shape(build, keys), lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    draw = compiled(lambda keys: eqx.filter(build(keys), eqx.is_array), keys, effort="least")
    return eqx.combine(draw(keys), static)


def network_options(train: Train) -> dict[str, Any]:
    """Return the options of the network that `train` names."""
    return train.options_for(inspect.signature(resolve(train.architecture, ARCHITECTURES)).parameters)


def default_options(architecture: str) -> dict[str, Any]:
    """Return the options of an architecture that have a plain default."""
    parameters = inspect.signature(resolve(architecture, ARCHITECTURES)).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name not in PROVIDED}
    return {name: value for name, value in defaults.items() if isinstance(value, (bool, int, float, str, NoneType))}
