"""The simulators and architectures that a config can name. A new one is one file and one line here."""

from __future__ import annotations

ASK = "ask"  # in place of a simulator: somebody else makes the runs, which are asked for and told

SIMULATORS: dict[str, str] = {
    "gaussian_mixture": "simfer.stages.simulate.simulators.gaussian_mixture:GaussianMixture",
    "gray_scott": "simfer.stages.simulate.simulators.gray_scott:GrayScott",
    "linear": "simfer.stages.simulate.simulators.linear:Linear",
    "lorenz": "simfer.stages.simulate.simulators.lorenz:Lorenz",
    "lotka_volterra": "simfer.stages.simulate.simulators.lotka_volterra:LotkaVolterra",
    "michaelis_menten": "simfer.stages.simulate.simulators.michaelis_menten:MichaelisMenten",
    "nbody": "simfer.stages.simulate.simulators.nbody.cluster:StarCluster",
    "ornstein_uhlenbeck": "simfer.stages.simulate.simulators.ornstein_uhlenbeck:OrnsteinUhlenbeck",
    "robertson": "simfer.stages.simulate.simulators.robertson:Robertson",
    "sir": "simfer.stages.simulate.simulators.sir:SIR",
    "slcp": "simfer.stages.simulate.simulators.slcp:SLCP",
    "solow": "simfer.stages.simulate.simulators.solow:Solow",
    "solow_continuous": "simfer.stages.simulate.simulators.solow:SolowContinuous",
    "supernova": "simfer.stages.simulate.simulators.supernova:Supernova",
    "two_moons": "simfer.stages.simulate.simulators.two_moons:TwoMoons",
}


ARCHITECTURES: dict[str, str] = {
    "cosmopower": "simfer.stages.emulator.architectures.cosmopower:CosmoPower",
    "deeponet": "simfer.stages.emulator.architectures.deeponet:DeepONet",
    "fourier": "simfer.stages.emulator.architectures.fourier:Fourier",
    "gaussian_process": "simfer.stages.emulator.architectures.gaussian_process:GaussianProcess",
    "mlp": "simfer.stages.emulator.architectures.mlp:MLP",
    "polynomial": "simfer.stages.emulator.architectures.polynomial:Polynomial",
    "residual": "simfer.stages.emulator.architectures.residual:Residual",
}

SEEDLESS = "gaussian_process", "polynomial"  # in closed form: to the same whatever the seed
AUTO = "auto"  # in place of a name: the best of the candidates
CANDIDATES = "residual", "mlp", "cosmopower", "polynomial", "gaussian_process"  # that suit most problems, if there
