"""The table of priors, held against NumPyro itself."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from scipy.special import ndtr

from simfer.stages.model.quantiles import distribution, from_normal, to_normal
from simfer.stages.settings import AnyPrior
from simfer.stages.settings.parameters import AnyPriorOrPart, prior_of
from simfer.stages.settings.prior_table import PRIORS

read = TypeAdapter(AnyPrior).validate_python

# Arguments to construct each with, where the domain's own example (below) would not do.
EXAMPLES: dict[str, dict[str, float]] = {
    "DoublyTruncatedPowerLaw": {"alpha": -1.5, "low": 1.0, "high": 3.0},
    "LogUniform": {"low": 0.5, "high": 3.0},
    "LowerTruncatedPowerLaw": {"alpha": -2.5, "low": 1.0},
    "TruncatedCauchy": {"loc": 0.5, "scale": 1.0, "low": -1.0, "high": 2.0},
    "TruncatedNormal": {"loc": 1.0, "scale": 0.5, "low": 0.0},
    "Uniform": {"low": -1.0, "high": 3.0},
}
DOMAIN = {"real": 0.3, "positive": 2.5, "unit": 0.4}
# Distributions of NumPyro with an inverse CDF that are no prior here, and why.
LEFT_OUT = {
    "Delta": "a point, for which a number is given",
    "ImproperUniform": "no distribution that one can draw from",
    "Unit": "no value",
    "TruncatedDistribution": "made of another distribution, not of numbers",
    "TwoSidedTruncatedDistribution": "made of another distribution, not of numbers",
    "LeftTruncatedDistribution": "made of another distribution, not of numbers",
    "RightTruncatedDistribution": "made of another distribution, not of numbers",
    "TransformedDistribution": "made of another distribution, not of numbers",
    "ExpandedDistribution": "made of another distribution, not of numbers",
    "Independent": "made of another distribution, not of numbers",
    "MaskedDistribution": "made of another distribution, not of numbers",
    "FoldedDistribution": "made of another distribution, not of numbers",
    "RelaxedBernoulliLogits": "a coin made smooth for gradients; as a prior, a Logistic through a sigmoid",
}


def example(name: str) -> dict[str, float]:
    given = EXAMPLES.get(name)
    if given is None:
        given = {argument: DOMAIN[spec.domain] for argument, spec in PRIORS[name].arguments.items()}
    return given


def made(name: str) -> Any:
    return distribution(read({"dist": name, **example(name)}))


@pytest.mark.parametrize("name", PRIORS)
def test_arguments_and_defaults_are_numpyros(name: str) -> None:
    signature = inspect.signature(getattr(dist, name)).parameters
    for argument, spec in PRIORS[name].arguments.items():
        assert argument in signature, argument
        default = signature[argument].default
        if spec.default is not None:
            assert spec.default == default, argument
        elif not spec.optional:
            assert default is inspect.Parameter.empty, f"{argument} has the default {default} in NumPyro"
        else:
            assert default is None, argument
    needed = {n for n, p in signature.items() if p.default is inspect.Parameter.empty and p.kind is not p.VAR_KEYWORD}
    assert needed <= set(PRIORS[name].arguments)


@pytest.mark.parametrize("name", PRIORS)
def test_the_example_is_one_to_numpyro_too(name: str) -> None:
    getattr(dist, name)(**example(name), validate_args=True)


@pytest.mark.parametrize(
    ("name", "argument"),
    [(n, a) for n, family in PRIORS.items() for a, spec in family.arguments.items() if spec.domain != "real"],
)
def test_numpyro_refuses_what_the_table_refuses(name: str, argument: str) -> None:
    bad = example(name) | {argument: -1.0}
    with pytest.raises(ValidationError):
        read({"dist": name, **bad})
    if name not in {"DoublyTruncatedPowerLaw", "LowerTruncatedPowerLaw"}:  # NumPyro's own check of these is elsewhere
        with pytest.raises(ValueError, match=r"invalid|must"):
            getattr(dist, name)(**bad, validate_args=True)


GRID, STEP = np.linspace(-3.5, 3.5, 28), 1e-4  # without 0, where a Laplace has a kink
FAR = np.array([-7.0, 7.0])


@cache
def whitened(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return theta and its derivative at the grid, a step to either side of it, and far out."""
    prior = made(name)
    z = jnp.asarray(np.concatenate([GRID, GRID + STEP, GRID - STEP, FAR]))
    theta, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda z: from_normal(prior, z))))(z)
    return np.asarray(theta), np.asarray(slope)


