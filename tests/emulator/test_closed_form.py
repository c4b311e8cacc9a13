"""Architectures fitted in closed form: exact where they can be, honest about their error, kept to the last bit."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import sici
from scipy.stats import qmc
from threadpoolctl import threadpool_info, threadpool_limits
from tinygp import GaussianProcess as Reference
from tinygp import kernels, transforms

from benchmarks.emulators import CASES
from simfer.stages.emulator.architectures import gaussian_process
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.architectures.gaussian_process import GaussianProcess
from simfer.stages.emulator.architectures.kernels import SHAPES, kernel
from simfer.stages.emulator.architectures.polynomial import Polynomial, multi_indices, orthonormal
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import StageError
from simfer.stages.model.plugins import resolve
from simfer.stages.preflight import mistakes
from simfer.stages.progress import Silent
from simfer.stages.settings import Train
from simfer.stages.settings.names import ARCHITECTURES
from simfer.stages.train.feed import Rows
from simfer.stages.train.fitting import fit
from tests import helpers
from tests.emulator.test_scatter import ou_table

NAMES = [name for name in ARCHITECTURES if issubclass(resolve(name, ARCHITECTURES), ClosedForm)]
KEY = jax.random.key(0)


def rows(num: int, size: int = 3, num_outputs: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of smooth functions of normal inputs."""
    x = np.random.default_rng(seed).normal(size=(num, size))
    t = np.linspace(0.5, 1.5, num_outputs)
    return x, np.sin(t * x[:, :1] + 0.3 * x[:, 1:2]) + 0.5 * np.tanh(t * x[:, 1:2]) * x[:, 2:3]


def fitted(name: str, x: np.ndarray, y: np.ndarray, **options: Any) -> ClosedForm:
    made = resolve(name, ARCHITECTURES)(x.shape[1], y.shape[1], key=KEY, **options)
    return made.fit(x, y)  # type: ignore[no-any-return]


