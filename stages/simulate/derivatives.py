"""Derivatives of what is simulated with respect to the free parameters, by forward mode through the solve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from simfer.stages.model.outputs import Status
from simfer.stages.simulate.solve.solution import Solution, final_status


def with_derivatives(
    solve: Callable[[dict[str, Float[Array, " rows"]]], tuple[Solution, Any]],
    parameters: Mapping[str, Float[Array, " rows"]],
    names: Sequence[str],
) -> tuple[Solution, Any, dict[str, Float[Array, "rows names ..."]]]:
    """Solve rows, and differentiate their outputs with respect to the parameters named, all in their own units.

    A row knows its own parameters alone, so that one tangent for each parameter does for all rows. An adaptive solver's
    steps are held fixed: they, and the outputs, are those of the plain solve (up to rounding, where the solver works in
    matrices), of which these are the exact derivatives (internal numerical differentiation, Bock 1981). A row whose
    derivatives are not finite has failed.
    """
    free = {name: parameters[name] for name in names}

    def outputs(free: dict[str, Array]) -> tuple[dict[str, Array], tuple[Solution, Any]]:
        solution, done = solve({**parameters, **free})
        return solution.outputs, (solution, done)

    def along(direction: dict[str, Array]) -> Any:
        return jax.jvp(outputs, (free,), (direction,), has_aux=True)

    directions = {
        name: jnp.zeros((len(names), *value.shape)).at[i].set(1.0) for i, (name, value) in enumerate(free.items())
    }
    _, slopes, (solution, done) = jax.vmap(along, out_axes=(None, 1, None))(directions)
    status = jax.vmap(final_status)(slopes, solution.status)
    known = lambda s: (status == Status.OK).reshape(-1, *[1] * (s.ndim - 1))  # noqa: E731
    slopes = {name: jnp.where(known(each), each, jnp.nan) for name, each in slopes.items()}
    return solution._replace(status=status), done, slopes
