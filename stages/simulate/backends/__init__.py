"""Where rows come from: each kind of simulator is one file here, and one line of this table."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends.contract import Backend

BACKENDS: dict[str, str] = {
    "jax": "simfer.stages.simulate.backends.compiled:Compiled",
}


def build_backend(settings: Simulate, space: Space) -> Backend:
    """Return what gives rows of a config's simulator: a `Backend` of the kind that `Simulate.kind` says."""
    module, _, name = BACKENDS[settings.kind].partition(":")
    made: Any = getattr(import_module(module), name)
    backend: Backend = made(settings, space)
    return backend
