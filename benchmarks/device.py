"""What a device does in a second, a part of it at a time; `bash benchmarks/device.sh` prints the table of all parts.

    python benchmarks/device.py PART [SECONDS]

Lanes: rows of Lotka-Volterra (those of `ensembles.py`), from 1,024 to 1,048,576 of them, in both precisions. Agreement:
the same rows, and densities of an emulator, on the processor beside the device. Training: steps of a perceptron, one
and eight side by side, in float32, and PyTorch's where it is installed. NUTS: draws through an emulator, its chains as
one array, warm-up counted. Whole chains: from an empty store to the verdict, compilation counted, when each stage was
done, and the longest parts. All else was compiled before it is timed; what does not fit into SECONDS is said.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs from anywhere

from simfer import pipeline
from simfer.pipeline import runtime

CONFIGS = Path(__file__).parent.parent / "configs"
BEGUN = time.perf_counter()
_START = 5.0  # s that a process takes before this is read


def line(what: str, size: str, result: str) -> None:
    """Print a row of the table."""
    print(f"| {what} | {size} | {result} |", flush=True)


def series(what: str, unit: str, sizes: Iterable[int], run: Callable[[int], float], seconds: float) -> None:
    """Time ever larger sizes, of which `run` says the seconds of each; leave out what is too much for the time left."""
    took, growth, last = 0.0, 1.0, 0.0
    for size in sizes:
        begun = time.perf_counter()
        left = seconds - _START - (begun - BEGUN)
        expected = took * max(growth, 1.0)  # it is compiled, and timed by a second go
        if expected > left:
            line(what, f"{size:,}", f"left out: it would take {expected:.0f} s, and {max(left, 0):.0f} are left")
            continue
        each = run(size)
        took, growth, last = time.perf_counter() - begun, each * size / last if last else 1.0, each * size
        line(what, f"{size:,}", f"{1 / each:,.0f} {unit}/s")


def predators(precision: str) -> Any:
    """Return what solves rows of Lotka-Volterra."""
    import jax
    import numpy as np
    from pydantic import TypeAdapter

    from benchmarks.ensembles import EXPLICIT, PREY, LotkaVolterra
    from simfer.stages.model.space import Space
    from simfer.stages.settings import AnyPrior, Simulate
    from simfer.stages.simulate.ensemble import Ensemble

    jax.config.update("jax_enable_x64", precision == "float64")  # the benchmark above has set it for itself
    read: Any = TypeAdapter(AnyPrior).validate_python
    space = Space({name: read(prior) for name, prior in PREY.items()})
    options = EXPLICIT if precision == "float64" else EXPLICIT | {"rtol": 1e-4, "atol": 1e-4}  # as its digits allow
    settings = Simulate.model_validate({"simulator": "lotka_volterra", "num_simulations": 1024, "solver": options})
    return Ensemble(LotkaVolterra(times=list(np.linspace(0.0, 18.9, 10))), settings, space)


def lanes(precision: str, seconds: float) -> None:
    """Solve rows of an equation."""
    import numpy as np

    ensemble = predators(precision)

    def run(size: int) -> float:
        z, rows = np.random.default_rng(0).standard_normal((size, 4)).astype(precision), np.arange(size)
        ensemble(z[:8192], rows[:8192], like=size)
        begun = time.perf_counter()
        solved = ensemble(z, rows)
        assert solved.outputs["y"].dtype == precision
        return (time.perf_counter() - begun) / size

    series(f"lanes, {precision}", "rows", (2**10, 2**14, 2**18, 2**20), run, seconds)


def training(seconds: float) -> None:
    """Train networks side by side, here and in PyTorch."""
    from benchmarks.training import SIZES, by_torch, ours

    ways: dict[str, Callable[..., float]] = {"training": ours, "training by PyTorch, eager": by_torch}
    for depth, width, batch in reversed(SIZES):
        for members in (1, 8):
            for what, way in ways.items():
                size = f"{depth} x {width}, batch {batch}, {members} at once"
                if time.perf_counter() - BEGUN > seconds - 2 * _START:
                    line(what, size, "left out: no time is left")
                    continue
                with suppress(ImportError):  # not everybody has PyTorch
                    line(what, size, f"{way(depth, width, batch, members):,.0f} steps/s")


def trained(folder: str) -> Any:
    """Train the emulator of a small problem; return NUTS's settings for it, and its target."""
    from simfer.pipeline import chain, config
    from simfer.stages.infer.predictor import load_predictor
    from simfer.stages.infer.target import build_target

    overrides = ["train.steps=500", "infer.num_warmup=50", "infer.num_samples=50", "infer.chain_method=vectorized"]
    done = pipeline.run(CONFIGS / "smoke.toml", overrides=overrides, store=folder, until="train", quiet=True)
    links = chain.links(config.load(CONFIGS / "smoke.toml", overrides), chain.Turn(0, 50))
    settings: Any = next(link.config for link in links if link.stage == "infer")
    return settings.infer, build_target(settings, load_predictor(settings, done.folders["train"]))


