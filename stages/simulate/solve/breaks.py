"""Where a solve is not smooth: times at which the vector field jumps, and doses, which add to the state.

Between two of them an equation is smooth, and a step that ends at one exactly loses nothing. A time may depend on the
parameters: a step's end then moves with it, so that a derivative through the steps is the solution's, the difference
of the two slopes at a jump (its "saltation") with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from simfer.stages.errors import UserCodeError

_UNITS = 8  # of rounding, at the largest time: what a jump and the vector field's own idea of it may differ by


class Breaks(NamedTuple):
    """The breaks of one row in order: no time twice, and infinity in the place of what is not needed."""

    times: Float[Array, " breaks"]
    amounts: Float[Array, "breaks size"]  # added to the state there; zero where only the vector field jumps


class Within(NamedTuple):
    """The parameters of a vector field, and the piece that it is asked in: it is never asked at a jump itself.

    Whether a jump belongs to what comes before or after it (t > 2 or t >= 2) is then nobody's concern.
    """

    args: PyTree
    low: Scalar
    high: Scalar

    def clip(self, t: Scalar) -> Scalar:
        """Return the time, or the nearest one inside the piece; a derivative is that of the time."""
        return t + jax.lax.stop_gradient(jnp.clip(t, self.low, self.high) - t)


class Piece(NamedTuple):
    """Where each lane stands among its breaks. Arrays carry the lanes last; of one row they have no such axis."""

    times: Float[Array, "breaks lanes"]
    amounts: Float[Array, "breaks size lanes"]
    number: Int[Array, " lanes"]  # of the break that comes next
    since: Float[Array, " lanes"]  # the last break, or the start
    until: Float[Array, " lanes"]  # the next one
    planned: Float[Array, " lanes"]  # where the step under way would end, were there no break


def margin(start: float, stop: float) -> float:
    """Return the time that is as good as none: a few units of rounding."""
    return float(_UNITS * jnp.finfo(float).eps * max(abs(start), abs(stop)))


def merge(
    jumps: Float[Array, " jumps"],
    times: Float[Array, " doses"],
    amounts: Float[Array, "doses size"],
    span: tuple[float, float],
) -> tuple[Breaks, Float[Array, " size"], Bool[Array, ""]]:
    """Return the breaks within the span, what is dosed at its start, and whether all have a time.

    A dose before the start has none, for nobody solves there, and neither has what is at no number.
    """
    (start, stop), at = span, jnp.concatenate([jumps, times])
    added = jnp.concatenate([jnp.zeros((len(jumps), amounts.shape[1]), amounts.dtype), amounts])
    same = at[:, None] == at[None, :]
    together = jnp.where(same[:, :, None], added[None], 0.0).sum(axis=1)
    first = jnp.argmax(same, axis=1) == jnp.arange(len(at))
    ahead = jnp.where(first & (at > start) & (at < stop), at, jnp.inf)
    order = jnp.argsort(ahead)
    at_once = jnp.where((times == start)[:, None], amounts, 0.0).sum(axis=0)
    known = ~jnp.isnan(jumps).any() & (times >= start).all()
    return Breaks(ahead[order], together[order]), at_once, known


def first_piece(breaks: Breaks, start: Scalar, end: Scalar) -> Piece:
    """Return where a row stands before its first step, planned to end at `end`."""
    times = jnp.append(breaks.times, jnp.inf)
    amounts = jnp.concatenate([breaks.amounts, jnp.zeros_like(breaks.amounts[:1])])
    return Piece(times, amounts, jnp.asarray(0, jnp.int32), start, times[0], end)


def ends_at_break(piece: Piece, t1: Float[Array, " lanes"], least: float) -> Float[Array, " lanes"]:
    """Return the end of a step, at the next break where it lies behind it: exactly there, and moving with it."""
    return jnp.where(t1 > piece.until - least, piece.until, t1)


def cross(
    piece: Piece, here: Bool[Array, " lanes"], y: Float[Array, "size lanes"]
) -> tuple[Piece, Float[Array, "size lanes"]]:
    """Go past the breaks that lanes have arrived at: add what is dosed there, and look to the next ones."""
    added = jnp.take_along_axis(piece.amounts, piece.number[None, None], axis=0)[0]
    number = piece.number + here.astype(jnp.int32)
    until = jnp.take_along_axis(piece.times, number[None], axis=0)[0]
    since = jnp.where(here, piece.until, piece.since)
    return piece._replace(number=number, since=since, until=until), jnp.where(here, y + added, y)


def amounts_of(amounts: Any, state: PyTree, num: int) -> Float[Array, "doses size"]:
    """Return what `num` doses add to each number of a state, given in the state's own structure."""
    got, expected = (str(jax.tree.structure(tree)) for tree in (amounts, state))
    if got != expected:
        raise UserCodeError(
            f"doses: got amounts in the structure {got}, expected that of the state, {expected}: an amount for each "
            "part of it, 0.0 where nothing is added"
        )
    parts = []
    for given, part in zip(jax.tree.leaves(amounts), jax.tree.leaves(state), strict=True):
        given = jnp.asarray(given, float)
        try:
            # One number, or one for each dose, where the part is a single number.
            parts.append(jnp.broadcast_to(given, (num, *part.shape)).reshape(num, -1))
        except ValueError:
            what = f"doses: got amounts of shape {given.shape}, expected {(num, *part.shape)} (doses, then the state's)"
            raise UserCodeError(what) from None
    return jnp.concatenate(parts, axis=1)
