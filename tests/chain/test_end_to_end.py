"""The whole chain, from a config to a verdict: by the command line, from Python, and with a user's own code."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer import pipeline
from simfer.pipeline import config
from simfer.pipeline.chain import STAGES, ConfigError
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.model.plugins import resolve
from simfer.stages.settings.names import ARCHITECTURES
from tests import helpers


@pytest.fixture(scope="module")
def smoke() -> pipeline.Result:
    helpers.smoke_run()
    return pipeline.load(helpers.SMOKE, store=helpers.smoke_store())


def test_smoke_runs_and_passes_its_own_check() -> None:
    done = helpers.smoke_run()
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["passed"] is True
    assert [step["stage"] for step in answer["steps"]] == list(STAGES)


def test_smoke_compiles_few_programs_and_says_where_its_time_went(smoke: pipeline.Result) -> None:
    manifests = {stage: outcome.manifest for stage, outcome in smoke.outcomes.items()}
    counts = {stage: manifest["programs"] for stage, manifest in manifests.items()}
    assert 10 < sum(counts.values()) <= 36, counts  # 172 and more, as long as an operation was a program
    parts = {stage: set(manifest["timing"]) for stage, manifest in manifests.items()}
    assert all(part in parts[stage] for stage, part in (("simulate", "solve"), ("train", "train"), ("infer", "sample")))
    assert all("compile" in parts[stage] for stage in ("simulate", "train", "infer", "check"))


def test_smoke_finds_the_parameters_that_made_its_data(smoke: pipeline.Result) -> None:
    # True values of observation 1 of sbibm's Lotka-Volterra task (Lueckmann et al. 2021); gamma is fixed near its own.
    truth = {"alpha": 0.6859, "beta": 0.1076, "delta": 0.1168}
    posterior = smoke.posterior["posterior"]
    for name, value in truth.items():
        assert abs(float(posterior[name].mean()) - value) < 4 * float(posterior[name].std())
    assert 0.04 < float(posterior["prey_scale"].mean()) < 0.2  # the noise's true scale is 0.1


def test_a_cached_run_is_quick_and_imports_no_jax(smoke: pipeline.Result) -> None:
    # The command line as it is, and after it a look at what it has imported.
    code = (
        "import sys, atexit\n"
        "heavy = {'jax', 'numpyro', 'diffrax', 'xarray', 'zarr', 'arviz_stats', 'matplotlib', 'scipy'}\n"
        "atexit.register(lambda: print('IMPORTED', sorted(heavy & set(sys.modules))))\n"
        f"sys.argv = ['simfer', 'run', {str(helpers.SMOKE)!r}, '--store', {str(helpers.smoke_store())!r}, '--quiet']\n"
        "from simfer.pipeline.cli import main\n"
        "main()\n"
    )
    done = helpers.python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "IMPORTED []" in done.stdout


def test_every_artifact_opens_as_an_object(smoke: pipeline.Result) -> None:
    assert smoke.simulations.sizes["simulation"] == 512
    assert smoke.simulations["prey"].dims == ("simulation", "time")
    assert {"alpha", "beta", "delta", "status"} <= set(smoke.simulations.data_vars)
    assert smoke.dataset["prey"].attrs["transform"] == "log"
    assert smoke.posterior["posterior"]["alpha"].sizes == {"chain": 2, "draw": 500}
    assert smoke.verdict.passed
    for stage, summary in smoke.summaries.items():
        for picture in summary.get("pictures", []):
            assert (smoke.folders[stage] / picture).stat().st_size > 5000, f"{stage}: {picture}"


def test_the_emulator_agrees_with_the_simulator_and_has_gradients(smoke: pipeline.Result) -> None:
    simulations, emulator = smoke.simulations, smoke.emulator
    names = ["alpha", "beta", "delta"]
    theta = {name: jnp.asarray(simulations[name].values[:50]) for name in names}
    emulated = jax.jit(jax.vmap(emulator))(theta)
    assert emulated["prey"].shape == (50, 10)
    gap = np.log(np.asarray(emulated["prey"])) - np.log(simulations["prey"].values[:50])
    assert np.sqrt(np.mean(gap**2)) < 0.2
    point = {name: values[0] for name, values in theta.items()}
    slope = jax.grad(lambda p: jnp.log(emulator(p)["predator"][3]))(point)
    step = 1e-5
    for name in names:
        up, down = ({**point, name: point[name] + sign * step} for sign in (1, -1))
        numeric = (np.log(emulator(up)["predator"][3]) - np.log(emulator(down)["predator"][3])) / (2 * step)
        assert slope[name] == pytest.approx(numeric, rel=0.05, abs=0.05)  # the networks are float32


def test_a_wider_network_redoes_training_and_what_follows_alone(smoke: pipeline.Result) -> None:
    overrides = ["train.options.width=8", "train.steps=50"]
    again = pipeline.run(helpers.SMOKE, overrides=overrides, store=helpers.smoke_store(), until="train")
    assert {stage: outcome.cached for stage, outcome in again.outcomes.items()} == {
        "simulate": True,
        "dataset": True,
        "train": False,
    }
    changed = _fingerprints(["train.options.width=8"])
    plain = _fingerprints([])
    assert [stage for stage in STAGES if changed[stage] != plain[stage]] == ["train", "infer", "check"]


_QUICK = ["train.steps=100", "train.ensemble_size=2", "infer.num_warmup=50", "infer.num_samples=50"]


@pytest.mark.parametrize(
    "architecture",
    [
        name if name in ("cosmopower", "polynomial") else pytest.param(name, marks=pytest.mark.slow)
        for name in ARCHITECTURES
    ],
)
def test_an_architecture_is_swapped_in_one_word(architecture: str, smoke: pipeline.Result) -> None:
    table = tomllib.loads(helpers.SMOKE.read_text().replace("../data", f"{helpers.ROOT}/data"))
    for setting in ("width", "depth"):  # which an architecture without layers does not take
        del table["train"][setting]
    in_layers = not issubclass(resolve(architecture, ARCHITECTURES), ClosedForm)
    layers = ["train.width=16", "train.depth=1"] if in_layers else []
    overrides = [f"train.architecture={architecture}", *layers, *_QUICK]
    swapped = pipeline.run(table, overrides=overrides, store=helpers.smoke_store(), until="train")
    cached = {stage: outcome.cached for stage, outcome in swapped.outcomes.items()}
    assert cached == {"simulate": True, "dataset": True, "train": False}
    assert swapped.emulator.header.architecture == architecture
    assert np.isfinite(swapped.emulator({"alpha": 0.67, "beta": 0.11, "delta": 0.12})["prey"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flu", "lynx_hare", "robertson", "solow"])
def test_shipped_problems_run_with_every_architecture(name: str) -> None:
    path, store = helpers.ROOT / "configs" / f"{name}.toml", helpers.scratch() / f"swapped-{name}"
    short = [*_QUICK, "infer.num_chains=2", "refine.max_rounds=0"]
    pipeline.run(path, overrides=short, store=store, until="dataset")
    for architecture in ARCHITECTURES:
        swapped = pipeline.run(path, overrides=[f"train.architecture={architecture}", *short], store=store)
        assert swapped.outcomes["simulate"].cached and swapped.outcomes["dataset"].cached, architecture
        assert not swapped.outcomes["check"].cached and len(swapped.verdict.figures) > 1, architecture
        draws = swapped.posterior["posterior"].to_dataset()
        assert all(np.isfinite(draws[name]).all() for name in draws), architecture


def test_how_the_work_is_cut_up_redoes_nothing() -> None:
    assert _fingerprints(["simulate.batch_size=32"]) == _fingerprints([])


def _fingerprints(overrides: list[str], path: Path = helpers.SMOKE) -> dict[str, str]:
    return {step.stage: step.fingerprint for step in helpers.plan(config.load(path, overrides))}


SIMULATOR = '''
import jax.numpy as jnp
import shape
from simfer.stages.simulate.simulators.base import ODESimulator

class Decay(ODESimulator):
    """Decay to a level."""

    parameters = {"rate": "1/s", "level": "V"}
    units = {"signal": "V", "time": "s"}

    def initial_state(self, p):
        return jnp.asarray(shape.START)

    def vector_field(self, t, y, p):
        return -p["rate"] * (y - p["level"])

    def observe(self, t, y, p):
        return {"signal": y}
'''
NETWORK = '''
import equinox as eqx
import jax
import jax.numpy as jnp
from simfer.stages.emulator.architectures.base import Architecture

class Quadratic(Architecture):
    """A linear map of features up to a degree, of one hidden layer."""

    first: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, in_size, out_size, *, key, width=24):
        a, b = jax.random.split(key)
        self.first = eqx.nn.Linear(in_size, width, key=a)
        self.last = eqx.nn.Linear(width, out_size, key=b)

    def __call__(self, z):
        return self.last(jnp.tanh(self.first(z)))
'''
NOISE = '''
import numpyro.distributions as dist

def heavy(y, width):
    """Scatter with outliers."""
    return dist.StudentT(4.0, y, width)
'''
OWN = """
[parameters]
rate = { dist = "LogNormal", loc = 0.0, scale = 0.3, unit = "1/s" }
level = { dist = "Uniform", low = 0.0, high = 1.0, unit = "V" }
[simulate]
simulator = "my_simulator.py:Decay"
num_simulations = 128
[simulate.options]
times = [0.0, 0.5, 1.0, 2.0, 4.0]
[train]
architecture = "my_network.py:Quadratic"
options = { width = 16 }
ensemble_size = 2
steps = 500
[observation]
file = "data.csv"
[noise.signal]
dist = "my_noise.py:heavy"
width = { dist = "HalfNormal", scale = 0.2 }
[infer]
num_warmup = 300
num_samples = 400
num_chains = 2
[check]
num_draws = 40
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_simulator.py").write_text(SIMULATOR)
    (folder / "shape.py").write_text("START = 3.0\n")
    (folder / "my_network.py").write_text(NETWORK)
    (folder / "my_noise.py").write_text(NOISE)
    (folder / "unrelated.py").write_text("value = 1\n")
    times = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    signal = 0.5 + 2.5 * np.exp(-1.3 * times) + np.array([0.03, -0.05, 0.02, 0.04, -0.03])
    rows = "".join(f"{t},{y:.4f}\n" for t, y in zip(times, signal, strict=True))
    (folder / "data.csv").write_text("time,signal\n" + rows)
    (folder / "problem.toml").write_text(OWN)
    return folder


