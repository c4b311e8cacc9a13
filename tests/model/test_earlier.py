"""An earlier posterior as a prior: data in two halves give what they give at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from simfer.stages.errors import ConfigError
from simfer.stages.model.space import Space
from simfer.stages.preflight.priors import prior_remarks
from simfer.stages.settings.earlier import read
from tests import helpers


def posterior_file(folder: Path, **draws: np.ndarray) -> Path:
    file = folder / "posterior.nc"
    variables = {name: (("chain", "draw"), values.reshape(4, -1)) for name, values in draws.items()}
    xr.DataTree.from_dict({"posterior": xr.Dataset(variables)}).to_netcdf(file, engine="h5netcdf")
    return file


def with_earlier(file: Path, parameters: dict[str, Any] | None = None, **more: Any) -> Any:
    table = helpers.line()
    table["parameters"] = parameters or {}
    return helpers.problem(table | {"priors": {"earlier": {"file": str(file)} | more}})


def exact(half: slice, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact posterior of some of the line's data, from a Gaussian prior (Bishop 2006, equation 3.50)."""
    design = np.column_stack([np.ones_like(helpers.X), helpers.X])[half]
    precision = np.linalg.inv(covariance) + design.T @ design / helpers.SIGMA**2
    new = np.linalg.inv(precision)
    return new @ (np.linalg.solve(covariance, mean) + design.T @ helpers.line_data()[half] / helpers.SIGMA**2), new


def test_data_in_two_halves_give_what_they_give_at_once(tmp_path: Path) -> None:
    prior = np.array(list(helpers.PRIOR.values())).T
    first = exact(slice(0, 5), prior[0], np.diag(prior[1] ** 2))
    draws = np.random.default_rng(0).multivariate_normal(*first, 4000)
    file = posterior_file(tmp_path, intercept=draws[:, 0], slope=draws[:, 1])
    config = with_earlier(file)
    space = Space(config.parameters)
    assert space.names == ["intercept", "slope"]
    axis = np.linspace(-5.0, 5.0, 161)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    theta = np.asarray(jax.jit(space.theta)(z))
    gaps = helpers.line_data()[5:] - theta[:, :1] - theta[:, 1:] * helpers.X[5:]
    log = stats.norm.logpdf(z).sum(axis=1) - 0.5 * (gaps**2).sum(axis=1) / helpers.SIGMA**2
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    mean = weights @ theta
    covariance = (theta - mean).T @ ((theta - mean) * weights[:, None])
    at_once = helpers.exact_line()
    sds = np.sqrt(np.diag(at_once[1]))
    assert np.abs((mean - at_once[0]) / sds).max() < 0.05  # 4,000 draws: their mean is known to 0.016 of its sd
    assert np.sqrt(np.diag(covariance)) == pytest.approx(sds, rel=0.04)
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) == pytest.approx(
        at_once[1][0, 1] / sds.prod(), abs=0.02
    )
    (remark,) = prior_remarks(config)
    assert "4,000 draws" in remark and "no more than chance" in remark


