"""The chain's posterior against the exact one of a linear-Gaussian problem, and what a posterior's file holds."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import integrate, stats

from simfer import pipeline
from simfer.stages.artifacts.posterior import POSTERIOR
from simfer.stages.infer.posterior import PERIOD
from simfer.stages.infer.samplers import nuts
from simfer.stages.infer.summary import e_bfmi, in_one_piece
from tests import helpers

GROUPS = {
    "posterior",
    "unconstrained_posterior",
    "sample_stats",
    "posterior_predictive",
    "log_likelihood",
    "observed_data",
}


def draws(result: pipeline.Result, *names: str) -> np.ndarray:
    """Return draws of all chains, a column for each name."""
    posterior = result.posterior["posterior"]
    return np.stack([posterior[name].values.ravel() for name in names], axis=1)


def effective(result: pipeline.Result, name: str) -> float:
    rows = result.summaries["infer"]["tables"]["posterior"]
    return min(next(row["ess_bulk"] for row in rows if row["parameter"] == name), 2000)


def test_a_linear_gaussian_problem_gives_its_exact_posterior() -> None:
    result = helpers.line_run()
    mean, covariance = helpers.exact_line()
    got = draws(result, "intercept", "slope")
    for i, name in enumerate(("intercept", "slope")):
        sd = np.sqrt(covariance[i, i])
        assert abs(got[:, i].mean() - mean[i]) < 4 * sd / np.sqrt(effective(result, name)) + 0.01 * sd
        assert got[:, i].std() == pytest.approx(sd, rel=0.1)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert np.corrcoef(got.T)[0, 1] == pytest.approx(correlation, abs=0.05)


@pytest.mark.slow
def test_the_noise_scale_is_inferred_with_the_line() -> None:
    result = helpers.line_run("noise.y.scale={ dist = 'HalfNormal', scale = 1.0 }", until="infer")
    mean, sd = _exact_scale()
    got = draws(result, "y_scale")[:, 0]
    assert got.mean() == pytest.approx(mean, abs=5 * sd / np.sqrt(effective(result, "y_scale")) + 0.02 * sd)
    assert got.std() == pytest.approx(sd, rel=0.15)


def _exact_scale() -> tuple[float, float]:
    """Return the noise scale's posterior mean and sd, with the line integrated out and the scale on a grid."""
    design = np.column_stack([np.ones_like(helpers.X), helpers.X])
    means, sds = np.array(list(helpers.PRIOR.values())).T
    grid = np.linspace(0.02, 4.0, 2000)
    log_density = np.array(
        [
            stats.multivariate_normal.logpdf(
                helpers.line_data(), design @ means, design @ np.diag(sds**2) @ design.T + s**2 * np.eye(len(helpers.X))
            )
            + stats.halfnorm.logpdf(s)
            for s in grid
        ]
    )
    density = np.exp(log_density - log_density.max())
    density /= integrate.trapezoid(density, grid)
    mean = integrate.trapezoid(grid * density, grid)
    return mean, np.sqrt(integrate.trapezoid((grid - mean) ** 2 * density, grid))


def test_the_emulators_error_widens_the_posterior_of_a_poor_emulator() -> None:
    # A handful of steps leaves an error that is not small beside the noise.
    poor = ("train.steps=15", "train.finish_steps=0", "train.ensemble_size=3")
    wide = helpers.line_run(*poor, until="infer")
    narrow = helpers.line_run(*poor, "infer.emulator_error=none", until="infer")
    assert draws(wide, "slope").std() > 1.1 * draws(narrow, "slope").std()
    shares = wide.summaries["infer"]["tables"]["emulator error in the likelihood"]
    assert 0.05 < shares[0]["share_of_variance"] < 1.0
    assert "emulator error in the likelihood" not in narrow.summaries["infer"]["tables"]


def test_a_good_emulators_error_changes_nothing() -> None:
    wide, narrow = helpers.line_run(), helpers.line_run("infer.emulator_error=none", until="infer")
    assert wide.summaries["infer"]["tables"]["emulator error in the likelihood"][0]["share_of_variance"] < 0.01
    for name in ("intercept", "slope"):
        a, b = draws(wide, name), draws(narrow, name)
        assert abs(a.mean() - b.mean()) < 0.15 * a.std()


