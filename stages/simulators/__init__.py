"""The simulators a config can name. A new one is one file here and one line in this table."""

from __future__ import annotations

SIMULATORS: dict[str, str] = {
    "linear": "stages.simulators.linear:Linear",
    "lotka_volterra": "stages.simulators.lotka_volterra:LotkaVolterra",
    "nbody": "stages.simulators.nbody.cluster:StarCluster",
    "ornstein_uhlenbeck": "stages.simulators.ornstein_uhlenbeck:OrnsteinUhlenbeck",
    "sir": "stages.simulators.sir:SIR",
}


def __getattr__(name: str) -> object:
    # The base classes need JAX; whoever only reads the table must not wait for it.
    if name == "Output" or name.endswith("Simulator"):
        from stages.simulators import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
