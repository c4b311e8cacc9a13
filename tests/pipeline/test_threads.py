"""Compiled programs run side by side in threads: on a machine with many threads of BLAS, too, they come to an end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from simfer.pipeline import chain
from simfer.stages.progress import Silent
from tests import fakes

SIDE_BY_SIDE = """
import sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
if sys.argv[1] == "late":
    jnp.zeros(3)
from simfer.pipeline import runtime
runtime.prepare()
from simfer.stages.batches import compiled
from simfer.stages.threads import map_in_threads

def total(shift):
    return jnp.linalg.cholesky(jnp.asarray(MATRIX) + jnp.eye(13) * shift**2).sum()

def stretch(x):
    step = lambda x, _: (x - 1e-6 * jax.vmap(jax.grad(total))(x), None)
    return jax.lax.scan(step, x, None, length=10)[0]

half = np.random.default_rng(0).normal(size=(13, 13))
MATRIX, shifts = half @ half.T + np.eye(13), np.linspace(0.0, 1.0, 1000)
advance = compiled(stretch, shifts)
for _ in range(5):
    print([round(float(part.mean()), 2) for part in map_in_threads(advance, [shifts] * 4, 4)])
"""


@pytest.mark.parametrize("prepared", ["early", "late"])
def test_many_small_matrices_in_several_threads_come_to_an_end(prepared: str) -> None:
    """They did not, where XLA had no more threads than programs: as it has where JAX was at work before Simfer."""
    command = [sys.executable, "-c", SIDE_BY_SIDE, prepared]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=fakes.process()["env"], timeout=100)
    assert done.stdout.splitlines() == ["[0.5, 0.5, 0.5, 0.5]"] * 5


def test_a_stage_has_one_thread_of_blas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def threads(*_: Any) -> dict[str, Any]:
        return {"most": max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")}

    monkeypatch.setattr(chain, "_module", lambda stage: SimpleNamespace(run=threads))
    link = chain.Link("infer", 0, SimpleNamespace(), {})
    with threadpool_limits(2, user_api="blas"):
        assert chain.run(link, {}, tmp_path, Silent()) == {"most": 1}
        assert threads() == {"most": 2}
