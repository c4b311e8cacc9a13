"""The simulators a config can name. A new one is one file here and one line in this table."""

from __future__ import annotations

SIMULATORS: dict[str, str] = {
    "gray_scott": "stages.simulators.gray_scott:GrayScott",
    "linear": "stages.simulators.linear:Linear",
    "lorenz": "stages.simulators.lorenz:Lorenz",
    "lotka_volterra": "stages.simulators.lotka_volterra:LotkaVolterra",
    "michaelis_menten": "stages.simulators.michaelis_menten:MichaelisMenten",
    "nbody": "stages.simulators.nbody.cluster:StarCluster",
    "ornstein_uhlenbeck": "stages.simulators.ornstein_uhlenbeck:OrnsteinUhlenbeck",
    "robertson": "stages.simulators.robertson:Robertson",
    "sir": "stages.simulators.sir:SIR",
    "solow": "stages.simulators.solow:Solow",
    "solow_continuous": "stages.simulators.solow:SolowContinuous",
    "supernova": "stages.simulators.supernova:Supernova",
}


def __getattr__(name: str) -> object:
    # The base classes need JAX; whoever only reads the table must not wait for it.
    if name == "SDESimulator":
        from stages.simulators.sde import SDESimulator

        return SDESimulator
    if name == "Output" or name.endswith("Simulator"):
        from stages.simulators import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