def test_another_family_than_a_gaussian_carries_the_error_too() -> None:
    # Heavy tails that are hardly there: the exact posterior is nearly the Gaussian one, by another path.
    noise = "noise.y={ dist = 'StudentT', df = 200.0, scale = 0.5 }"
    result = helpers.line_run(noise, until="infer")
    mean, covariance = helpers.exact_line()
    got = draws(result, "intercept", "slope")
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(got.mean(axis=0) - mean) < 0.15 * sd)
    assert got.std(axis=0) == pytest.approx(sd, rel=0.12)
    whitened = result.posterior["unconstrained_posterior"]["z"].shape[-1]
    assert whitened > 2  # the error's own weights are sampled


@pytest.mark.slow
def test_missing_data_count_for_nothing() -> None:
    rows = [(float(x), float(y)) for x, y in zip(helpers.X, helpers.line_data(), strict=True)]
    file = helpers.scratch() / "gaps.csv"
    file.write_text("x,y\n" + "".join(f"{x!r},{'' if i % 3 == 1 else repr(y)}\n" for i, (x, y) in enumerate(rows)))
    result = pipeline.run(
        helpers.line(observation={"file": str(file)}), store=helpers.scratch() / "line", until="infer"
    )
    kept = [i for i in range(len(rows)) if i % 3 != 1]
    design = np.column_stack([np.ones(len(kept)), helpers.X[kept]])
    means, sds = np.array(list(helpers.PRIOR.values())).T
    covariance = np.linalg.inv(np.diag(1 / sds**2) + design.T @ design / helpers.SIGMA**2)
    mean = covariance @ (means / sds**2 + design.T @ helpers.line_data()[kept] / helpers.SIGMA**2)
    got = draws(result, "intercept", "slope")
    assert np.all(np.abs(got.mean(axis=0) - mean) < 0.15 * np.sqrt(np.diag(covariance)))


@pytest.mark.parametrize("method", [pytest.param("vectorized", marks=pytest.mark.slow), "sequential"])
def test_how_the_chains_run_makes_no_difference(method: str) -> None:
    short = ("infer.num_warmup=100", "infer.num_samples=100")
    parallel = helpers.line_run(*short, until="infer")
    other = helpers.line_run(*short, f"infer.chain_method={method}", until="infer")
    a, b = draws(parallel, "intercept", "slope"), draws(other, "intercept", "slope")
    if method == "sequential":
        assert np.array_equal(a, b)
    assert np.abs(a.mean(axis=0) - b.mean(axis=0)) == pytest.approx(0.0, abs=0.5 * a.std(axis=0).max())


