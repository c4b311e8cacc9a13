"""How fast do networks train, how soon is an error reached, and what does an evaluation inside NUTS cost?

    python benchmarks/training.py [speed] [error] [evaluation]

Speed: the same multilayer perceptron, rows, batch, precision (float32) and number of steps, by Simfer with everything
on (validation, early stopping, progress, checkpoints; one network, and eight side by side), by a plain loop of Equinox
steps, by PyTorch and by scikit-learn (where installed), in turns; medians of the turns, compilation left out. Error:
seconds, compilation among them, until the median member's validation error on the borehole function is below a target,
with and without the quasi-Newton finish. Evaluation: value and gradient of an ensemble of five as NUTS asks for them,
one after another in compiled code, and the bare matrix products of its layers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from simfer.pipeline import runtime

runtime.prepare()

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import qmc

from simfer import pipeline
from simfer.stages.emulator.architectures.mlp import MLP
from simfer.stages.settings import Train
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import fit
from simfer.stages.train.losses import loss_of

SIZES = ((4, 128, 256), (3, 48, 64))  # hidden layers, width, batch
NUM_ROWS, STEPS, TURNS = 4096, 600, 5
TARGET = 2e-5  # of the borehole's variance
SMOKE = Path(__file__).parent.parent / "configs" / "smoke.toml"


class Watch:
    """Notes when every report of progress came, and the validation loss that it told."""

    def __init__(self) -> None:
        self.begun, self.reports = time.perf_counter(), []

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[Watch]:
        """Begin to watch."""
        yield self

    def advance(self, count: int, **fields: Any) -> None:
        """Note the time."""
        if count:
            self.reports.append((time.perf_counter() - self.begun, count, fields.get("validation", np.inf)))

    def note(self, text: str) -> None:
        """Pay no heed."""

    def rate(self) -> float:
        """Return steps a second, between the first report and the last."""
        seconds, counts, _ = zip(*self.reports, strict=True)
        return sum(counts[1:]) / (seconds[-1] - seconds[0])


def rows() -> Rows:
    """Return smooth random rows: 8 inputs, 4 outputs."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_ROWS, 8))
    y = np.tanh(x @ rng.normal(size=(8, 4))) + x[:, :4] * x[:, 4:]
    return Rows(x, (y - y.mean(axis=0)) / y.std(axis=0))


def ours(depth: int, width: int, batch: int, members: int) -> float:
    """Return network-steps a second."""
    options = {"width": width, "depth": depth}
    settings = Train(architecture="mlp", options=options, ensemble_size=members, batch_size=batch,
                     optimizer="adam", steps=STEPS, finish_steps=0)  # fmt: skip
    watch, held = Watch(), rows()
    with tempfile.TemporaryDirectory() as folder:
        fit(settings, held, 1 + np.arange(NUM_ROWS) % 8, {}, watch, Path(folder))
    return members * watch.rate()


def plain_loop(depth: int, width: int, batch: int) -> float:
    """Return the steps a second of what a tutorial would have one write."""
    held = rows().typed("float32")
    network = MLP(8, 4, key=jax.random.key(0), width=width, depth=depth)
    network = jax.tree.map(lambda leaf: leaf.astype("float32") if eqx.is_inexact_array(leaf) else leaf, network)
    made = optax.adam(1e-2)

    @eqx.filter_jit
    def step(network: Any, state: Any, batch: Rows) -> Any:
        value, slope = eqx.filter_value_and_grad(loss_of())(network, batch)
        updates, state = made.update(slope, state)
        return eqx.apply_updates(network, updates), state, value

    state, rng = made.init(eqx.filter(network, eqx.is_inexact_array)), np.random.default_rng(0)

    def some() -> None:
        nonlocal network, state
        network, state, value = step(network, state, held.pick(rng.integers(0, NUM_ROWS, batch)))
        value.block_until_ready()

    return _rate(some)


