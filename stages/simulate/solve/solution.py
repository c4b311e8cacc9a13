"""What comes of one simulation."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from simfer.stages.model.outputs import Status


class Solution(NamedTuple):
    """One simulation: its outputs, how it ended (a `Status`), and the solver steps that it took."""

    outputs: dict[str, Float[Array, "..."]]
    status: Int[Array, ""]
    num_steps: Int[Array, ""]


def final_status(outputs: dict[str, Array], status: Int[Array, ""]) -> Int[Array, ""]:
    """Return a solve's status, or that of its outputs where they are not finite."""
    # Fixed-step solvers report success with NaN in the state: finiteness is checked beside the result.
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in outputs.values()]))
    return jnp.where((status == Status.OK) & ~finite, int(Status.NOT_FINITE), status).astype(jnp.int8)
