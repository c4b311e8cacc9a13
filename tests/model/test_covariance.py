"""One covariance over several outputs: rows by their coordinates, and the same density as SciPy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import stats

from simfer.stages.errors import ConfigError
from simfer.stages.model.likelihood import Likelihood, read_likelihood
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.prediction import Prediction
from simfer.stages.settings import AnyNoise, Observation
from simfer.stages.settings.slices import CompareConfig

LAYOUT = Layout({"y": Output(("t",), {"t": np.arange(3.0)}), "w": Output(("t",), {"t": np.arange(3.0)})})
CSV = "t,y,w\n0,1.1,\n1,2.2,4.1\n2,2.7,5.2\n"
DATA = np.array([1.1, 2.2, 2.7, 4.1, 5.2])  # y at 0, 1, 2 and w at 1, 2
MEAN = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
_ROOT = np.random.default_rng(3).normal(size=(5, 5))
COVARIANCE = 0.1 * _ROOT @ _ROOT.T + 0.05 * np.eye(5)
LABELS = ["y,0", "y,1", "y,2", "w,1", "w,2"]


def covariance_file(folder: Path, order: list[int], more: bool = False, separator: str = ",") -> Path:
    """Write the covariance in another order of its rows, and maybe with one of w at 0, which nobody measured."""
    labels, matrix = [LABELS[i] for i in order], COVARIANCE[np.ix_(order, order)]
    if more:
        labels = ["w,0", *labels]
        matrix = np.block([[np.eye(1), np.full((1, 5), 0.01)], [np.full((5, 1), 0.01), matrix]])
    rows = [f"{label}," + ",".join(map(repr, row)) for label, row in zip(labels, matrix.tolist(), strict=True)]
    header = "output,t," + ",".join(f"c{i}" for i in range(len(labels)))
    file = folder / "c.csv"
    file.write_text("\n".join([header, *rows]).replace(",", separator) + "\n")
    return file


def made(folder: Path, file: Path, csv: str = CSV, transform: Any = None, **noise: Any) -> Likelihood:
    (folder / "data.csv").write_text(csv)
    table = {"dist": "MultivariateNormal", "covariance": str(file)}
    config = CompareConfig(
        candidates=[],
        observation=Observation.model_validate({"file": str(folder / "data.csv")}),
        noise={name: TypeAdapter(AnyNoise).validate_python(table | noise) for name in ("y", "w")},
        limit=1.0,
    )
    return read_likelihood(config, LAYOUT, transform or {})


@pytest.mark.parametrize("separator", [",", ";"])
def test_rows_are_found_by_their_output_and_coordinates(tmp_path: Path, separator: str) -> None:
    likelihood = made(tmp_path, covariance_file(tmp_path, [4, 0, 3, 2, 1], more=True, separator=separator))
    expected = stats.multivariate_normal(MEAN, COVARIANCE).logpdf(DATA)
    assert float(likelihood.exact(jnp.asarray(MEAN), {})) == pytest.approx(expected)
    (joint,) = likelihood.joints
    assert joint.said == "5 rows are data of y and w by output and t; 1 of 6 are of no datum"
    assert list(likelihood.pointwise(jnp.asarray(MEAN), None, {})) == ["y+w"]


def test_an_emulators_error_is_added_to_all_of_it(tmp_path: Path) -> None:
    likelihood = made(tmp_path, covariance_file(tmp_path, [0, 1, 2, 3, 4]))
    factor, rest = np.random.default_rng(0).normal(size=(2, 5)), np.full(5, 0.03)
    assert likelihood.is_gaussian
    got = likelihood.marginal(Prediction(jnp.asarray(MEAN), jnp.asarray(factor), jnp.asarray(rest)), {})
    whole = COVARIANCE + factor.T @ factor + np.diag(rest)
    assert float(got) == pytest.approx(stats.multivariate_normal(MEAN, whole).logpdf(DATA))
    widened = likelihood.exact(jnp.asarray(MEAN), {}, error=jnp.asarray(rest))
    assert float(widened) == pytest.approx(stats.multivariate_normal(MEAN, COVARIANCE + np.diag(rest)).logpdf(DATA))


def test_new_data_scatter_together(tmp_path: Path) -> None:
    likelihood = made(tmp_path, covariance_file(tmp_path, [0, 1, 2, 3, 4]))
    keys = jax.random.split(jax.random.key(0), 40_000)
    drawn = jax.jit(jax.vmap(lambda key: likelihood.replicate(key, None, jnp.asarray(MEAN), {}, True)))(keys)
    together = np.concatenate([np.asarray(drawn["y"]), np.asarray(drawn["w"])], axis=1)
    assert np.allclose(together.mean(axis=0), MEAN, atol=0.02)
    assert np.allclose(np.cov(together.T), COVARIANCE, atol=0.05 * COVARIANCE.max())


def test_a_datums_own_variance_is_that_given_all_others(tmp_path: Path) -> None:
    likelihood = made(tmp_path, covariance_file(tmp_path, [0, 1, 2, 3, 4]))
    expected = 1.0 / np.diag(np.linalg.inv(COVARIANCE))
    assert np.allclose(likelihood.noise_variance(jnp.asarray(MEAN), {}), expected)
    likelihood = made(tmp_path, covariance_file(tmp_path, [0, 1, 2, 3, 4]), transform={"w": "log"})
    assert not likelihood.is_gaussian
    mean = np.concatenate([MEAN[:3], np.log(MEAN[3:])])
    per_output = np.concatenate([np.ones(3), MEAN[3:]])
    assert np.allclose(likelihood.noise_variance(jnp.asarray(mean), {}), expected / per_output**2)
    got = float(likelihood.exact(jnp.asarray(mean), {}))
    assert got == pytest.approx(stats.multivariate_normal(MEAN, COVARIANCE).logpdf(DATA))


def test_replicates_take_their_rows_in_turn(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("output,t,a,b,c\ny,1,1.0,0.2,0.0\ny,1,0.2,2.0,0.0\nw,2,0.0,0.0,3.0\n")
    likelihood = made(tmp_path, file, "t,y,w\n1,2.2,\n1,2.7,\n2,,5.0\n")
    got = float(likelihood.exact(jnp.asarray([2.0, 2.0, 5.5]), {}))
    covariance = np.array([[1.0, 0.2, 0.0], [0.2, 2.0, 0.0], [0.0, 0.0, 3.0]])
    assert got == pytest.approx(stats.multivariate_normal([2.0, 2.0, 5.5], covariance).logpdf([2.2, 2.7, 5.0]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("output,t,a\ny,0,1.0\n", r"got no rows of y at t = 1, expected 1"),
        ("output,a\ny,1.0\n", 'got no column "t"'),
        ("t,a\n0,1.0\n", 'got no column "output"'),
        ("output,t,a,b\ny,0,1.0,0.0\n", "got 2 columns of numbers and 1 rows"),
        ("output,t,a\ny,0.5,1.0\n", r"got t = 0.5, where the simulator gives no output"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        made(tmp_path, tmp_path / "c.csv")


def test_a_matrix_that_is_no_covariance_and_an_offset_are_refused(tmp_path: Path) -> None:
    file = covariance_file(tmp_path, [0, 1, 2, 3, 4])
    file.write_text(file.read_text().replace("y,0," + repr(float(COVARIANCE[0, 0])), "y,0,-1.0"))
    with pytest.raises(ConfigError, match="symmetric and positive definite, columns in the order of rows"):
        made(tmp_path, file)
    with pytest.raises(ConfigError, match="is of one output alone"):
        made(tmp_path, covariance_file(tmp_path, [0, 1, 2, 3, 4]), offset_scale=1.0)
