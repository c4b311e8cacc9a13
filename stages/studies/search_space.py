"""Which settings of a training can be searched, and between which values: read off the architecture's constructor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from simfer.stages.emulator.architectures.base import ACTIVATIONS, ClosedForm
from simfer.stages.emulator.networks import default_options, network_options
from simfer.stages.model.plugins import resolve
from simfer.stages.settings import Train
from simfer.stages.settings.names import ARCHITECTURES

_SHARED = "width", "depth", "activation"  # keys of [train], of architectures that have them
_DESCENT = "learning_rate", "batch_size"
_FEW = 8  # up to which a number is searched one by one, and not by factors


def space(train: Train) -> dict[str, BaseDistribution]:
    """Return what can be varied about the settings as they are: each number within a factor, each choice."""
    make = resolve(train.architecture, ARCHITECTURES)
    hints, now = _hints(make), current(train)
    found = {name: _around(name, value, hints.get(name)) for name, value in now.items()}
    limits = getattr(make, "limits", ())
    return {name: each for name, each in found.items() if each is not None and name not in limits}


def current(train: Train) -> dict[str, Any]:
    """Return the settings as they are: the architecture's options, and how it descends if it does."""
    is_closed = issubclass(resolve(train.architecture, ARCHITECTURES), ClosedForm)
    descent = {} if is_closed else {name: getattr(train, name) for name in _DESCENT}
    return default_options(train.architecture) | network_options(train) | descent


def _hints(make: type) -> dict[str, Any]:
    try:
        return get_type_hints(make.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # one's own class need not have any
        return {}


def _around(name: str, value: Any, hint: Any) -> BaseDistribution | None:
    choices = get_args(hint) if get_origin(hint) is Literal else tuple(ACTIVATIONS) if name == "activation" else ()
    if isinstance(value, bool):
        return CategoricalDistribution([False, True])
    if value in choices:
        return CategoricalDistribution(choices)
    if isinstance(value, int) and value > 0:
        return IntDistribution(1, 2 * value) if value <= _FEW else IntDistribution(value // 4, 4 * value, log=True)
    if isinstance(value, float) and value > 0:
        return FloatDistribution(value / 10, value * 10, log=True)
    return None


def changed(train: Train, found: Mapping[str, Any]) -> Train:
    """Return the settings with what a search has found put into them."""
    fields, options = _split(train, found)
    return train.model_copy(update=fields | {"options": train.options | options})


def in_toml(train: Train, found: Mapping[str, Any]) -> str:
    """Write what a search has found as it stands in a config."""
    fields, options = _split(train, found)
    if "learning_rate" in fields and train.optimizer:  # whose it is
        fields = {"optimizer": train.optimizer} | fields
    lines = ["[train]", f"architecture = {json.dumps(train.architecture)}", *_lines(fields)]
    return "\n".join(lines + (["", "[train.options]", *_lines(train.options | options)] if options else []))


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in table.items()]


def _split(train: Train, found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell keys of [train] from options; three digits of a number are enough, and are read more easily."""
    rounded = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in found.items()}
    is_field = {name: name in _DESCENT or (name in _SHARED and name not in train.options) for name in rounded}
    return ({n: v for n, v in rounded.items() if is_field[n]}, {n: v for n, v in rounded.items() if not is_field[n]})
