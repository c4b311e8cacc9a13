"""How JAX computes: its precision, its flags and its random numbers are no user's file to change.

They would change for all that is computed after it, under a fingerprint that knows nothing of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from simfer.stages.errors import ConfigError, Mistake

_OF_JAX = "JAX_", "XLA_"


@contextmanager
def kept(who: str, where: str) -> Iterator[None]:
    """Run a user's code; where it changes how JAX computes, put that back and raise ConfigError, placed `where`."""
    before, environment = _flags(), _environment()
    yield
    changed = {name: value for name, value in _flags().items() if before.get(name, value) != value}
    for name in changed:
        jax.config.update(name, before[name])
    set_now = {name: value for name, value in _environment().items() if environment.get(name) != value}
    os.environ.update({name: environment[name] for name in set_now if name in environment})
    for name in set_now.keys() - environment.keys():
        del os.environ[name]
    if changed or set_now:
        got = ", ".join(f"{name} to {value!r}" for name, value in (changed | set_now).items())
        what = f"{who} sets {got}, which changes how all is computed and is in no fingerprint; take that line out"
        raise ConfigError([Mistake(where, what)])


def _flags() -> dict[str, Any]:
    return dict(jax.config.values)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_OF_JAX)}
