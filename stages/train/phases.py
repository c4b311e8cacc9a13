"""The two phases of a descent, each compiled for all members: an optimizer in batches, and a quasi-Newton finish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from simfer.stages.settings import Train
from simfer.stages.train import newton
from simfer.stages.train.feed import Feed, Rows
from simfer.stages.train.losses import Loss
from simfer.stages.train.optimizers import optimizer

Result = tuple[PyTree, PyTree, Float[np.ndarray, " members"], Float[np.ndarray, " members"]]
_CHUNK, _FINISH_CHUNK = 100, 20  # steps in one compiled call, between two looks at the validation rows
_FINISH_PATIENCE = 100
_ROWS = 192  # of a whole batch at a time: what a network makes of more does not fit into a core's cache


class Phase(NamedTuple):
    """Steps of one kind: `start` gives their state, `advance(weights, state, at, n)` does n more and looks."""

    steps: int
    chunk: int
    patience: int
    dtype: str
    start: Callable[[PyTree], PyTree]
    advance: Callable[[PyTree, PyTree, int, int], Result]


class _Own(NamedTuple):
    """What is each member's own."""

    key: PRNGKeyArray
    trains: Int[Array, " n"]
    stops: Int[Array, " m"]


def phases(
    settings: Train, static: PyTree, loss: Loss, feed: Feed, keys: PRNGKeyArray, devices: Sequence[Any]
) -> list[Phase]:
    """List the phases that settings ask for; the finish takes all rows at a time, which a stream has not."""

    def in_part(rows: Rows, robust: bool | float) -> Callable[[PyTree, Array], Array]:
        return lambda weights, at: loss(eqx.combine(weights, static), rows.pick(at), robust)

    # Among a fifth of the rows a single wild one would choose the weights: it is what changes most from look to look.
    losses = [partial(in_part, robust=robust) for robust in (settings.robust, settings.robust or True)]
    make = partial(_phase, losses=losses, feed=feed, keys=keys, devices=devices)
    first = make(settings.steps, _CHUNK, settings.patience, settings.dtype, *_in_batches(settings))
    if not settings.finish_steps or feed.window is not None:
        return [first]
    return [first, make(settings.finish_steps, _FINISH_CHUNK, _FINISH_PATIENCE, "float64", *_newton())]


def _phase(
    steps: int,
    chunk: int,
    patience: int,
    dtype: str,
    init: Callable[..., PyTree],
    step: Callable[..., Any],
    *,
    losses: Sequence[Callable[[Rows], Callable[[PyTree, Array], Array]]],
    feed: Feed,
    keys: PRNGKeyArray,
    devices: Sequence[Any],
) -> Phase:
    loss_in, stopped_by = losses  # given rows, each is a function of weights and of some of the rows

    def start(weights: PyTree, own: _Own, rows: Rows) -> PyTree:
        return init(weights, own, loss_in(rows))

    def advance(weights: PyTree, state: PyTree, own: _Own, rows: Rows, unseen: Rows, at: Array, num: int) -> Any:
        def body(carry: tuple[PyTree, PyTree], i: Array) -> Any:
            weights, state, value = step(*carry, own, i, loss_in(rows))
            return (weights, state), value

        (weights, state), values = jax.lax.scan(body, (weights, state), at + jnp.arange(num))
        return weights, state, values.mean(), stopped_by(unseen)(weights, own.stops)

    rows = feed.rows.typed(dtype)
    own = _Own(keys, jnp.asarray(feed.trains), jnp.asarray(feed.stops))
    compiled = _side_by_side(advance, "mmmaaa", devices)
    begin = _side_by_side(start, "mma", devices)

    def go_on(weights: PyTree, state: PyTree, at: int, num: int) -> Result:
        training, members = rows, own
        if feed.window is not None:
            window, trains = feed.window(at // chunk)
            training, members = window.typed(dtype), own._replace(trains=jnp.asarray(trains))
        *moved, train, validation = compiled(weights, state, members, training, rows, jnp.asarray(at), num)
        return moved[0], moved[1], np.asarray(train), np.asarray(validation)

    return Phase(steps, chunk, patience, dtype, lambda weights: begin(weights, own, rows), go_on)


def _side_by_side(function: Callable[..., Any], kinds: str, devices: Sequence[Any]) -> Callable[..., Any]:
    """Compile a function of one member for all: "m", an argument with an axis over members; "a", the same for all.

    What comes after these is static. With several devices each takes its share of the members.
    """

    def all_members(*arguments: Any) -> Any:
        arrays, fixed = arguments[: len(kinds)], arguments[len(kinds) :]
        axes = tuple(0 if kind == "m" else None for kind in kinds)
        mapped = jax.vmap(lambda *each: function(*each, *fixed), in_axes=axes)
        if len(devices) > 1:
            members, everywhere = PartitionSpec("members"), PartitionSpec()
            specs = tuple(members if kind == "m" else everywhere for kind in kinds)
            mesh = Mesh(np.array(devices), ("members",))
            mapped = jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=members, check_vma=False)
        return mapped(*arrays)

    return jax.jit(all_members, static_argnums=len(kinds))


def _in_batches(settings: Train) -> tuple[Callable[..., Any], Callable[..., Any]]:
    optim = optimizer(settings)

    def step(
        weights: PyTree, state: PyTree, own: _Own, i: Array, loss_at: Callable[..., Array]
    ) -> tuple[PyTree, PyTree, Array]:
        num = len(own.trains)
        at = own.trains
        if settings.batch_size < num:
            at = at[jax.random.randint(jax.random.fold_in(own.key, i), (settings.batch_size,), 0, num)]
        value, slope = jax.value_and_grad(loss_at)(weights, at)
        updates, state = optim.update(slope, state, weights)
        return optax.apply_updates(weights, updates), state, value

    return lambda weights, own, loss_at: optim.init(weights), step


def _newton() -> tuple[Callable[..., Any], Callable[..., Any]]:
    def init(weights: PyTree, own: _Own, loss_at: Callable[..., Array]) -> newton.State:
        return newton.start(_slope(loss_at, own.trains), weights)

    def step(
        weights: PyTree, state: newton.State, own: _Own, i: Array, loss_at: Callable[..., Array]
    ) -> tuple[PyTree, newton.State, Array]:
        weights, state = newton.step(_slope(loss_at, own.trains), weights, state, i)
        return weights, state, state.value

    return init, step


def _slope(loss_at: Callable[..., Array], trains: Int[Array, " n"]) -> newton.Slope:
    """Return loss and slope over all of a member's rows, some at a time."""
    parts = -(-len(trains) // _ROWS)
    at = jnp.resize(trains, (parts, -(-len(trains) // parts)))

    def slope(weights: PyTree) -> tuple[Array, PyTree]:
        part = partial(jax.value_and_grad(loss_at), weights)
        add = lambda total, at: (jax.tree.map(jnp.add, total, part(at)), None)  # noqa: E731
        total, _ = jax.lax.scan(add, part(at[0]), at[1:])
        return jax.tree.map(lambda leaf: leaf / parts, total)

    return slope
