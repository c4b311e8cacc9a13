"""What the page's explorer computes is what the emulator computes, in a real browser, for every architecture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import simfer
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.networks import build_networks
from simfer.stages.emulator.scatter import lower
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.report import program as programs
from simfer.stages.report.program import Program, Unknown
from simfer.stages.settings.names import ARCHITECTURES
from tests import helpers
from tests.report.browser import needs_browser, opened

SCRIPT = Path(programs.__file__).with_name("program.js").read_text("utf-8")
LAYOUT = Layout({"y": Output(("time",), {"time": np.linspace(0.0, 3.0, 7)}), "k": Output()})
ACTIVATIONS = [("mlp", {"activation": name}) for name in ("silu", "gelu", "softplus", "tanh", "learned")]
NORMS = [("residual", {"normalize": name}) for name in ("layer", "rms")]
CASES = [*((name, {}) for name in ARCHITECTURES), *ACTIVATIONS, *NORMS]
NUM_POINTS = 1000

Function = Callable[[jax.Array], dict[str, jax.Array]]


def network(name: str, options: dict[str, Any]) -> Function:
    """Return an ensemble of an architecture; of one in closed form, fitted to a few rows, with its error."""
    context = {"layout": LAYOUT, "families": ("normal", "uniform"), "varies": np.ones(8, bool)}
    built = build_networks(name, options, (2, 8), jax.random.split(jax.random.key(0), 2), "float32", context)
    if isinstance(built, ClosedForm):
        x = np.random.default_rng(0).normal(size=(40, 2)).clip(-1.7, 1.7)
        fitted = built.fit(x, np.stack([np.sin(x[:, 0] * k / 4) + x[:, 1] ** 2 for k in range(1, 9)], axis=1))
        return lambda z: {"y": fitted.sigma_points(z), "factor": fitted.error_factor(z)}
    return lambda z: {"y": eqx.filter_vmap(lambda each: each(z.astype(jnp.float32)))(built)}


def scatter(z: jax.Array) -> dict[str, jax.Array]:
    """Do what a random simulator's emulator does beyond the others: triangles, and solving with them."""
    triangle = lower(jnp.sin(jnp.arange(6.0) + z[0]), 3)
    solved = jax.scipy.linalg.solve_triangular(triangle, jnp.eye(3) + z[1], lower=True, trans=1)
    special = {"erf": jax.scipy.special.ndtr(3 * z), "ndtri": jax.scipy.special.ndtri(jax.nn.sigmoid(z))}
    inverse = {
        "erf_inv": jax.scipy.special.erfinv(jnp.tanh(z)),
        "flipped": jnp.flip(z) ** 3,
        "many": jnp.cos(jnp.arange(4800.0).reshape(2400, 2)) @ z,
    }
    return special | inverse | {"solved": solved, "inside": (jnp.abs(z) < 1).all()}


@needs_browser()
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_browser_computes_what_python_does(every: bool, tmp_path: Path) -> None:
    emulator = helpers.line_run(until="train").emulator
    functions: dict[str, Function] = {"a whole emulator": emulator.everything_at, "a random one": scatter}
    for name, options in CASES if every else CASES[-1:]:
        functions[f"{name} {options}"] = network(name, options)
    z = np.random.default_rng(1).normal(size=(NUM_POINTS, 2)).clip(-3.0, 3.0)
    made = {name: Program.of(function, 2) for name, function in functions.items()}
    page = tmp_path / "page.html"
    run = (
        "const out = {}; for (const [name, program] of Object.entries(programs)) { const run = simferProgram(program);"
        "out[name] = points.map(run).map((o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, [...v]]))); }"
        "document.getElementById('out').textContent = JSON.stringify(out);"
    )
    data = f"const programs = {json.dumps(made)}, points = {json.dumps(z.tolist())};"
    page.write_text(f"<pre id='out'></pre><script>{SCRIPT}\n{data}\n{run}</script>", encoding="utf-8")
    document, console = opened(page)
    assert console == ""
    found = json.loads(re.search(r"<pre id=\"out\">(.*?)</pre>", document, re.DOTALL)[1])  # type: ignore[index]
    for name, function in functions.items():
        expected = jax.jit(lambda z, f=function: jax.lax.map(f, z))(jnp.asarray(z))
        for output, values in expected.items():
            wanted = np.asarray(values, float).reshape(NUM_POINTS, -1)
            got = np.asarray([each[output] for each in found[name]], float)
            error = np.abs(got - wanted).max() / max(float(np.ptp(wanted)), 1e-12)
            assert error < 1e-5, (name, output, error)


def test_what_a_page_cannot_do_is_named() -> None:
    with pytest.raises(Unknown, match="sort"):
        Program.of(lambda z: {"y": jnp.sort(jnp.sin(z))}, 3)


def test_a_large_matrix_takes_half_the_room() -> None:
    matrix = np.random.default_rng(0).normal(size=(70, 70))
    program = Program.of(lambda z: {"y": matrix @ z}, 70)
    (packed,) = program["constants"].values()
    assert packed["as"] == "f4" and packed["kind"] == "f8" and len(packed["data"]) < 70 * 70 * 5.5


def test_what_nothing_needs_is_left_out() -> None:
    table = jnp.arange(12.0).reshape(3, 4)
    program = Program.of(lambda z: {"y": z @ (2.0 * table), "unused": (table @ jnp.ones(4))[0]}, 3)
    assert [step[0] for step in program["steps"]] == ["dot"]
    assert [each["shape"] for each in program["constants"].values()] == [[3, 4], []]


def test_an_emulator_of_one_s_own_is_a_program_too(tmp_path: Path) -> None:
    class OneLayer(simfer.Architecture):
        first: eqx.nn.Linear

        def __init__(self, in_size: int, out_size: int, *, key: Any) -> None:
            self.first = eqx.nn.Linear(in_size, out_size, key=key)

        def __call__(self, z: Any) -> Any:
            return jax.nn.silu(self.first(z))

    layer = OneLayer(2, 3, key=jax.random.key(0))
    assert len(Program.of(lambda z: {"y": layer(z)}, 2)["steps"]) < 8