def test_a_users_own_simulator_network_and_noise_go_through_the_chain(own: Path) -> None:
    result = pipeline.run(own / "problem.toml")
    posterior = result.posterior["posterior"]
    assert abs(float(posterior["rate"].mean()) - 1.3) < 3 * float(posterior["rate"].std())
    assert abs(float(posterior["level"].mean()) - 0.5) < 3 * float(posterior["level"].std())
    assert posterior["rate"].attrs["units"] == "1/s"
    assert "signal_width" in posterior
    out = result.emulator({"rate": 1.0, "level": 0.2})
    assert out["signal"] == pytest.approx(0.2 + 2.8 * np.exp(-np.array([0.0, 0.5, 1.0, 2.0, 4.0])), abs=0.1)
    # The output at time 0 is the same in every row: it is emulated exactly.
    assert float(out["signal"][0]) == 3.0


def test_an_edit_of_a_helper_redoes_everything_and_of_an_unrelated_file_nothing(own: Path) -> None:
    path = own / "problem.toml"
    before = _fingerprints([], path)
    first = pipeline.run(path, until="simulate")
    start = float(first.simulations["signal"][0, 0])
    (own / "unrelated.py").write_text("value = 2\n")
    assert _fingerprints([], path) == before
    (own / "shape.py").write_text("START = 4.0\n")
    try:
        after = _fingerprints([], path)
        assert all(before[stage] != after[stage] for stage in STAGES)
        again = pipeline.run(path, until="simulate")
        assert (start, float(again.simulations["signal"][0, 0])) == (3.0, 4.0)
    finally:
        (own / "shape.py").write_text("START = 3.0\n")
    assert _fingerprints([], path) == before


