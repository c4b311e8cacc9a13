"""What it costs to have rows from outside: no-op rows of a Python function and of a program, beside the bare spawns.

python -m benchmarks.backends [ROWS]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from simfer.pipeline import runtime

FUNCTION = "def simulate(a):\n    return {'y': a}\n"
_PARAMETERS = {"a": {"dist": "Normal"}}


def rate(folder: Path, num: int, **settings: Any) -> float:
    """Return rows in a second on one worker, the first of them left out: it starts the child."""
    from pydantic import TypeAdapter

    from simfer.stages.model.space import Space
    from simfer.stages.settings import AnyPrior, Simulate
    from simfer.stages.simulate.backends import build_backend
    from simfer.stages.simulate.backends.contract import Block

    prior: Any = TypeAdapter(AnyPrior).validate_python(_PARAMETERS["a"])
    checked = Simulate.model_validate({"num_simulations": num, "workers": 1} | settings, context={"folder": folder})
    backend = build_backend(checked, Space({"a": prior}))
    z = np.random.default_rng(0).normal(size=(num, 1))
    try:
        backend.solve(Block(z[:50], np.arange(50), "warm", 0, None), lambda rows, failed: None)
        begun = time.perf_counter()
        backend.solve(Block(z, np.arange(num), "timed", 0, folder), lambda rows, failed: None)
        return num / (time.perf_counter() - begun)
    finally:
        backend.close()


def spawns(program: str, num: int) -> float:
    """Return how many times a second a program can be started and waited for, and nothing else."""
    begun = time.perf_counter()
    for _ in range(num):
        subprocess.run([program], check=True)
    return num / (time.perf_counter() - begun)


def main(num: int) -> None:
    """Print the rates, and what a row of a program costs in spawns."""
    runtime.prepare()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.py").write_text(FUNCTION)
        plain = rate(folder, min(20 * num, 200_000), simulator="model.py:simulate")
        print(f"Python no-op: {plain:,.0f} rows/s on one worker")
        program = {"command": ["/bin/echo", "{{ a }}"], "outputs": {"y": {"file": "stdout", "pattern": "(.+)"}}}
        rows, bare = rate(folder, num, program=program), spawns("/bin/true", num)
        print(f"program no-op: {rows:,.0f} rows/s, bare spawns {bare:,.0f}/s: {bare / rows:.2f} times as long")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