def evaluated(model: ClosedForm, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation at points."""
    both = eqx.filter_jit(lambda m, x: jax.vmap(lambda z: (m(z), (m.error_factor(z) ** 2).sum(axis=0)))(x))
    mean, variance = both(model, jnp.asarray(x))
    return np.asarray(mean), np.sqrt(variance)


@pytest.mark.parametrize("name", NAMES)
class TestEvery:
    def test_most_fresh_points_are_within_the_error_that_is_claimed(self, name: str) -> None:
        model, (x, y) = fitted(name, *rows(60)), rows(1000, seed=1)
        mean, sd = evaluated(model, x)
        assert ((mean - y) ** 2).mean() < 0.2 * y.var()
        assert 0.75 < (np.abs(mean - y) < 2.0 * sd).mean() <= 1.0
        assert sd[np.abs(x).max(axis=1) > 2.5].mean() > 1.5 * sd[np.abs(x).max(axis=1) < 1.0].mean()

    def test_few_rows_duplicates_and_constant_outputs_do_no_harm(self, name: str) -> None:
        x, y = rows(20)
        x, y = np.concatenate([x, x[:6]]), np.concatenate([y, y[:6]])
        y = np.column_stack([y, np.zeros(len(y)), np.full(len(y), 3.0)])
        mean, sd = evaluated(fitted(name, x, y), x)
        assert np.allclose(mean[:, 2:], [0.0, 3.0], atol=1e-8)
        assert np.isfinite(sd).all() and sd[:, 2:].max() < 1e-6
        assert ((mean - y) ** 2).mean() < 0.1 * y[:, :2].var()
        mean, sd = evaluated(fitted(name, x, y[:, 2:]), x)  # and nothing else
        assert np.allclose(mean, [0.0, 3.0], atol=1e-8) and sd.max() < 1e-6

    def test_many_outputs_share_their_directions(self, name: str) -> None:
        x, y = rows(80, num_outputs=40)
        model = fitted(name, x, y)
        factor = model.error_factor(jnp.ones(3))
        assert len(factor) <= 24 and factor.shape[1] == 40
        mean, _ = evaluated(model, rows(500, seed=1)[0])
        assert ((mean - rows(500, num_outputs=40, seed=1)[1]) ** 2).mean() < 0.05 * y.var()

    def test_its_prediction_and_its_error_are_smooth(self, name: str) -> None:
        model, at = fitted(name, *rows(40)), jnp.asarray([0.3, -0.2, 1.0])
        step = 1e-5 * np.eye(3)
        for each in (model, lambda z: model.sigma_points(z).std(axis=0)):
            slope = jax.jit(jax.jacfwd(each))(at)
            up, down = map(jax.jit(jax.vmap(each)), (at + step, at - step))
            assert np.allclose(slope, (up - down).T / 2e-5, rtol=1e-4, atol=1e-6)

    def test_correlated_inputs_of_a_refined_round(self, name: str) -> None:
        x, y = rows(80)
        mix = np.array([[1.0, 0.9, 0.0], [0.0, 0.3, 0.8], [0.0, 0.0, 0.4]])
        fresh, truth = rows(300, seed=1)
        mean, _ = evaluated(fitted(name, x @ mix, y), fresh @ mix)
        assert ((mean - truth) ** 2).mean() < 0.15 * truth.var()

    def test_a_twin_never_sees_its_own_fold(self, name: str) -> None:
        x, y = rows(60, num_outputs=12)
        fold = 1 + np.arange(60) % 3
        settings = Train(architecture=name, dtype="float32")
        one = fit(settings, Rows(x, y), fold, {}, Silent())
        assert {leaf.dtype.name for leaf in jax.tree.leaves(eqx.filter(one.networks, eqx.is_inexact_array))} == {
            "float64"
        }
        assert set(one.twins) == {1, 2, 3}
        alone = one.networks.fit(x[fold != 2], y[fold != 2])
        assert eqx.tree_equal(one.twins[2], alone)
        points = [m.sigma_points(jnp.ones(3)).shape for m in (one.networks, *one.twins.values())]
        assert len(set(points)) == 1
        assert not np.allclose(one.twins[2](jnp.ones(3)), one.networks(jnp.ones(3)), rtol=1e-9)

    def test_it_is_kept_to_the_last_bit(self, name: str) -> None:
        result = helpers.line_run(
            f"train.architecture={name}", "train.options={}", "simulate.num_simulations=60", until="train"
        )
        emulator, again = result.emulator, load_emulator(result.folders["train"])
        point = {"intercept": 0.7, "slope": -0.9}
        assert np.array_equal(again(point)["y"], emulator(point)["y"])
        assert np.array_equal(again.error(point)["y"], emulator.error(point)["y"])
        assert again.header.leaves and again.header.architecture == name
        assert np.allclose(emulator(point)["y"], 0.7 - 0.9 * helpers.X, atol=1e-4)

    def test_random_simulators_are_refused(self, name: str) -> None:
        found = mistakes(helpers.problem(ou_table(train={"architecture": name, "options": None})))
        assert [(each.where, "learns no scatter; take a network" in each.what) for each in found] == [
            ("train.architecture", True)
        ]


def test_polynomials_are_orthonormal_under_their_family() -> None:
    for family, (at, weight) in {
        "uniform": np.polynomial.legendre.leggauss(20),
        "normal": np.polynomial.hermite_e.hermegauss(20),
    }.items():
        z = at * math.sqrt(3.0) if family == "uniform" else at
        values = jax.vmap(lambda z, family=family: orthonormal(z[None], [family], 8)[0])(jnp.asarray(z))
        products = np.einsum("n,ni,nj->ij", weight / weight.sum(), values, values)
        assert np.allclose(products, np.eye(9), atol=1e-10)


def test_truncation_is_by_the_norm_of_degrees() -> None:
    assert len(multi_indices(4, 3, 1.0)) == math.comb(7, 3)
    assert multi_indices(2, 2, 0.5).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [0, 2]]


def test_a_polynomial_is_reproduced() -> None:
    def exact(x: np.ndarray) -> np.ndarray:
        return np.column_stack([1.0 + x[:, 0] * x[:, 1] ** 2 - x[:, 2] ** 3, 2.0 * x[:, 2] - 0.5 * x[:, 0] ** 2])

    x, _ = rows(60)
    model = Polynomial(3, 2, key=KEY, families=("uniform", "normal", "normal")).fit(x, exact(x))
    fresh, _ = rows(100, seed=1)
    mean, sd = evaluated(model, fresh)
    assert np.allclose(mean, exact(fresh), rtol=0.0, atol=1e-9) and sd.max() < 1e-9
    assert len(model.powers) < 12


def test_ishigami_has_its_known_mean_and_variance() -> None:
    u = qmc.LatinHypercube(3, rng=0).random(200)
    x, y = math.sqrt(12.0) * (u - 0.5), CASES["ishigami"].on_cube(u)[:, None]
    model = Polynomial(3, 1, key=KEY, families=("uniform",) * 3).fit(x, y)
    coefficients = {tuple(power): value for power, value in zip(model.powers.tolist(), model.coefficients, strict=True)}
    assert float(coefficients.pop((0, 0, 0))[0]) == pytest.approx(3.5, rel=1e-6)
    a, b = 7.0, 0.1
    variance = a**2 / 8 + b * math.pi**4 / 5 + b**2 * math.pi**8 / 18 + 0.5  # Ishigami & Homma 1990
    assert sum(float(value[0]) ** 2 for value in coefficients.values()) == pytest.approx(variance, rel=1e-6)


REFERENCES = {"squared_exponential": kernels.ExpSquared, "matern52": kernels.Matern52}


def reference_kernel(hyper: jax.Array, shape: str) -> kernels.Kernel:
    """Return the kernel as tinygp makes it of its own parts."""
    size = len(hyper) // 2
    scale, weight = jnp.exp(hyper[:size]), jnp.exp(hyper[size:-1])
    product: kernels.Kernel = kernels.Constant(1.0 / jnp.prod(1.0 + weight))
    for axis in range(size):
        product *= 1.0 + weight[axis] * transforms.Subspace(axis, REFERENCES[shape](scale[axis]))
    return product


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gaussian_process_is_its_textbook_formula(shape: str) -> None:
    x, y = rows(30, num_outputs=1)
    model = fitted("gaussian_process", x, y, kernel=shape)
    assert bool(model.is_rough) == (shape == "matern52")
    p = model.hyper[0]
    scale, weight, nugget = np.exp(p[:3]), np.exp(p[3:6]), float(np.exp(p[6]))

    def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r = np.abs(a[:, None] - b[None]) / scale
        s = math.sqrt(5.0) * r
        one = np.exp(-0.5 * r**2) if shape == "squared_exponential" else (1.0 + s + s**2 / 3.0) * np.exp(-s)
        return np.prod((1.0 + weight * one) / (1.0 + weight), axis=2)

    gram, at = correlation(x, x) + nugget * np.eye(30), rows(5, seed=1)[0]
    mean = np.linalg.solve(gram, y).sum() / np.linalg.solve(gram, np.ones(30)).sum()
    variance = float((y - mean)[:, 0] @ np.linalg.solve(gram, y - mean)[:, 0]) / 30
    cross = correlation(at, x)
    expected = mean + cross @ np.linalg.solve(gram, y - mean)
    spread = variance * (1.0 + nugget - np.einsum("an,na->a", cross, np.linalg.solve(gram, cross.T)))
    got, sd = evaluated(model, at)
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-6)
    left_out = variance * np.median(1.0 / np.diag(np.linalg.inv(gram)))
    assert np.allclose(sd[:, 0] ** 2, np.hypot(spread, left_out), rtol=1e-3, atol=1e-9)
    reference = Reference(reference_kernel(p, shape), jnp.asarray(x), diag=jnp.asarray(nugget), mean=float(mean))
    assert np.allclose(reference.predict(jnp.asarray(y[:, 0]), jnp.asarray(at)), expected[:, 0], rtol=1e-5, atol=1e-6)


def with_slopes(num: int, num_outputs: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows as `rows` does, and their derivatives."""
    x, y = rows(num, num_outputs=num_outputs, seed=seed)
    t = np.linspace(0.5, 1.5, num_outputs)
    a, b, c = (x[:, i : i + 1] for i in range(3))
    wave, step = np.cos(t * a + 0.3 * b), np.tanh(t * b)
    return x, y, np.stack([t * wave, 0.3 * wave + 0.5 * t * (1.0 - step**2) * c, 0.5 * step], axis=1)


@pytest.mark.parametrize("shape", SHAPES)
class TestDerivatives:
    def test_covariances_are_derivatives_of_the_kernel(self, shape: str) -> None:
        hyper = jnp.log(jnp.asarray([0.5, 1.0, 2.0, 0.3, 3.0, 1.0, 1e-6]))
        a, b = jnp.asarray(rows(4)[0]), jnp.asarray(rows(5, seed=1)[0]).at[0].set(rows(4)[0][2])
        value = lambda one, other: reference_kernel(hyper, shape)(one[None], other[None])[0, 0]  # noqa: E731
        each = lambda f: jax.vmap(lambda one: jax.vmap(lambda other: f(one, other))(b))(a)  # noqa: E731
        got = np.asarray(kernel(hyper, a, b, shape, "ab"))
        assert np.allclose(got[:, 0, :, 0], each(value), rtol=1e-10)
        apart = np.ones((4, 5), bool)
        apart[2, 0] = False  # where the distance is zero, automatic differentiation of its modulus is lost
        if shape == "squared_exponential":
            apart[2, 0] = True
        assert np.allclose(got[:, 1:, :, 0].transpose(0, 2, 1)[apart], each(jax.grad(value))[apart], rtol=1e-9)
        assert np.allclose(got[:, 0, :, 1:][apart], each(jax.grad(value, 1))[apart], rtol=1e-9)
        both = each(jax.jacfwd(jax.grad(value), 1))
        assert np.allclose(got[:, 1:, :, 1:].transpose(0, 2, 1, 3)[apart], both[apart], rtol=1e-9)
        step, at = 1e-4, np.asarray(a[2])  # there by differences
        for i, j in ((0, 0), (0, 1), (2, 2)):
            near = [at + step * (u * np.eye(3)[i]) for u in (-1, 1)], [at + step * (u * np.eye(3)[j]) for u in (-1, 1)]
            corners = np.array([[value(jnp.asarray(p), jnp.asarray(q)) for q in near[1]] for p in near[0]])
            crossed = (corners[1, 1] - corners[1, 0] - corners[0, 1] + corners[0, 0]) / (4.0 * step**2)
            assert got[2, 1 + i, 0, 1 + j] == pytest.approx(crossed, rel=2e-3, abs=1e-6)

    def test_they_are_reproduced_at_rows_and_the_error_is_the_textbook_formula(self, shape: str) -> None:
        x, y, slopes = with_slopes(20, num_outputs=1)
        model = GaussianProcess(3, 1, key=KEY, kernel=shape).fit(x, y, slopes)  # type: ignore[arg-type]
        assert np.allclose(jax.vmap(model)(jnp.asarray(x)), y, atol=1e-3 * y.std())
        learned = jax.vmap(jax.jacfwd(model))(jnp.asarray(x))
        assert np.allclose(np.asarray(learned).transpose(0, 2, 1), slopes, atol=1e-2 * slopes.std())
        p, at = model.hyper[0], jnp.asarray(rows(5, seed=1)[0])
        gram = np.asarray(kernel(p, model.x, model.x, shape, "ab")).reshape(80, 80)
        gram = gram + float(np.exp(p[-1])) * np.diag(np.diag(gram))
        cross = np.asarray(kernel(p, at, model.x, shape, "b")).reshape(5, 80)
        left = 1.0 - np.einsum("an,na->a", cross, np.linalg.solve(gram, cross.T)) + float(np.exp(p[-1]))
        blocks = np.linalg.inv(gram).reshape(20, 4, 20, 4)[np.arange(20), :, np.arange(20)]
        floor = np.median(np.linalg.inv(blocks)[:, 0, 0])
        scale = float(model.sd[0, 0] * np.abs(model.basis[0, 0, 0]))
        assert np.allclose(evaluated(model, np.asarray(at))[1][:, 0], scale * np.sqrt(np.hypot(left, floor)), rtol=1e-3)


def test_rows_with_derivatives_teach_more_and_the_claimed_error_holds() -> None:
    x, y, slopes = with_slopes(20, num_outputs=6)
    fresh, truth = (part[np.abs(rows(1000, seed=1)[0]).max(axis=1) < 1.5] for part in rows(1000, num_outputs=6, seed=1))
    errors = []
    for more in ((slopes,), ()):
        mean, sd = evaluated(GaussianProcess(3, 6, key=KEY).fit(x, y, *more), fresh)
        errors.append(((mean - truth) ** 2).mean())
        assert 0.8 < (np.abs(mean - truth) < 2.0 * sd).mean() <= 1.0
    errors.append(((evaluated(fitted("gaussian_process", *rows(40, num_outputs=6)), fresh)[0] - truth) ** 2).mean())
    assert errors[0] < 0.3 * errors[1] and errors[0] < errors[2]  # of 20 rows with them, without, and of 40 without


def test_the_training_hands_derivatives_on_and_keeps_twins_honest() -> None:
    x, y, slopes = with_slopes(30)
    fold = 1 + np.arange(30) % 3
    learned = fit(Train(architecture="gaussian_process"), Rows(x, y, slopes), fold, {}, Silent())
    alone = learned.networks.fit(x[fold != 2], y[fold != 2], slopes[fold != 2])
    assert eqx.tree_equal(learned.twins[2], alone)
    assert learned.networks.alpha.shape[-1] == 30 * 4
    without = fit(Train(architecture="gaussian_process"), Rows(x, y), fold, {}, Silent())
    assert without.networks.alpha.shape[-1] == 30
    with pytest.raises(
        StageError, match=r"got 30 rows that stand for 120 with their derivatives, expected at most 100"
    ):
        GaussianProcess(3, 2, key=KEY, max_rows=100).fit(x, y, slopes)


def test_hyperparameters_are_where_the_likelihood_is_highest() -> None:
    x, y = rows(30, num_outputs=1)
    model = fitted("gaussian_process", x, y)

    def value(hyper: jax.Array) -> jax.Array:
        mean, variance = model.mean[0, 0], model.sd[0, 0] ** 2
        shape = "matern52" if model.is_rough else "squared_exponential"
        process = Reference(reference_kernel(hyper, shape), jnp.asarray(x), diag=jnp.exp(hyper[-1]), mean=mean)
        standard = (y[:, 0] - model.location[0]) / model.basis[0, 0, 0]
        scaled = mean + (jnp.asarray(standard) - mean) / jnp.sqrt(variance)
        off = (hyper[:-1] - math.log(2.0)) / 3.0
        return process.log_probability(scaled) - 0.5 * off @ off

    slope = np.asarray(jax.jit(jax.grad(value))(model.hyper[0]))
    inside = np.asarray(model.hyper[0]) > np.log(1.1e-10)
    assert np.abs(slope[inside]).max() < 0.1


def test_a_small_gaussian_process_takes_one_thread_of_blas_and_so_many_evaluations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, solve = list[int](), gaussian_process._solve

    def watched(*given: Any) -> Any:
        threads.append(max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"))
        return solve(*given)

    monkeypatch.setattr(gaussian_process, "_solve", watched)
    monkeypatch.setattr(gaussian_process, "_SEARCH", 2)
    x, y = rows(20)
    y = np.random.default_rng(0).normal(size=y.shape)  # nothing to be learned: line searches are long
    with threadpool_limits(2, user_api="blas"):
        model = fitted("gaussian_process", x, y)
        assert max(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas") == 2
    assert set(threads) == {1}
    searches, kernels = 4 + model.hyper.shape[0] - 1, model.hyper.shape[0]  # type: ignore[attr-defined]
    assert len(threads) <= searches * (2 * 2 + 20 + 20) + kernels * (2 * 12 + 20 + 20 + 10)


def test_too_many_rows_for_a_gaussian_process_are_refused() -> None:
    with pytest.raises(StageError, match=r"got 60 rows, expected at most 50. Take a network"):
        GaussianProcess(3, 2, key=KEY, max_rows=50).fit(*rows(60))


def on_fresh_points(name: str, num: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
    case = CASES[name]
    u = np.random.default_rng(0).random((num, len(case.bounds)))
    low, high = np.asarray(case.bounds, float).T
    return (low + u * (high - low)).T, case.on_cube(u)


class TestFunctionsOfTheBenchmark:
    def test_borehole_has_resistances_in_series(self) -> None:
        x, flow = on_fresh_points("borehole", 5)
        (r_w, r, t_u, h_u, t_l, h_l, length, k_w), pi = x, math.pi
        aquifers = np.log(r / r_w) / (2 * pi) * (1 / t_u + 1 / t_l)
        assert np.allclose(flow, (h_u - h_l) / (aquifers + length / (pi * r_w**2 * k_w)), rtol=1e-12)

    def test_currents_of_the_circuit_balance(self) -> None:
        (r_b1, r_b2, r_f, r_c1, r_c2, beta), v = on_fresh_points("otl_circuit", 5)
        base = (12.0 * r_b2 / (r_b1 + r_b2) + 0.74 - v) / r_f + 0.74 / r_c1
        assert np.allclose(base * beta * (r_c2 + 9.0) + 11.35 - v, 0.0, atol=1e-9)

    def test_the_piston_rests_where_forces_balance(self) -> None:
        (mass, area, v_0, spring, p_0, ambient, filling), cycle = on_fresh_points("piston", 5)
        for i in range(5):
            gas = p_0[i] * v_0[i] * ambient[i] / filling[i]

            def force(v: float, i: int = i, gas: float = gas) -> float:
                height = (v - v_0[i]) / area[i]
                return spring[i] * height + p_0[i] * area[i] + 19.62 * mass[i] - gas * area[i] / v

            v = brentq(force, 1e-6, 1.0, xtol=1e-15)
            stiffness = spring[i] + gas * area[i] ** 2 / v**2
            assert cycle[i] == pytest.approx(2 * math.pi * math.sqrt(mass[i] / stiffness), rel=1e-9)

    def test_the_wing_has_its_exponents(self) -> None:
        case, at = CASES["wing_weight"], np.array([174.0, 252.0, 7.52, 0.0, 34.0, 0.672, 0.12, 3.8, 2000.0, 0.064])

        def slope(i: int) -> float:
            up = at * np.where(np.arange(10) == i, 1.001, 1.0)
            paint = [p[0] * p[9] for p in (up, at)]
            return float(np.log((case.function(up) - paint[0]) / (case.function(at) - paint[1])) / np.log(1.001))

        known = {0: 0.758, 1: 0.0035, 2: 0.6, 4: 0.006, 5: 0.04, 6: -0.3, 7: 0.49, 8: 0.49}
        assert {i: round(slope(i), 8) for i in known} == known

    def test_the_arm_has_the_second_moment_of_four_random_phases(self) -> None:
        x, distance = on_fresh_points("robot_arm")
        assert (distance**2).mean() == pytest.approx(4.0 / 3.0, rel=0.01)
        turned = CASES["robot_arm"].function(np.concatenate([[x[0] + 1.0], x[1:]]))
        assert np.allclose(turned, distance, atol=1e-12)

    def test_friedman_has_its_exact_mean(self) -> None:
        cosine = sici(math.pi)[1]
        exact = 10.0 * (np.euler_gamma + math.log(math.pi) - cosine) / math.pi + 20.0 / 12.0 + 5.0 + 2.5
        assert on_fresh_points("friedman")[1].mean() == pytest.approx(exact, abs=0.05)


def test_a_polynomial_of_many_inputs_is_no_longer_a_program() -> None:
    few, many = (Polynomial(size, 4, key=jax.random.key(0)) for size in (3, 100))
    lengths = [len(jax.make_jaxpr(model)(np.zeros(model.in_size)).eqns) for model in (few, many)]
    assert lengths[1] < 1.5 * lengths[0]
    z = np.random.default_rng(0).normal(size=100)  # terms up to degree two: their products, input by input
    axes = np.asarray(orthonormal(jnp.asarray(z), many.families, many.max_degree))
    expected = np.prod([axes[i][np.asarray(many.powers)[:, i]] for i in range(100)], axis=0)
    assert np.allclose(many(jnp.asarray(z)), expected @ np.asarray(many.coefficients), rtol=1e-10)