@pytest.mark.parametrize("name", PRIORS)
def test_whitening_is_the_quantile_function_and_its_inverse(name: str) -> None:
    prior, theta = made(name), whitened(name)[0][: len(GRID)]
    assert np.isfinite(theta).all() and (np.diff(theta) > 0).all()
    back, cdf = jax.jit(lambda theta: (to_normal(prior, theta), prior.cdf(theta)))(jnp.asarray(theta))
    assert np.allclose(back, GRID, atol=1e-5)
    assert np.allclose(cdf, ndtr(GRID), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", PRIORS)
def test_whitening_has_the_right_derivative(name: str) -> None:
    theta, slope = whitened(name)
    _, up, down = theta[: 3 * len(GRID)].reshape(3, -1)
    assert np.allclose(slope[: len(GRID)], (up - down) / (2 * STEP), rtol=1e-4, atol=1e-9)
    assert (slope[: len(GRID)] > 0).all()


@pytest.mark.parametrize("name", PRIORS)
def test_far_out_points_are_finite_and_so_are_their_derivatives(name: str) -> None:
    theta, slope = whitened(name)
    assert np.isfinite(theta).all() and np.isfinite(slope).all()


@pytest.mark.parametrize("name", ["Cauchy", "HalfCauchy"])
def test_a_cauchy_tail_keeps_its_digits_as_far_out_as_sampling_goes(name: str) -> None:
    # SciPy's survival functions know the upper tail by its own probability; the half-Cauchy's lower one is nearly flat.
    prior, z = made(name), np.array([-20.0, -9.0, -7.0, -5.0, -1.0, 0.0, 1.0, 5.0, 7.0, 9.0, 20.0])
    theta, slope = jax.vmap(jax.value_and_grad(lambda z: from_normal(prior, z)))(jnp.asarray(z))
    exact = stats.cauchy(**example(name)) if name == "Cauchy" else stats.halfcauchy(scale=prior.scale)
    assert np.allclose(theta[z > 0], exact.isf(ndtr(-z[z > 0])), rtol=1e-12, atol=0)
    assert np.allclose(theta[z <= 0], exact.ppf(ndtr(z[z <= 0])), rtol=1e-12, atol=1e-12)
    assert np.allclose(slope, stats.norm.pdf(z) / exact.pdf(theta), rtol=1e-9, atol=0)  # d theta / dz
    back, slope_back = jax.vmap(jax.value_and_grad(lambda theta: to_normal(prior, theta)))(theta)
    assert np.allclose(back, z, rtol=1e-9, atol=1e-12)
    assert np.allclose(slope_back * slope, 1.0, rtol=1e-9)


def test_no_prior_that_numpyro_can_invert_is_missing() -> None:
    missing = {name for name, kind in vars(dist).items() if _is_candidate(kind) and _can_invert(name, kind)}
    assert len(missing & set(PRIORS)) > 15  # the search finds what is there
    assert missing - set(PRIORS) - set(LEFT_OUT) == set()


def _is_candidate(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, dist.Distribution) and kind is not dist.Distribution


def _can_invert(name: str, kind: Any) -> bool:
    """Try to build it of plain numbers, and to invert its CDF."""
    signature = [p for n, p in inspect.signature(kind).parameters.items() if n != "validate_args"]
    for value in (0.4, 2.5):
        try:
            made = kind(**{p.name: value for p in signature if p.default is p.empty})
            if made.batch_shape == () and made.event_shape == () and not made.is_discrete:
                return bool(np.isfinite(made.icdf(jnp.asarray(0.3))))
        except Exception:
            continue
    return False


def test_a_truncated_prior_needs_a_bound_and_bounds_are_in_order() -> None:
    with pytest.raises(ValidationError, match="nothing to truncate"):
        read({"dist": "TruncatedNormal", "loc": 1.0})
    with pytest.raises(ValidationError, match="expected low < high"):
        read({"dist": "Uniform", "low": 1.0, "high": 1.0})


def test_what_a_store_holds_of_a_prior_is_read_by_its_own_class() -> None:
    every = TypeAdapter(AnyPriorOrPart).validate_python
    tables = [
        {"dist": name, **EXAMPLES.get(name, {"loc": 0.5, "scale": 2.0})} for name in (*EXAMPLES, "Normal", "Gumbel")
    ]
    base = every(tables[0]).model_dump()
    tables += [
        {"dist": "DirichletPart", "concentration1": 2.0, "concentration0": 3.0},
        {"dist": "OrderedPart", "base": base, "left": 2, "after": ["first"]},
        {"dist": "LKJPart", "concentration": 1.0, "dimension": 3, "row": 1, "column": 0},
        {"dist": "EarlierPart", "margins": [{"knots": [0.0, 1.0]}], "gain": [], "scale": 1.0},
    ]
    for table in tables:
        prior = every(table)
        again = prior_of(prior.model_dump())
        assert type(again) is type(prior) and again == prior
    with pytest.raises(LookupError):
        prior_of({"dist": "Delta", "value": 1.0})