def by_torch(depth: int, width: int, batch: int, members: int = 1) -> float:
    """Return PyTorch's network-steps a second, eager; several networks are products of stacked matrices."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = (torch.tensor(np.asarray(part), dtype=torch.float32, device=device) for part in rows()[:2])
    sizes = [8, *[width] * depth, 4]
    linear = [
        (torch.randn(members, a, b, device=device) / a**0.5, torch.zeros(members, 1, b, device=device))
        for a, b in pairwise(sizes)
    ]
    weights = [part.requires_grad_() for layer in linear for part in layer]
    layers = [torch.nn.Linear(a, b).to(device) for a, b in pairwise(sizes)]
    inner = [module for layer in layers for module in (layer, torch.nn.SiLU())][:-1]
    network = torch.nn.Sequential(*inner)
    made = torch.optim.Adam(network.parameters() if members == 1 else weights, lr=1e-2)

    def predicted(h: Any) -> Any:
        if members == 1:
            return network(h[0])[None]
        for number, (matrix, shift) in enumerate(linear):
            h = torch.baddbmm(shift, h if number == 0 else torch.nn.functional.silu(h), matrix)
        return h

    def some() -> None:
        at = torch.randint(0, NUM_ROWS, (members, batch), device=device)
        made.zero_grad()
        ((predicted(x[at]) - y[at]) ** 2).mean(dim=(1, 2)).sum().backward()
        made.step()

    def all_done() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return members * _rate(some, all_done)


def by_sklearn(depth: int, width: int, batch: int) -> float:
    """Return scikit-learn's steps a second; its networks have no silu, so tanh it is."""
    from sklearn.neural_network import MLPRegressor

    held = rows()
    x, y = np.asarray(held.x, "float32"), np.asarray(held.y, "float32")
    network = MLPRegressor(hidden_layer_sizes=(width,) * depth, activation="tanh", batch_size=batch)
    network.partial_fit(x, y)
    epochs, begun = max(STEPS * batch // NUM_ROWS, 1), time.perf_counter()
    for _ in range(epochs):
        network.partial_fit(x, y)
    return epochs * (NUM_ROWS // batch) / (time.perf_counter() - begun)


def _rate(step: Callable[[], None], all_done: Callable[[], None] = lambda: None) -> float:
    for _ in range(20):
        step()
    all_done()
    begun = time.perf_counter()
    for _ in range(STEPS):
        step()
    all_done()
    return STEPS / (time.perf_counter() - begun)


def speed() -> None:
    """Print steps a second, and how many times those of a plain loop."""
    print("| network | way | steps/s | of a plain loop |\n|---|---|---|---|")
    ways: dict[str, Callable[..., float]] = {
        "plain Equinox loop": plain_loop,
        "PyTorch, eager": by_torch,
        "scikit-learn": by_sklearn,
        "Simfer, one network": lambda *size: ours(*size, 1),
        "Simfer, eight side by side (network-steps)": lambda *size: ours(*size, 8),
    }
    for size in SIZES:
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(TURNS):
            for name, way in ways.items():
                try:
                    found[name].append(way(*size))
                except ImportError:
                    continue
        base = float(np.median(found["plain Equinox loop"]))
        for name, rates in found.items():
            if rates:
                rate, (depth, width, batch) = float(np.median(rates)), size
                print(f"| {depth} x {width}, batch {batch} | {name} | {rate:,.0f} | {rate / base:.2f} |", flush=True)


def borehole(num: int) -> Rows:
    """Return a Latin hypercube of runs of the borehole function (Morris et al. 1993), inputs and output scaled."""
    low = np.array([0.05, 100, 63070, 990, 63.1, 700, 1120, 9855])
    high = np.array([0.15, 50000, 115600, 1110, 116, 820, 1680, 12045])
    u = qmc.LatinHypercube(8, rng=0).random(num)
    r_w, r, t_u, h_u, t_l, h_l, length, k_w = (low + (high - low) * u).T
    log = np.log(r / r_w)
    y = 2 * np.pi * t_u * (h_u - h_l) / (log * (1 + 2 * length * t_u / (log * r_w**2 * k_w) + t_u / t_l))
    return Rows(np.sqrt(12) * (u - 0.5), ((y - y.mean()) / y.std())[:, None])


def error() -> None:
    """Print the seconds until a validation error is reached."""
    held = borehole(1000)
    print(f"| way | seconds to {TARGET:g} | steps | best |\n|---|---|---|---|")
    for name, changes in {
        "Muon, default steps": {},
        "Muon, a fifth of them": {"steps": 1000},
        "Adam, default steps": {"optimizer": "adam"},
        "Adam for a fifth of them, then L-BFGS": {"optimizer": "adam", "steps": 1000, "finish_steps": 1000},
        "Adam, then L-BFGS": {"optimizer": "adam", "finish_steps": 500},
    }.items():
        watch = Watch()
        history = fit(Train(**changes), held, 1 + np.arange(1000) % 5, {}, watch).history
        assert history is not None
        reached = next((f"{at:.0f}" for at, _, loss in watch.reports if loss < TARGET), "never")
        best = np.median(history.validation.min(axis=0))
        print(
            f"| {name} | {reached} | {int(history.steps[-1])} | {best:.2g} after {watch.reports[-1][0]:.0f} s |",
            flush=True,
        )


def evaluation() -> None:
    """Print what a value with its gradient costs, beside the matrix products."""
    emulator = pipeline.run(
        SMOKE, overrides=["train.steps=100", "train.width=96", "train.ensemble_size=5"], until="train"
    ).emulator
    networks = emulator.networks
    first, last = networks.first.weight, networks.last.weight
    inner = [layer.weight for block in networks.blocks for layer in block]

    def bare(z: jax.Array) -> jax.Array:
        h = jnp.broadcast_to(z, (len(first), len(z)))
        matrices = [first, *inner, last]
        for matrix in matrices:
            h = jnp.einsum("mij,mj->mi", matrix, h)
        for matrix in reversed(matrices):
            h = jnp.einsum("mij,mi->mj", matrix, h)
        return h.sum(axis=0)

    slope = jax.grad(lambda z: jnp.sum(emulator.members(z) ** 2))
    size = first.shape[-1]
    ways = {"value and gradient": (slope, "float64"), "matrix products": (bare, "float32")}
    found: dict[str, list[float]] = {name: [] for name in ways}
    compiled = {
        name: jax.jit(
            lambda z, f=f: jax.lax.scan(lambda z, _: (jnp.tanh(0.5 * z + 1e-3 * f(z)), None), z, length=1000)[0]
        )
        for name, (f, _) in ways.items()
    }
    for turn in range(1 + 2 * TURNS):
        for name, (_, dtype) in ways.items():
            begun = time.perf_counter()
            jax.block_until_ready(compiled[name](jnp.full(size, 0.1, dtype)))
            if turn:
                found[name].append(1e3 * (time.perf_counter() - begun))
    for name, each in found.items():
        print(f"{name}: {np.median(each):.1f} microseconds")
    print(f"ratio: {np.median(found['value and gradient']) / np.median(found['matrix products']):.2f}")


if __name__ == "__main__":
    for name in sys.argv[1:] or ["speed", "error", "evaluation"]:
        {"speed": speed, "error": error, "evaluation": evaluation}[name]()
