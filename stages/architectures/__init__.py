"""The emulator architectures a config can name. A new one is one file here and one line in this table."""

from __future__ import annotations

ARCHITECTURES: dict[str, str] = {
    "cosmopower": "stages.architectures.cosmopower:CosmoPower",
    "deeponet": "stages.architectures.deeponet:DeepONet",
    "fourier": "stages.architectures.fourier:Fourier",
    "gaussian_process": "stages.architectures.gaussian_process:GaussianProcess",
    "mlp": "stages.architectures.mlp:MLP",
    "polynomial": "stages.architectures.polynomial:Polynomial",
    "residual": "stages.architectures.residual:Residual",
}

AUTO = "auto"  # in place of a name: the best of the candidates
CANDIDATES = "residual", "mlp", "cosmopower", "polynomial", "gaussian_process"  # that suit most problems, if there


def __getattr__(name: str) -> object:
    # The base class needs JAX; whoever only reads the table must not wait for it.
    if name == "Architecture":
        from stages.architectures.base import Architecture

        return Architecture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
