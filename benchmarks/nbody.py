"""How fast are star clusters followed, beside a loop over them in vectorized NumPy? And what does autodiff cost?

    python benchmarks/nbody.py [CLUSTERS]

1,000 clusters of 100 bodies over 100 steps of leapfrog; for Simfer as an ensemble, the drawing of the clusters and what
is observed of them included, for NumPy the steps alone, with forces as they are usually written, and tuned. Then the
forces by themselves: Simfer's, which are gradients of the potential, the same in closed form, and the gradient of the
potential energy taken at once. Everything is run in turns; medians, and the seconds of all cores together beside those
of the clock.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

import numpy as np

from simfer.pipeline import runtime

ROUNDS, REPEATS, NUM_BODIES, NUM_STEPS, STEP, SOFTENING = 5, 10, 100, 100, 0.05, 0.1
Force = Callable[[np.ndarray, np.ndarray], np.ndarray]


def numpy_as_written(x: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return the forces by NumPy as they are usually written: matrices of separations, an inverse cube, no loop."""
    dx, dy, dz = (c - c[:, None] for c in x)
    cubed = (dx**2 + dy**2 + dz**2 + np.asarray(SOFTENING**2, x.dtype)) ** np.asarray(-1.5, x.dtype)
    return np.stack([(d * cubed) @ masses for d in (dx, dy, dz)])


def numpy_tuned(x: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return the forces by NumPy, as fast as it goes: no power, sums in place and by matrix products."""
    dx, dy, dz = (c[:, None] - c for c in x)
    squared = dx * dx
    squared += dy * dy
    squared += dz * dz
    squared += np.asarray(SOFTENING**2, x.dtype)
    weights = masses / (squared * np.sqrt(squared))
    return x @ weights.T - x * weights.sum(axis=1)


def numpy_clusters(x: np.ndarray, v: np.ndarray, force: Force) -> None:
    """Follow one cluster after the other by leapfrog."""
    masses, step = np.full(NUM_BODIES, 1 / NUM_BODIES, x.dtype), np.asarray(STEP, x.dtype)
    for at, speed in zip(x, v, strict=True):
        a = force(at, masses)
        for _ in range(NUM_STEPS):
            speed = speed + 0.5 * step * a
            at = at + step * speed
            a = force(at, masses)
            speed = speed + 0.5 * step * a


def ensembles(num: int) -> dict[str, Callable[[], object]]:
    """Return what follows the clusters, by name."""
    import jax

    from simfer.stages.model.space import Space
    from simfer.stages.settings import Simulate
    from simfer.stages.simulate.ensemble import build_ensemble
    from simfer.stages.simulate.simulators.nbody.plummer import plummer_sphere

    space = Space({"mass": 1.0, "scale_radius": 1.0, "virial_ratio": 0.5})
    x, v = map(
        np.asarray, jax.vmap(lambda key: plummer_sphere(key, NUM_BODIES))(jax.random.split(jax.random.key(0), num))
    )
    found: dict[str, Callable[[], object]] = {}
    for dtype in ("float64", "float32"):
        for name, force in (("as written", numpy_as_written), ("tuned", numpy_tuned)):
            start = x.astype(dtype), v.astype(dtype)
            found[f"NumPy {name}, {dtype}"] = functools.partial(numpy_clusters, *start, force)
    for dtype in ("float64", "float32"):
        options = {"times": [NUM_STEPS * STEP], "step": STEP, "softening": SOFTENING, "dtype": dtype}
        settings = Simulate(
            simulator="nbody", num_simulations=num, options=options | {"num_bodies": NUM_BODIES}, batch_size=64
        )
        found[f"Simfer, {dtype}"] = functools.partial(
            build_ensemble(settings, space), np.zeros((num, 0)), np.arange(num)
        )
    return found


def forces(num: int) -> dict[str, Callable[[], object]]:
    """Return what works out the forces in so many clusters, by name."""
    import jax
    import jax.numpy as jnp

    from simfer.stages.simulate.simulators.nbody.gravity import acceleration, potential_energy

    masses = jnp.full(NUM_BODIES, 1 / NUM_BODIES)

    def closed(x: jax.Array) -> jax.Array:
        def add(total: tuple[jax.Array, ...], source: tuple[tuple[jax.Array, ...], jax.Array]) -> tuple[object, None]:
            at, mass = source
            d = [a - b for a, b in zip(at, x, strict=True)]
            squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + SOFTENING**2
            weight = mass / (squared * jnp.sqrt(squared))
            return tuple(a + weight * c for a, c in zip(total, d, strict=True)), None

        nothing = tuple(jnp.zeros_like(c) for c in x)
        return jnp.stack(jax.lax.scan(add, nothing, (tuple(x), masses), unroll=4)[0])  # type: ignore[arg-type]

    def at_once(x: jax.Array) -> jax.Array:
        return -jax.grad(lambda x: potential_energy(x, masses, SOFTENING))(x) / masses

    x = jax.random.normal(jax.random.key(0), (num, 3, NUM_BODIES))
    kinds = {
        "gradient of the potential, source by source": lambda x: acceleration(x, masses, SOFTENING),
        "closed form, source by source": closed,
        "gradient of the potential energy": at_once,
    }

    def ready(function: Callable[[jax.Array], jax.Array]) -> None:
        for _ in range(REPEATS):
            function(x).block_until_ready()

    return {name: functools.partial(ready, jax.jit(jax.vmap(kind))) for name, kind in kinds.items()}


def medians(runs: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return the median seconds of clock and of processors for each, run in turns."""
    for run in runs.values():
        run()  # compiles
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            taken[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {name: tuple(np.median(seconds, axis=0).tolist()) for name, seconds in taken.items()}


def main() -> None:
    """Print both tables."""
    runtime.prepare()
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    taken = medians(ensembles(num))
    print(f"{num} clusters of {NUM_BODIES} bodies, {NUM_STEPS} steps")
    loops = [name for name in taken if name.startswith("NumPy")]
    print(f"| | clock, s | processors, s | {' | '.join(f'times as fast as {name}' for name in loops)} |")
    print("|---" * (3 + len(loops)) + "|")
    for name, (clock, processor) in taken.items():
        ratios = " | ".join(f"{taken[loop][0] / clock:.1f}" for loop in loops)
        print(f"| {name} | {clock:.3g} | {processor:.3g} | {ratios} |")
    print("\nforces in float64, 64 clusters\n| | processors, ns for each pair |\n|---|---|")
    for name, (_, processor) in medians(forces(64)).items():
        print(f"| {name} | {processor / (64 * REPEATS * NUM_BODIES**2) * 1e9:.3g} |")


if __name__ == "__main__":
    main()
