"""A Rosenbrock method for stiff equations: a Jacobian and one factorization for each step, and nothing to iterate.

Diffrax's stiff solvers iterate to the solution of each stage, and solve a small system by a call of its own each time.
Here all lanes do the same arithmetic side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Scalar

_SMALL = 8  # the largest system whose elimination is written out

# Steinebach (2023), "Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia
# Differential Equations package", BIT 63:27: order 5(4), stiffly accurate, 8 stages. The coefficients are those of the
# form without products of the Jacobian (Hairer & Wanner 1996, section IV.7), as in OrdinaryDiffEq.jl.
_GAMMA = 0.21193756319429014
_A = (
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946),
)  # each later stage stands on the one before it, plus its increment
_C = (
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
     -28.087943162872662),
    (37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
     -54.66780262877968, -9.48861652309627),
)  # fmt: skip
_TIMES = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
_D = (_GAMMA, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069, 0.0, 0.0, 0.0)
_DENSE = np.array(
    [
        [25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204,
         0.524948541321073, 1.1241088310450404, 0.4272876194431874, -0.17202221070155493],
        [-9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796,
         20.176138334709044, 15.98066361424651, -6.789040303419874, -6.710236069923372],
        [11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643,
         -52.072871366152654, -59.78993625266729, -0.15582684282751913, 4.883087185713722],
    ]
)  # fmt: skip


class _Dense(diffrax.AbstractLocalInterpolation):
    """The method's own interpolation, of order 4."""

    t0: Any  # type: ignore[misc]
    t1: Any  # type: ignore[misc]
    y0: PyTree
    y1: PyTree
    bends: tuple[PyTree, PyTree, PyTree]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True) -> PyTree:
        """Return the state at t0, or its change from t0 to t1."""
        if t1 is not None:
            return jax.tree.map(lambda a, b: a - b, self.evaluate(t1), self.evaluate(t0))
        x = (t0 - self.t0) / (self.t1 - self.t0)

        def at(y0: Array, y1: Array, first: Array, second: Array, third: Array) -> Array:
            return (1 - x) * y0 + x * (y1 + (1 - x) * (first + x * (second + x * third)))

        return jax.tree.map(at, self.y0, self.y1, *self.bends)


class Rodas5P(diffrax.AbstractAdaptiveSolver[Any]):
    """Rodas5P, of order 5, for stiff ordinary differential equations."""

    term_structure: ClassVar[Any] = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Any] = _Dense

    def order(self, terms: Any) -> int:
        """Return the order of convergence."""
        return 5

    def init(self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree) -> None:
        """Return no state: each step stands alone."""

    def func(self, terms: Any, t0: Any, y0: PyTree, args: PyTree) -> PyTree:
        """Evaluate the vector field."""
        return terms.vf(t0, y0, args)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: PyTree, solver_state: None, made_jump: Any
    ) -> tuple[PyTree, PyTree, dict[str, PyTree], None, diffrax.RESULTS]:
        """Make one step, and estimate its error."""
        y, unravel = ravel_pytree(y0)
        dt = terms.contr(t0, t1)

        def field(t: Scalar, y: Float[Array, " size"]) -> Float[Array, " size"]:
            return ravel_pytree(terms.vf(t, unravel(y), args))[0]

        in_time = jax.jvp(lambda t: field(t, y), (t0,), (jnp.ones_like(t0),))[1]
        jacobian = jax.jacfwd(field, argnums=1)(t0, y)
        solve = factorize(jnp.eye(len(y)) / (_GAMMA * dt) - jacobian)
        stages: list[Array] = []
        at = y
        for i, (fraction, d) in enumerate(zip(_TIMES, _D, strict=True)):
            if i > 5:
                at = at + stages[-1]
            elif i > 0:
                at = y + sum(a * stage for a, stage in zip(_A[i - 1], stages, strict=True))
            right = field(t0 + fraction * dt, at) + d * dt * in_time
            if i > 0:
                right = right + sum(c * stage for c, stage in zip(_C[i - 1], stages, strict=True)) / dt
            stages.append(solve(right))
        error, y1 = stages[-1], at + stages[-1]
        bends = tuple(unravel(sum(h * stage for h, stage in zip(row, stages, strict=True))) for row in _DENSE)
        dense = {"y0": y0, "y1": unravel(y1), "bends": bends}
        return unravel(y1), unravel(error), dense, None, diffrax.RESULTS.successful  # type: ignore[return-value]


def factorize(matrix: Float[Array, "size size"]) -> Callable[[Float[Array, " size"]], Float[Array, " size"]]:
    """Return the solution of a linear system as a function of its right-hand side.

    Small systems are eliminated with partial pivoting, written out: a call of LAPACK costs more than they do.
    """
    size = len(matrix)
    if size > _SMALL:
        factors = jax.scipy.linalg.lu_factor(matrix)
        return lambda right: jax.scipy.linalg.lu_solve(factors, right)
    rows = [[matrix[i, j] for j in range(size)] for i in range(size)]
    done: list[tuple[int, int, Array, Array]] = []  # (column, row, were they swapped, how much was taken away)
    for k in range(size):
        for i in range(k + 1, size):
            swap = jnp.abs(rows[i][k]) > jnp.abs(rows[k][k])
            upper, lower = rows[k], rows[i]
            rows[k] = [jnp.where(swap, b, a) for a, b in zip(upper, lower, strict=True)]
            rows[i] = [jnp.where(swap, a, b) for a, b in zip(upper, lower, strict=True)]
            factor = rows[i][k] / rows[k][k]
            rows[i] = [b - factor * a for a, b in zip(rows[k], rows[i], strict=True)]
            done.append((k, i, swap, factor))

    def solve(right: Float[Array, " size"]) -> Float[Array, " size"]:
        x = [right[i] for i in range(size)]
        for k, i, swap, factor in done:
            x[k], x[i] = jnp.where(swap, x[i], x[k]), jnp.where(swap, x[k], x[i])
            x[i] = x[i] - factor * x[k]
        for k in reversed(range(size)):
            x[k] = (x[k] - sum(rows[k][j] * x[j] for j in range(k + 1, size))) / rows[k][k]
        return jnp.stack(x)

    return solve
