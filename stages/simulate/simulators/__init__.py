"""The simulators a config can name. A new one is one file here and one line in this table."""

from __future__ import annotations


def __getattr__(name: str) -> object:
    # The base classes need JAX; whoever only reads the table must not wait for it.
    if name == "SDESimulator":
        from simfer.stages.simulate.simulators.sde import SDESimulator

        return SDESimulator
    if name == "Output" or name.endswith("Simulator"):
        from simfer.stages.simulate.simulators import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
