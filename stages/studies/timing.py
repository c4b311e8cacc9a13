"""How long an emulator takes: one point after another, many at once, and with the gradient."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from simfer.stages.emulator.emulator import Emulator

BATCH = 4096
_BATCH_BYTES = 2**27  # of all members' predictions that are held at a time
_SECONDS = 0.03  # that a turn of one measurement takes, about
_TURNS = 7


def microseconds(emulators: Mapping[str, Emulator]) -> dict[str, dict[str, float]]:
    """Return the microseconds that a point takes: alone (`one`), with its gradient (`gradient`), and among 4,096.

    Those alone follow one another within a compiled loop, as in NUTS. The emulators take turns, and medians are
    returned: what else the machine does is then shared out among all.
    """
    calls = {(name, kind): call for name, each in emulators.items() for kind, call in _calls(each).items()}
    times = np.array([[call() for call in calls.values()] for _ in range(_TURNS)])
    found: dict[str, dict[str, float]] = {name: {} for name in emulators}
    for (name, kind), median in zip(calls, np.median(times, axis=0), strict=True):
        found[name][kind] = 1e6 * float(median)
    return found


def _calls(emulator: Emulator) -> dict[str, Callable[[], float]]:
    def loss(z: Float[Array, " size"]) -> Float[Array, ""]:
        return jnp.sum((emulator.members(z).mean(axis=0) - emulator.location) ** 2)

    def with_gradient(z: Float[Array, " size"]) -> Float[Array, ""]:
        value, slope = jax.value_and_grad(loss)(z)
        return value + slope.sum()

    points = np.asarray(emulator.training_z)
    many = jnp.asarray(np.resize(points, (BATCH, points.shape[1])))
    block = max(min(BATCH, _BATCH_BYTES // (8 * emulator.num_members * emulator.layout.size)), 1)

    def batch(z: Float[Array, "n size"]) -> Float[Array, ""]:
        return jax.lax.map(loss, z, batch_size=block).sum()

    return {
        "one": _clock(loss, many[0], 1),
        "gradient": _clock(with_gradient, many[0], 1),
        "batch": _clock(batch, many, BATCH),
    }


def _clock(function: Callable[[Array], Array], z: Array, num_points: int) -> Callable[[], float]:
    """Return what measures the seconds a point takes, long enough for a clock."""

    @jax.jit
    def repeat(times: Array) -> Array:
        # Each pass waits for the last, which moves the point by nothing that counts.
        return jax.lax.fori_loop(0, times, lambda _, moved: 1e-300 * function(z + moved), jnp.asarray(0.0))

    def seconds(times: int) -> float:
        begun = time.perf_counter()
        repeat(jnp.asarray(times)).block_until_ready()
        return time.perf_counter() - begun

    seconds(1)  # compiles
    times = max(int(_SECONDS / max(seconds(8) / 8, 1e-9)), 1)
    return lambda: seconds(times) / times / num_points
