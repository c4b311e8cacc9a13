"""What a device does in a second, a part of it at a time; `bash benchmarks/device.sh` prints the table of all parts.

    python benchmarks/device.py PART [SECONDS]

Lanes: rows of Lotka-Volterra (those of `ensembles.py`), from 1,024 to 1,048,576 of them, in either precision. Training:
steps of a perceptron, one and eight side by side, in float32. NUTS: draws through an emulator, its chains as one array,
warm-up counted. Whole chains: from an empty store to the verdict, compilation counted, and the longest parts of that.
Everything else was compiled before it is timed; of what would take longer than is left of SECONDS it is said so.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
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
    """Time ever larger sizes, each of which `run` says the seconds of; leave out what is too much for the time left."""
    last = None
    for size in sizes:
        left = seconds - _START - (time.perf_counter() - BEGUN)
        expected = 0.0 if last is None else 2.5 * last[1] * size / last[0]  # it is compiled by a first go, and timed
        if expected > left:
            line(what, f"{size:,}", f"left out: it would take {expected:.0f} s, and {max(left, 0):.0f} are left")
            continue
        last = size, run(size)
        line(what, f"{size:,}", f"{size / last[1]:,.0f} {unit}/s")


def lanes(precision: str, seconds: float) -> None:
    """Solve rows of an equation."""
    import jax
    import numpy as np
    from pydantic import TypeAdapter

    jax.config.update("jax_enable_x64", precision == "float64")
    from benchmarks.ensembles import EXPLICIT, PREY, LotkaVolterra
    from simfer.stages.model.space import Space
    from simfer.stages.settings import AnyPrior, Simulate
    from simfer.stages.simulate.ensemble import Ensemble

    jax.config.update("jax_enable_x64", precision == "float64")  # the benchmark above has set it for itself
    read: Any = TypeAdapter(AnyPrior).validate_python
    space = Space({name: read(prior) for name, prior in PREY.items()})
    options = EXPLICIT if precision == "float64" else EXPLICIT | {"rtol": 1e-4, "atol": 1e-4}  # as its digits allow
    settings = Simulate.model_validate({"simulator": "lotka_volterra", "num_simulations": 1024, "solver": options})
    ensemble = Ensemble(LotkaVolterra(times=list(np.linspace(0.0, 18.9, 10))), settings, space)

    def run(size: int) -> float:
        z, rows = np.random.default_rng(0).standard_normal((size, 4)).astype(precision), np.arange(size)
        ensemble(z[:8192], rows[:8192], like=size)
        begun = time.perf_counter()
        solved = ensemble(z, rows)
        assert solved.outputs["y"].dtype == precision
        return time.perf_counter() - begun

    series(f"lanes, {precision}", "rows", (4**k for k in range(5, 11)), run, seconds)


def training(seconds: float) -> None:
    """Train networks side by side."""
    import numpy as np

    from benchmarks.training import Watch, rows
    from simfer.stages.settings import Train
    from simfer.stages.train.fitting import fit

    for depth, width, batch in ((3, 48, 64), (4, 128, 256)):
        for members in (1, 8):
            what = f"training, {depth} x {width}, batch {batch}"
            if time.perf_counter() - BEGUN > seconds - 2 * _START:
                line(what, f"{members} networks", "left out: no time is left")
                continue
            options = {"architecture": "mlp", "depth": depth, "width": width, "batch_size": batch}
            watch = Watch()
            held, fold = rows(), 1 + np.arange(len(rows().x)) % 5
            fit(Train(**options, ensemble_size=members, steps=400), held, fold, {}, watch)
            line(what, f"{members} networks", f"{members * watch.rate():,.0f} steps/s")


def nuts(seconds: float) -> None:
    """Draw through the emulator of a small problem."""
    from simfer.pipeline import chain, config
    from simfer.stages.infer.predictor import load_predictor
    from simfer.stages.infer.samplers import nuts as sampler
    from simfer.stages.infer.target import build_target
    from simfer.stages.progress import Silent

    overrides = ["train.steps=500", "infer.num_warmup=50", "infer.num_samples=50", "infer.chain_method=vectorized"]
    with tempfile.TemporaryDirectory() as folder:
        trained = pipeline.run(CONFIGS / "smoke.toml", overrides=overrides, store=folder, until="train", quiet=True)
        links = chain.links(config.load(CONFIGS / "smoke.toml", overrides), chain.Turn(0, 50))
        settings: Any = next(link.config for link in links if link.stage == "infer")
        target = build_target(settings, load_predictor(settings, trained.outcomes["train"].folder))

    def run(chains: int) -> float:
        own = settings.infer.model_copy(update={"num_chains": chains})
        for _ in range(2):
            begun = time.perf_counter()
            sampler.sample(target, own, Silent())
        return (time.perf_counter() - begun) / 100  # of a draw of each chain

    series("NUTS, chains as one array", "draws", (4, 16, 64, 256, 1024), run, seconds)


def whole(name: str, _: float) -> None:
    """Go from an empty store to the verdict."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        result = pipeline.run(CONFIGS / f"{name}.toml", store=folder, quiet=True)
        took, spent = time.perf_counter() - begun, dict[str, float]()
        for manifest in Path(folder).glob("*/*/manifest.json"):
            for part, value in pipeline_timing(manifest).items():
                spent[part] = spent.get(part, 0.0) + value
    longest = sorted(spent.items(), key=lambda each: -each[1])[:4]
    words = ", ".join(f"{part} {value:.0f} s" for part, value in longest)
    line(f"whole chain, {name}", "", f"{took:.0f} s, passed: {result.passed}; {words}")


def pipeline_timing(manifest: Path) -> dict[str, float]:
    """Return what a manifest says of where the time went."""
    import json

    return dict(json.loads(manifest.read_text()).get("timing", {}))


def name() -> None:
    """Print the head of the table: which device this is."""
    print(f"{runtime.device()}, {os.cpu_count()} cores, jax {runtime.versions()['jax']}\n")
    print("| what | how many | rate |\n|---|---|---|", flush=True)


if __name__ == "__main__":
    part, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    runtime.prepare()
    parts = {"training": training, "nuts": nuts}
    if part == "name":
        name()
    elif part.startswith("lanes-"):
        lanes(part.removeprefix("lanes-"), seconds)
    elif part in parts:
        parts[part](seconds)
    else:
        whole(part, seconds)