def skewed(count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    z = np.random.default_rng(1).multivariate_normal([0.0, 0.0], [[1.0, -0.8], [-0.8, 1.0]], count)
    return np.exp(1.0 + 0.7 * z[:, 0]), z[:, 1] ** 3 / 4.0 + z[:, 1]


def test_marginals_and_their_dependence_are_kept(tmp_path: Path) -> None:
    rate, shift = skewed()
    config = with_earlier(posterior_file(tmp_path, rate=rate, shift=shift), {"other": 1.0}, units={"rate": "1/h"})
    space = Space(config.parameters)
    assert config.parameters["rate"].unit == "1/h"
    theta = np.asarray(jax.jit(space.theta)(np.random.default_rng(2).normal(size=(4000, 2))))
    assert (theta[:, 0] > 0.0).all()
    for drawn, was in zip(theta.T, (rate, shift), strict=True):
        assert stats.ks_2samp(drawn, was).pvalue > 1e-3
    assert stats.spearmanr(*theta.T).statistic == pytest.approx(stats.spearmanr(rate, shift).statistic, abs=0.03)
    rows = jnp.asarray([[0.3, -1.0], [5.5, -5.5], [-6.0, 0.0]])
    values = space.theta(rows)
    back = space.whiten({"rate": values[:, 0], "shift": values[:, 1]})
    assert np.allclose(back, rows, atol=1e-6)
    assert Space.from_json(space.to_json()).to_json() == space.to_json()


def test_the_map_has_the_derivatives_that_it_shows(tmp_path: Path) -> None:
    rate, shift = skewed()
    space = Space(with_earlier(posterior_file(tmp_path, rate=rate, shift=shift)).parameters)
    z, step = jnp.asarray([0.37, -1.21]), 1e-6
    theta = jax.jit(space.theta)
    numeric = [(theta(z.at[i].add(step)) - theta(z.at[i].add(-step))) / (2 * step) for i in range(2)]
    assert np.allclose(np.asarray(jax.jacfwd(theta)(z)), np.stack(numeric, axis=1), rtol=1e-5, atol=1e-8)
    assert np.allclose(np.asarray(jax.jacrev(theta)(z)), np.stack(numeric, axis=1), rtol=1e-5, atol=1e-8)


def test_bounds_are_kept(tmp_path: Path) -> None:
    share = np.random.default_rng(3).beta(8.0, 0.7, 4000)  # most of it at the upper end
    file = posterior_file(tmp_path, share=share)
    space = Space(with_earlier(file, bounds={"share": [0, 1]}).parameters)
    drawn = np.asarray(jax.jit(space.theta)(np.random.default_rng(2).normal(size=(4000, 1))))[:, 0]
    assert drawn.max() < 1.0 and stats.ks_2samp(drawn, share).pvalue > 1e-3
    assert np.allclose(space.whiten({"share": drawn[:5]})[:, 0], np.random.default_rng(2).normal(size=(4000, 1))[:5, 0])
    with pytest.raises(ConfigError, match=r"bounds.share: got draws from"):
        with_earlier(file, bounds={"share": [0.0, 0.5]})
    with pytest.raises(ConfigError, match=r"bounds: got other, expected some of share"):
        with_earlier(file, bounds={"other": [0.0, 0.5]})


def test_what_a_copula_loses_is_told(tmp_path: Path) -> None:
    z = np.random.default_rng(1).normal(size=(4000, 2))
    file = posterior_file(tmp_path, a=z[:, 0], b=z[:, 0] ** 2 + 0.3 * z[:, 1])
    (remark,) = prior_remarks(with_earlier(file))
    assert ", more than chance" in remark and "infer from all data at once" in remark


def test_chains_that_go_slowly_are_not_taken_for_a_bent_posterior(tmp_path: Path) -> None:
    steps, draws = np.random.default_rng(1).normal(size=(4000, 2)), np.zeros((4000, 2))
    for i in range(1, 4000):
        draws[i] = 0.95 * draws[i - 1] + np.sqrt(1.0 - 0.95**2) * steps[i]
    file = posterior_file(tmp_path, a=draws[:, 0], b=draws[:, 1])
    found = read(str(file), [], [], {})
    assert found.num_effective == pytest.approx(4000 * 0.05 / 1.95, rel=0.5)
    (remark,) = prior_remarks(with_earlier(file))
    assert "no more than chance" in remark


def test_what_cannot_be_a_prior_is_refused(tmp_path: Path) -> None:
    rate, shift = skewed(400)
    file = posterior_file(tmp_path, rate=rate, shift=shift, y_scale=rate)
    assert list(with_earlier(file, names=["shift", "rate"]).parameters) == ["shift", "rate"]
    assert list(with_earlier(file).parameters) == ["rate", "shift"]  # y_scale is the noise's here
    with pytest.raises(ConfigError, match=r"earlier\.names: got speed, expected some of those in the file: rate"):
        with_earlier(file, names=["speed"])
    with pytest.raises(ConfigError, match="got a file beside loc"):
        with_earlier(file, covariance=[[1.0]])
    few = posterior_file(tmp_path, rate=rate[:40])
    with pytest.raises(ConfigError, match="expected at least 200 draws"):
        with_earlier(few)
    (tmp_path / "text.nc").write_text("no")
    with pytest.raises(ConfigError, match="cannot be read as NetCDF"):
        with_earlier(tmp_path / "text.nc")