def nuts(seconds: float) -> None:
    """Draw through the emulator of a small problem."""
    from simfer.stages.infer.samplers import nuts as sampler
    from simfer.stages.progress import Silent

    with tempfile.TemporaryDirectory() as folder:
        settings, target = trained(folder)

    def run(chains: int) -> float:
        own = settings.model_copy(update={"num_chains": chains})
        for _ in range(2):
            begun = time.perf_counter()
            sampler.sample(target, own, Silent())
        return (time.perf_counter() - begun) / (100 * chains)

    series("NUTS, chains as one array", "draws", (4, 64, 1024), run, seconds)


def agreement(_: float) -> None:
    """Hold what the device computes against the processor beside it: a fast wrong answer is worth nothing."""
    import jax
    import numpy as np

    z = np.random.default_rng(0).standard_normal((4096, 4))

    def on_both(ask: Callable[[], Any]) -> list[Any]:
        found = []
        for device in (jax.devices()[0], jax.devices("cpu")[0]):
            jax.config.update("jax_default_device", device)  # in all threads
            found.append(jax.tree.map(np.asarray, ask()))
        return found

    def tell(what: str, here: np.ndarray, there: np.ndarray) -> None:
        apart = np.abs(here - there) / (np.abs(there) + 1e-3 * np.abs(there).max(axis=0))
        told = f"apart by {np.max(apart):.1e} of their size, half of them by less than {np.median(apart):.1e}"
        line("held against the processor", what, told)

    tell("4,096 rows in lanes, rtol 1e-6", *on_both(lambda: predators("float64")(z, np.arange(len(z))).outputs["y"]))
    with tempfile.TemporaryDirectory() as folder:
        _, target = trained(folder)
    heights = jax.vmap(jax.value_and_grad(lambda z: target.log_ratio(z)))
    (here, slopes), (there, others) = on_both(lambda: jax.jit(heights)(z[:512, : target.size]))
    tell("512 log densities of an emulator", here, there)
    tell("their gradients", slopes, others)


def whole(name: str, _: float) -> None:
    """Go from an empty store to the verdict."""
    begun, over = time.perf_counter(), Event()

    def tell() -> None:
        """Say what has ended: what comes after it may not."""
        seen = set[Path]()
        while not over.wait(0.2):
            for manifest in sorted(set(Path(folder).glob("*/*/manifest.json")) - seen):
                seen.add(manifest)
                line(f"whole chain, {name}", manifest.parts[-3], f"done after {time.perf_counter() - begun:.0f} s")

    with tempfile.TemporaryDirectory() as folder:
        Thread(target=tell, daemon=True).start()
        result = pipeline.run(CONFIGS / f"{name}.toml", store=folder, quiet=True)
        took, spent, passed = time.perf_counter() - begun, dict[str, float](), result.verdict.passed
        over.set()
        for manifest in Path(folder).glob("*/*/manifest.json"):
            for part, value in pipeline_timing(manifest).items():
                spent[part] = spent.get(part, 0.0) + value
    longest = sorted(spent.items(), key=lambda each: -each[1])[:4]
    words = ", ".join(f"{part} {value:.0f} s" for part, value in longest)
    line(f"whole chain, {name}", "", f"{took:.0f} s, passed: {passed}; {words}")


def pipeline_timing(manifest: Path) -> dict[str, float]:
    """Return what a manifest says of where the time went."""
    import json

    return dict(json.loads(manifest.read_text()).get("timing", {}))


def name() -> None:
    """Print the head of the table: which device this is."""
    import jax  # whoever has not imported it has no device yet

    jax.devices()
    print(f"{runtime.device()}, {os.cpu_count()} cores, jax {runtime.versions()['jax']}\n")
    print("| what | how many | rate |\n|---|---|---|", flush=True)


if __name__ == "__main__":
    part, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    runtime.prepare()
    parts = {"training": training, "nuts": nuts, "agreement": agreement}
    if part == "name":
        name()
    elif part.startswith("lanes-"):
        lanes(part.removeprefix("lanes-"), seconds)
    elif part in parts:
        parts[part](seconds)
    else:
        whole(part, seconds)
