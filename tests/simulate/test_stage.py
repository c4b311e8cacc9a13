"""Rows come out the same whatever happens to the run, and say what became of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from simfer import pipeline
from simfer.pipeline import chain
from simfer.pipeline.chain import SimferError, StageError, UserCodeError
from simfer.stages.artifacts.simulations import SIMULATIONS, Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.progress import Silent
from simfer.stages.simulate.rows import _shard
from tests import helpers


def simulate(folder: Path, **simulate: Any) -> Simulations:
    """Simulate straight lines into a folder."""
    checked = helpers.problem(helpers.line(simulate=simulate))
    helpers.run_stage(checked, "simulate-0", {}, folder)
    return Simulations.load(folder)


def numbers(store: Path) -> dict[str, bytes]:
    """Return every chunk of a store."""
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("c/**/*")) if file.is_file()}


def test_a_store_opens_with_names_units_and_dimensions(tmp_path: Path) -> None:
    parameters = {"slope": {"dist": "Normal", "scale": 0.5, "unit": "m/s"}}
    checked = helpers.problem(helpers.line(parameters=parameters, simulate={"num_simulations": 100}))
    helpers.run_stage(checked, "simulate-0", {}, tmp_path)
    with xr.open_zarr(tmp_path / SIMULATIONS, chunks=None, consolidated=False) as rows:
        assert rows["y"].dims == ("simulation", "x") and rows["y"].shape == (100, 9)
        assert np.allclose(rows["x"], helpers.X)
        assert rows["slope"].attrs["units"] == "m/s"
        assert (rows["status"].values == Status.OK).all()
        expected = rows["intercept"].values[:, None] + rows["slope"].values[:, None] * helpers.X
        assert np.allclose(rows["y"].values, expected)


def test_the_rows_are_those_of_the_prior(tmp_path: Path) -> None:
    rows = simulate(tmp_path, num_simulations=1024).to_xarray()
    for name, (mean, sd) in helpers.PRIOR.items():
        assert float(rows[name].mean()) == pytest.approx(mean, abs=0.02 * sd)
        assert float(rows[name].std()) == pytest.approx(sd, rel=0.02)


@pytest.mark.parametrize("design", ["sobol", "prior"])
def test_more_rows_keep_the_first_ones_whatever_the_batch(tmp_path: Path, design: str) -> None:
    few = simulate(tmp_path / "few", num_simulations=100, design=design).to_xarray()
    many = simulate(tmp_path / "many", num_simulations=333, design=design, batch_size=7).to_xarray()
    for name in ("y", "slope", "z"):
        assert np.array_equal(few[name].values, many[name].values[:100]), name


def test_the_end_of_a_simulate_says_its_rate_and_memory(tmp_path: Path) -> None:
    class Listening(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    step = helpers.link(helpers.problem(helpers.line()), "simulate-0")
    facts = chain.run(step, {}, tmp_path, Listening())["facts"]
    (line,) = said
    assert line.startswith("  simulate: 200 of 200 rows solved now, ")
    assert " rows/s, memory at most " in line and line.endswith(("MB", "GB"))
    assert "occupied" not in line and facts["occupancy"] is None  # a function has no steps to count
    assert facts["rows_per_second"] > 0 and 50 < facts["memory_peak_mb"] < 1e5
    again = chain.run(step, {}, tmp_path, Listening())["facts"]  # all is there already
    assert again["rows_per_second"] is None and said[-1].startswith("  simulate: 0 of 200 rows solved now, memory")


@pytest.mark.parametrize(
    ("num", "row_bytes", "least", "shards"),
    [(50, 8, 64, 1), (65, 8, 64, 1), (512, 8, 64, 8), (2000, 8, 64, 16), (1_000_000, 336, 64, 40), (500, 8, 250, 2)],
)
def test_shards_are_many_alike_and_no_smaller_than_is_worth_a_call(
    num: int, row_bytes: int, least: int, shards: int
) -> None:
    size = _shard(num, row_bytes, least)
    assert -(-num // size) == shards and num - size * (shards - 1) > size - shards  # the last has about as many
    assert size >= min(least, num)


def test_only_missing_shards_are_solved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simfer.stages.simulate.rows._SHARD_BYTES", 2**12)
    whole = simulate(tmp_path, num_simulations=500)
    before = numbers(whole.store)
    shard = int(whole.group["status"].chunks[0])
    assert 500 / shard > 3
    for name, index in (("y", "1/0"), ("slope", "2"), ("status", "3")):
        (whole.store / name / "c" / index).unlink()
    solved: list[int] = []
    from simfer.stages.simulate import rows as rows_module

    write = rows_module._Store.write

    def spy(self: Any, at: np.ndarray, *arguments: Any) -> None:
        solved.append(int(at[0]) // shard)
        write(self, at, *arguments)

    monkeypatch.setattr(rows_module._Store, "write", spy)
    simulate(tmp_path, num_simulations=500)
    assert sorted(solved) == [1, 2, 3]
    assert numbers(whole.store) == before


def test_a_missing_or_damaged_chunk_is_found_and_not_read_as_numbers(tmp_path: Path) -> None:
    table, store = helpers.line(simulate={"num_simulations": 100}), tmp_path / "store"
    folder = pipeline.run(table, store=store, until="simulate").folders["simulate"]
    chunk = folder / SIMULATIONS / "y" / "c" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(ValueError, match=r"[Cc]hecksum|crc32c"):
        Simulations.load(folder).rows(0, 100)
    chunk.unlink()
    again = pipeline.run(table, store=store, until="dataset")
    assert chunk.read_bytes() == whole
    assert again.outcomes["dataset"].manifest["summary"]["facts"]["rows"] == 100
    chunk.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    (folder / "manifest.json").unlink()  # nothing says any more that it is damaged, but the chunk itself
    pipeline.run(table, store=store, until="simulate")
    assert chunk.read_bytes() == whole


SLOW = '''
import time
import jax
import jax.numpy as jnp
import numpy as np
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.model.outputs import Output

class Slow(FunctionSimulator):
    """A square, slowly."""

    parameters = {"a": ""}

    def outputs(self):
        return {"square": Output(("i",), {"i": np.arange(2)})}

    def __call__(self, p):
        def wait(a):
            time.sleep(PAUSE)
            return np.asarray(a)
        a = jax.pure_callback(wait, jax.ShapeDtypeStruct((), float), p["a"], vmap_method="broadcast_all")
        return {"square": a**2 * jnp.ones(2)}
'''
SLOW_CONFIG = """
[parameters]
a = { dist = "Normal" }
[simulate]
simulator = "slow.py:Slow"
num_simulations = 512
[observation]
file = "data.csv"
[noise.square]
dist = "Normal"
scale = 1.0
"""


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW.replace("PAUSE", "0.4"))
    (tmp_path / "data.csv").write_text("i,square\n0,1.0\n")
    (tmp_path / "problem.toml").write_text(SLOW_CONFIG)
    command = [sys.executable, "-m", "simfer.pipeline.cli", "simulate", str(tmp_path / "problem.toml")]
    killed = tmp_path / "data" / "artifacts" / "simulate"
    process = subprocess.Popen(command, cwd=helpers.ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not list(killed.glob(f"**/{SIMULATIONS}/status/c/2")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    # Rows so slow are few and small, and lie in several shards all the same: all but the last two were safe.
    stamps = written(killed)
    assert 3 <= len(stamps) <= 6
    resumed = pipeline.run(tmp_path / "problem.toml", until="simulate").folders["simulate"]
    whole = pipeline.run(tmp_path / "problem.toml", until="simulate", store=tmp_path / "other").folders["simulate"]
    assert numbers(resumed / SIMULATIONS) == numbers(whole / SIMULATIONS)
    assert len(written(resumed)) == 8
    assert stamps.items() <= written(resumed).items()  # no shard that was complete was solved again


def written(folder: Path) -> dict[str, list[int]]:
    """Return when each complete shard was written, the squares and the statuses."""
    found = {file.name: file for file in folder.glob(f"**/{SIMULATIONS}/status/c/*")}
    squares = {name: file.parents[2] / "square" / "c" / name / "0" for name, file in found.items()}
    return {name: [each.stat().st_mtime_ns for each in (file, squares[name])] for name, file in found.items()}


def test_too_many_failures_name_the_part_of_parameter_space(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("time,prey\n0,30\n1,20\n")
    table = {
        "parameters": {
            "alpha": {"dist": "Uniform", "low": 0.1, "high": 40.0},
            "beta": 0.1, "gamma": 1.0, "delta": 0.1, "prey_0": 30.0, "predator_0": 1.0,
        },
        "simulate": {"simulator": "lotka_volterra", "num_simulations": 128, "options": {"times": [0.0, 1.0]},
                     "solver": {"max_steps": 30}, "max_failed": 0.2},
        "dataset": {"transform": {"prey": "log"}},
        "observation": {"file": str(tmp_path / "data.csv")},
        "noise": {"prey": {"dist": "LogNormal", "scale": 0.1}},
    }  # fmt: skip
    with pytest.raises(StageError) as stopped:
        pipeline.run(table, store=tmp_path / "store", until="simulate")
    text = str(stopped.value)
    assert "max_steps" in text and "simulate.max_failed" in text
    assert "The failures lie mostly where alpha >" in text
    table["simulate"]["max_failed"] = 1.0  # type: ignore[index]
    result = pipeline.run(table, store=tmp_path / "store", until="simulate")
    rows = result.simulations
    bad = rows["status"].values == Status.MAX_STEPS
    assert bad.any() and not bad.all() and result.summaries["simulate"]["facts"]["failed"] == bad.sum()
    assert rows["alpha"].values[bad].min() > np.median(rows["alpha"].values[~bad])


RAISES = '''
from simfer.stages.simulate.simulators.base import FunctionSimulator
from simfer.stages.model.outputs import Output

class Broken(FunctionSimulator):
    """Divides a name by a number."""

    parameters = {"a": ""}

    def outputs(self):
        return {"y": Output()}

    def __call__(self, p):
        return {"y": "seven" / p["a"]}
'''


def test_a_users_exception_comes_out_as_theirs(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(RAISES.replace("Broken", "Slow"))
    (tmp_path / "data.csv").write_text("y\n1.0\n")
    (tmp_path / "problem.toml").write_text(SLOW_CONFIG.replace("noise.square", "noise.y"))
    with pytest.raises(UserCodeError) as raised:
        pipeline.run(tmp_path / "problem.toml")
    text = str(raised.value)
    assert "your code raised TypeError" in text
    assert 'return {"y": "seven" / p["a"]}' in text and "slow.py" in text
    assert "site-packages" not in text


def test_a_run_until_an_unknown_stage_is_refused() -> None:
    with pytest.raises(SimferError, match="expected one of simulate, dataset"):
        pipeline.run(helpers.line(), until="trian", store=helpers.scratch() / "line")


def test_every_array_has_a_checksum_and_all_its_chunks(tmp_path: Path) -> None:
    rows = simulate(tmp_path, num_simulations=100)
    for name, array in rows.group.arrays():
        if name != "x":
            assert isinstance(array, zarr.Array) and array.nchunks_initialized == array.nchunks, name
            assert any("Crc32c" in type(codec).__name__ for codec in array.compressors), name