@pytest.mark.parametrize(("device", "arrays"), [("cpu", ["vectorized"]), ("gpu", ["parallel", "vectorized"])])
def test_chains_are_one_array_where_a_device_serves_one_thread_at_a_time(
    device: str, arrays: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    assert [each for each in ("parallel", "sequential", "vectorized") if nuts.is_one_array(each)] == arrays


def test_the_same_config_gives_the_same_numbers() -> None:
    short = ["infer.num_warmup=100", "infer.num_samples=100"]  # as in the test above
    first = helpers.line_run(*short, until="infer")
    store = helpers.scratch() / "line"
    posterior = first.posterior
    again = pipeline.run(helpers.line(), overrides=short, store=store, until="infer", redo="infer")
    assert not again.outcomes["infer"].cached
    for group in GROUPS:
        # All but how long it took, which is an attribute.
        assert posterior[group].to_dataset().equals(again.posterior[group].to_dataset()), group


def test_the_file_opens_in_arviz_with_all_groups() -> None:
    import arviz

    file = helpers.line_run().folders["infer"] / POSTERIOR
    data = arviz.from_netcdf(file)
    assert set(data.groups()) >= GROUPS - {"unconstrained_posterior"}
    assert data.posterior["slope"].dims == ("chain", "draw")
    assert float(arviz.rhat(data)["slope"].max()) < 1.02
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nine data, of which one may well be influential
        loo = arviz.loo(data, var_name="y")
    assert np.isfinite(loo.elpd_loo)


def test_the_file_has_the_prior_and_what_it_predicts() -> None:
    tree = helpers.line_run().posterior
    for name, (mean, sd) in helpers.PRIOR.items():
        drawn = tree["prior"][name].values
        assert drawn.shape == (1, 500)
        assert abs(drawn.mean() - mean) < 0.2 * sd and drawn.std() == pytest.approx(sd, rel=0.12)
    line = tree["prior"]["intercept"].values[0][:, None] + tree["prior"]["slope"].values[0][:, None] * helpers.X
    residual = tree["prior_predictive"]["y"].values[0] - line
    assert abs(residual.mean()) < 0.05 and residual.std() == pytest.approx(helpers.SIGMA, rel=0.1)


def test_the_file_opens_in_xarray_with_names_and_coordinates() -> None:
    file = helpers.line_run().folders["infer"] / POSTERIOR
    with xr.open_datatree(file, engine="h5netcdf") as tree:
        assert set(tree.children) >= GROUPS
        observed = tree["observed_data"]
        assert np.allclose(observed["y"].values, helpers.line_data())
        assert np.allclose(observed["y_x"].values, helpers.X)
        assert tree["posterior_predictive"]["y"].shape == (2, 1000, 9)
        assert tree["log_likelihood"]["y"].shape == (2, 1000, 9)


def test_replicated_data_and_log_likelihood_belong_to_their_draws() -> None:
    tree = helpers.line_run().posterior
    theta = tree["posterior"].to_dataset()
    line = theta["intercept"].values[..., None] + theta["slope"].values[..., None] * helpers.X
    residual = tree["posterior_predictive"]["y"].values - line
    assert residual.std() == pytest.approx(helpers.SIGMA, rel=0.03)
    assert abs(residual.mean()) < 0.02
    expected = stats.norm.logpdf(helpers.line_data(), line, helpers.SIGMA)
    assert np.allclose(tree["log_likelihood"]["y"].values, expected, atol=0.05)


def test_the_log_density_of_every_draw_is_that_of_prior_and_likelihood() -> None:
    tree = helpers.line_run().posterior
    z = tree["unconstrained_posterior"]["z"].values
    prior = stats.norm.logpdf(z).sum(axis=-1)
    likelihood = tree["log_likelihood"]["y"].values.sum(axis=-1)
    assert np.allclose(tree["sample_stats"]["lp"].values, prior + likelihood, atol=0.05)
    for i, name in enumerate(("intercept", "slope")):
        mean, sd = helpers.PRIOR[name]
        assert np.allclose(tree["posterior"][name].values, mean + sd * z[..., i])


def test_e_bfmi_of_independent_energies_is_two() -> None:
    energy = np.random.default_rng(0).normal(size=(3, 20000))
    assert e_bfmi(energy) == pytest.approx(2.0, abs=0.1)
    walk = np.cumsum(energy, axis=1)
    assert (e_bfmi(walk) < 0.01).all()


def test_jax_has_not_been_narrowed() -> None:
    assert jnp.asarray(1.0).dtype == jnp.float64
    assert jax.config.jax_enable_x64


def test_draws_on_both_sides_of_a_seam_are_drawn_in_one_piece() -> None:
    around = xr.DataArray([[0.1, 6.2, 0.2, 6.1]], dims=("chain", "draw"), attrs={PERIOD: 2 * np.pi})
    plain = xr.DataArray([[0.1, 6.2, 0.2, 6.1]], dims=("chain", "draw"))
    drawn = in_one_piece(xr.Dataset({"phase": around, "other": plain}))
    np.testing.assert_allclose(drawn["phase"], [[0.1, 6.2 - 2 * np.pi, 0.2, 6.1 - 2 * np.pi]])
    np.testing.assert_array_equal(drawn["other"], plain)
