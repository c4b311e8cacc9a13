"""An emulator is a function of named parameters that knows its error, its domain, and the names of what it gives."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.emulator.emulator import Emulator, OutsideDomain
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import SimferError
from simfer.stages.model.space import Space
from tests import helpers

POINT = {"intercept": 0.7, "slope": -0.9}


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return helpers.line_run(until="train").emulator  # type: ignore[no-any-return]


def test_it_predicts_named_outputs_of_named_parameters(emulator: Emulator) -> None:
    out = emulator(POINT)
    assert set(out) == {"y"} and out["y"].shape == (9,) and out["y"].dtype == jnp.float64
    assert np.allclose(out["y"], 0.7 - 0.9 * helpers.X, atol=0.05)


def test_it_goes_through_jit_vmap_and_grad(emulator: Emulator) -> None:
    many = {name: jnp.asarray(value) + jnp.linspace(-0.5, 0.5, 7) for name, value in POINT.items()}
    mapped = jax.jit(jax.vmap(emulator))(many)["y"]
    assert mapped.shape == (7, 9)
    one = emulator({name: values[2] for name, values in many.items()})["y"]
    assert np.allclose(mapped[2], one, rtol=1e-10)
    slope = jax.jacfwd(lambda p: emulator(p)["y"])({k: jnp.asarray(v) for k, v in POINT.items()})
    assert np.allclose(slope["slope"], helpers.X, atol=0.1)
    assert np.allclose(slope["intercept"], 1.0, atol=0.1)
    assert eqx.filter_jit(emulator)(POINT)["y"].shape == (9,)


def test_its_error_grows_away_from_what_it_was_trained_on(emulator: Emulator) -> None:
    near = emulator.error(POINT)["y"]
    far = emulator.error({"intercept": 12.0, "slope": -8.0})["y"]
    assert near.shape == (9,) and (near > 0).all()
    assert far.mean() > 10 * near.mean()


def test_unknown_and_missing_parameters_are_refused(emulator: Emulator) -> None:
    with pytest.raises(SimferError, match=r"got parameters \['intercept'\], expected \['intercept', 'slope'\]"):
        emulator({"intercept": 1.0})
    with pytest.raises(SimferError, match="slop"):
        emulator({"intercept": 1.0, "slop": 2.0})
    with pytest.raises(SimferError, match="expected"):
        emulator({**POINT, "curvature": 0.0})


def test_many_points_at_once_are_refused_in_words(emulator: Emulator) -> None:
    # Two points of two parameters would go through a matrix product as one.
    with pytest.raises(SimferError, match=r"shape \(2,\).* jax.vmap\(emulator\)"):
        emulator({"intercept": jnp.zeros(2), "slope": jnp.zeros(2)})


def test_a_fixed_parameter_is_what_it_was_in_training() -> None:
    emulator = load_emulator(helpers.ROOT / "tests" / "emulator" / "kept" / "format1" / "residual")
    point = {name: float(value) for name, value in emulator.space.values(np.zeros(5)).items()}
    assert point["predator_0"] == 2.0 and emulator.units["alpha"] == "1/year"
    assert emulator(point)["prey"].shape == (5,)
    with pytest.raises(SimferError, match=r"another predator_0 than 2.0, at which it was fixed in training: 3.0"):
        emulator({**point, "predator_0": 3.0})


def test_it_is_an_argument_of_jit_as_any_pytree(emulator: Emulator) -> None:
    compiled = jax.jit(lambda e, p: e(p)["y"])
    assert np.allclose(compiled(emulator, POINT), emulator(POINT)["y"], rtol=1e-12)
    poorer = eqx.tree_at(lambda e: e.location, emulator, emulator.location + 1.0)
    assert np.allclose(compiled(poorer, POINT) - compiled(emulator, POINT), 1.0)
    assert compiled._cache_size() == 1
    slope = jax.jit(jax.grad(lambda p, e: e(p)["y"].sum()))(POINT, emulator)
    assert slope["intercept"] == pytest.approx(9.0, abs=0.5)


def test_it_tells_coordinates_and_units(emulator: Emulator) -> None:
    assert list(emulator.coordinates) == ["y"] and list(emulator.coordinates["y"]) == ["x"]
    assert np.array_equal(emulator.coordinates["y"]["x"], helpers.X)
    assert emulator.units == {"intercept": "", "slope": "", "y": ""}


def test_predictions_as_a_dataset_have_names_errors_coordinates_and_units(emulator: Emulator) -> None:
    many = {"intercept": np.array([0.7, 12.0]), "slope": -0.9}
    data = emulator.to_xarray(many)
    assert data["y"].dims == ("point", "x") and data.sizes == {"point": 2, "x": 9}
    assert np.allclose(data["y"].sel(x=2.0)[0], emulator(POINT)["y"][4], rtol=1e-10)
    assert np.allclose(data["y_error"][0], emulator.error(POINT)["y"], rtol=1e-10)
    assert data["inside"].values.tolist() == [True, False]
    assert data["intercept"].values.tolist() == [0.7, 12.0] and data["slope"].values.tolist() == [-0.9, -0.9]
    assert emulator.to_xarray(POINT)["y"].shape == (1, 9)


FAR = {"intercept": 12.0, "slope": -8.0}


def watching(outside: Any) -> Emulator:
    return load_emulator(helpers.line_run(until="train").folders["train"], outside=outside)


def test_it_knows_where_it_was_trained(emulator: Emulator) -> None:
    assert bool(emulator.inside(POINT)) and not emulator.inside(FAR)
    many = {name: np.array([POINT[name], FAR[name], np.nan]) for name in POINT}
    assert emulator.inside(many).tolist() == [True, False, False]
    assert jax.jit(jax.vmap(emulator.inside))(many).tolist() == [True, False, False]
    rows = emulator.space.theta(np.asarray(emulator.training_z))
    assert emulator.inside(dict(zip(emulator.space.names, rows.T, strict=True))).mean() > 0.95


def test_it_warns_outside_where_it_has_values_to_look_at() -> None:
    emulator = watching("warn")
    with pytest.warns(OutsideDomain, match=r"intercept = 12, slope = -8 lies outside of the domain"):
        emulator(FAR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        emulator(POINT)
        emulator.error(FAR)  # is what one asks there
        emulator.to_xarray(FAR)  # tells by itself
        jax.jit(lambda p: emulator(p))(FAR)
        slope = jax.grad(lambda p: emulator(p)["y"].sum())(FAR)["slope"]  # within which there is none to print
    assert np.isfinite(slope)


def test_it_may_be_jitted_as_a_function_is(emulator: Emulator) -> None:
    for call in (emulator, emulator.error):
        assert np.allclose(jax.jit(call)(POINT)["y"], call(POINT)["y"], rtol=1e-10)


def test_a_parameter_that_was_fixed_is_not_passed_over(emulator: Emulator) -> None:
    kept = load_emulator(helpers.ROOT / "tests" / "emulator" / "kept" / "format4" / "residual")
    point = {name: float(value) for name, value in kept.space.values(np.zeros(kept.space.size)).items()}
    (name, value), *_ = kept.space.fixed.items()
    with pytest.raises(SimferError, match=f"got another {name} than {value}"):
        kept({**point, name: 2 * value})
    assert np.allclose(jax.jit(kept)({**point, name: np.float32(value)})["prey"], kept(point)["prey"])
    for call in (eqx.filter_jit(lambda p: kept(p)), jax.grad(lambda p: kept(p)["prey"].sum())):
        with pytest.raises(Exception, match=f"got another {name} than {value}"):
            jax.block_until_ready(call({**point, name: 2 * value}))


def test_shapes_that_do_not_fit_are_refused_in_words(emulator: Emulator) -> None:
    with pytest.raises(SimferError, match=r"intercept \(2,\), slope \(3,\), expected numbers, or one length for all"):
        emulator.to_xarray({"intercept": np.zeros(2), "slope": np.zeros(3)})
    with pytest.raises(SimferError, match=r"got arrays of shape \(2, 3\), expected numbers, or arrays of one axis"):
        emulator.to_xarray({"intercept": np.zeros((2, 3)), "slope": np.zeros((2, 3))})


def test_it_raises_outside_if_asked_under_transformations_too() -> None:
    emulator = watching("error")
    with pytest.raises(SimferError, match="intercept = 12, slope = -8 lies outside of the domain"):
        emulator(FAR)
    slope = jax.grad(lambda p: emulator(p)["y"].sum())
    for call in (jax.jit(lambda p: emulator(p)["y"]), jax.jit(slope), slope):
        jax.block_until_ready(call(POINT))
        with pytest.raises(Exception, match="lies outside of the domain"):
            jax.block_until_ready(call(FAR))


def test_it_gives_no_numbers_outside_if_asked() -> None:
    emulator = watching("nan")
    many = {name: jnp.array([POINT[name], FAR[name]]) for name in POINT}
    y = jax.jit(jax.vmap(emulator))(many)["y"]
    assert np.isfinite(y[0]).all() and np.isnan(y[1]).all()
    assert np.isfinite(jax.grad(lambda p: emulator(p)["y"].sum())(POINT)["slope"])


def test_what_to_do_outside_is_one_of_four() -> None:
    with pytest.raises(SimferError, match='got outside = "raise", expected one of warn, error, nan, ignore'):
        watching("raise")


def test_where_the_prior_excludes_a_value_nothing_is_known() -> None:
    """An error of 0 stood beside a prediction of NaN."""
    emulator = replace(
        load_emulator(helpers.ROOT / "tests" / "emulator" / "kept" / "format4" / "cosmopower"), outside="ignore"
    )
    inside = {name: float(value) for name, value in emulator.space.values(np.zeros(emulator.space.size)).items()}
    for asked in (emulator, emulator.error):
        assert all(np.isfinite(value).all() for value in asked(inside).values())
        assert all(np.isnan(value).all() for value in asked(inside | {emulator.space.names[0]: -2.0}).values())


def test_beyond_a_bound_there_is_no_whitened_point() -> None:
    priors = {
        "a": {"dist": "Uniform", "low": 0.0, "high": 1.0},
        "b": {"dist": "Normal"},
        "intercept": None,
        "slope": None,
    }
    space = Space(helpers.problem(helpers.line(parameters=priors)).parameters)
    z = space.whiten_held({"a": np.array([0.0, 0.5, 1.0, 1.1, -0.1]), "b": 0.5})
    assert np.isnan(z[:, 0]).tolist() == [False, False, False, True, True] and np.isfinite(z[:, 1]).all()