@pytest.mark.slow
def test_a_new_project_runs_as_it_is(tmp_path: Path) -> None:
    assert helpers.simfer("new", tmp_path / "mine").returncode == 0
    result = pipeline.run(tmp_path / "mine" / "problem.toml")
    assert result.verdict.passed, result.summaries["check"]["facts"]["verdict"]
    made_with = {"omega": 2.0, "friction": 0.25, "x_0": 5.0, "position_scale": 0.3}  # says its README
    rows = result.summaries["infer"]["tables"]["posterior"]
    assert {row["parameter"] for row in rows} == set(made_with)
    for row in rows:
        assert abs(row["mean"] - made_with[row["parameter"]]) < 4 * row["sd"]


def test_all_that_only_the_simulator_can_tell_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("time,prey,wolves\n0,30,1\n1,-2.5,2\n2.5,7,1\n")
    table = {
        "parameters": {"alpha": {"dist": "LogNormal"}, "beta": 0.1, "gamma": 1.0, "delta": 0.1}
        | {"prey_0": 30.0, "predator_0": 1.0},
        "simulate": {"simulator": "lotka_volterra", "num_simulations": 100, "options": {"times": [0.0, 1.0, 2.0]}},
        "observation": {"file": str(tmp_path / "data.csv")},
        "noise": {"prey": {"dist": "LogNormal", "scale": 0.1}},
    }  # fmt: skip
    where = _problems(table)
    text = "\n".join(f"{place}: {what}" for place, what in where)
    assert 'column "wolves"' in text
    assert "time = 2.5" in text and "nearest: 2" in text


def test_several_mistakes_in_options_and_names_are_said_together() -> None:
    table = helpers.line(
        simulate={"options": {"step": 3}},
        train={"options": {"widht": 8}, "optimizer": "adamm"},
        noise={"z": {"dist": "Normal", "scale": 1.0}},
    )
    where = dict(_problems(table))
    assert "simulate.options.step" in where and "train.options.widht" in where and "train.optimizer" in where
    assert 'Did you mean "width"?' in where["train.options.widht"]
    assert 'Did you mean "adam' in where["train.optimizer"]


def test_data_that_the_noise_cannot_produce_are_refused(tmp_path: Path) -> None:
    data = helpers.write_line(tmp_path / "line.csv", np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 99.0]))
    counts = helpers.line(observation={"file": str(data)}, noise={"y": {"dist": "Binomial", "total_count": 50}})
    assert "got 99, above noise.y.total_count = 50" in dict(_problems(counts))["observation.file: column y"]
    median = helpers.line(observation={"file": str(data)}, noise={"y": {"dist": "LogNormal", "scale": 0.1}})
    assert "dataset.transform.y" in dict(_problems(median))
    missing = helpers.line(noise={"y": None, "intercept": {"dist": "Poisson"}})
    found = dict(_problems(missing))
    assert "missing" in found["noise.y"] and "noise.intercept" in found


def test_parameters_are_held_against_what_the_simulator_takes() -> None:
    table = helpers.line(parameters={"slope": None, "slop": {"dist": "Normal"}})
    where = dict(_problems(table))
    assert 'Did you mean "slope"?' in where["parameters.slop"]
    assert "missing" in where["parameters.slope"]


def _problems(table: dict[str, object]) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as refused:
        pipeline.run(table, store=helpers.scratch() / "refused")
    return [(each.where, each.what) for each in refused.value.mistakes]
