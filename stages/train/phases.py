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
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt32

from simfer.stages.batches import Effort, compiled, compiler_options
from simfer.stages.devices import num_programs, platform
from simfer.stages.settings import Train
from simfer.stages.threads import map_in_threads
from simfer.stages.train import newton
from simfer.stages.train.feed import Feed, Rows, padded_size
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

    key: UInt32[Array, "2"]  # the data of one, which NumPy holds
    trains: Int[Array, " n"]  # filled up, as `stops` are, to a number that is compiled for
    stops: Int[Array, " m"]


class _Counts(NamedTuple):
    """How many of them count, the first ones."""

    trains: Any
    stops: Any


def phases(
    settings: Train,
    static: PyTree,
    loss: Loss,
    feed: Feed,
    keys: PRNGKeyArray,
    devices: Sequence[Any],
    averaging: float = 0.0,
) -> list[Phase]:
    """List the phases that settings ask for; the finish takes all rows at a time, which a stream has not.

    `averaging` is the share of a running average of weights that a step of the optimizer keeps; 0 averages none.
    """

    def in_part(rows: Rows, robust: bool | float) -> Callable[..., Array]:
        def of_some(weights: PyTree, at: Array, count: Array | None = None) -> Array:
            real = None if count is None else jnp.arange(len(at)) < count
            return loss(eqx.combine(weights, static), rows.pick(at)._replace(real=real), robust)

        return of_some

    # Among a fifth of the rows a single wild one would choose the weights: it is what changes most from look to look.
    losses = [partial(in_part, robust=robust) for robust in (settings.robust, settings.robust or True)]
    # Muon's time goes into products, which on a processor are no code of XLA's: by its best it ran 0 to 4 % faster.
    effort: Effort = "little" if settings.optimizer == "muon" and platform() == "cpu" else "most"
    make = partial(_phase, losses=losses, feed=feed, keys=keys, devices=devices)
    steps = _averaged(averaging, *_descending(settings, feed))
    first = make(settings.steps, _CHUNK, settings.patience, settings.dtype, *steps, effort=effort)
    if not settings.finish_steps or feed.window is not None:
        return [first]
    return [first, make(settings.finish_steps, _FINISH_CHUNK, _FINISH_PATIENCE, "float64", *_newton(), effort="most")]


def _phase(
    steps: int,
    chunk: int,
    patience: int,
    dtype: str,
    init: Callable[..., PyTree],
    step: Callable[..., Any],
    *,
    losses: Sequence[Callable[[Rows], Callable[..., Array]]],
    feed: Feed,
    keys: PRNGKeyArray,
    devices: Sequence[Any],
    effort: Effort,
) -> Phase:
    loss_in, stopped_by = losses  # given rows, each is a function of weights and of some of the rows

    def start(weights: PyTree, own: _Own, counts: _Counts, rows: Rows) -> PyTree:
        return init(weights, own, counts.trains, loss_in(rows))

    def advance(
        weights: PyTree, state: PyTree, own: _Own, counts: _Counts, rows: Rows, unseen: Rows, at: Array, num: int
    ) -> Any:
        def body(carry: tuple[PyTree, PyTree], i: Array) -> Any:
            weights, state, value = step(*carry, own, counts.trains, i, loss_in(rows))
            return (weights, state), value

        (weights, state), values = jax.lax.scan(body, (weights, state), at + jnp.arange(num))
        return weights, state, values.mean(), stopped_by(unseen)(weights, own.stops, counts.stops)

    rows = feed.rows.filled(padded_size(len(feed.rows.x))).typed(dtype)
    own = _Own(jax.random.key_data(keys), *jax.device_put((_filled(feed.trains), _filled(feed.stops))))
    counts = _Counts(np.asarray(feed.trains.shape[1]), np.asarray(feed.stops.shape[1]))
    advanced = _side_by_side(advance, "mmmaaaa", devices, effort)
    begin = _side_by_side(start, "mmaa", devices, effort)

    def go_on(weights: PyTree, state: PyTree, at: int, num: int) -> Result:
        training, members, counted = rows, own, counts
        if feed.window is not None:
            window, trains = feed.window(at // chunk)
            training, members = window.typed(dtype), own._replace(trains=jax.device_put(trains))
            counted = counts._replace(trains=np.asarray(trains.shape[1]))
        *moved, train, validation = advanced(weights, state, members, counted, training, rows, np.asarray(at), num)
        return moved[0], moved[1], np.asarray(train), np.asarray(validation)

    return Phase(steps, chunk, patience, dtype, lambda weights: begin(weights, own, counts, rows), go_on)


def _filled(numbers: Int[np.ndarray, "members n"]) -> Int[np.ndarray, "members padded"]:
    """Fill each member's row numbers up."""
    count = numbers.shape[1]
    return np.pad(numbers, ((0, 0), (0, padded_size(count) - count)), mode="edge")


def _side_by_side(
    function: Callable[..., Any], kinds: str, devices: Sequence[Any], effort: Effort
) -> Callable[..., Any]:
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

    if len(devices) > 1:
        return jax.jit(all_members, static_argnums=len(kinds), compiler_options=compiler_options(effort))
    programs: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def program(share: Sequence[Any], fixed: tuple[Any, ...]) -> Callable[..., Any]:
        key = (*fixed, len(jax.tree.leaves(share[0])[0]))
        if key not in programs:  # shapes stay; what another round has compiled is found by what it says
            programs[key] = compiled(lambda *arrays: all_members(*arrays, *fixed), *share, effort=effort)
        return programs[key]

    def shared(*arguments: Any) -> Any:
        arrays, fixed = arguments[: len(kinds)], arguments[len(kinds) :]
        sizes = _shares(len(jax.tree.leaves(arrays[0])[0]))
        if len(sizes) == 1:
            return program(arrays, fixed)(*arrays)
        starts = np.cumsum([0, *sizes[:-1]])
        shares = [_cut(kinds, arrays, start, size) for start, size in zip(starts, sizes, strict=True)]
        list(map_in_threads(partial(program, fixed=fixed), dict(zip(sizes, shares, strict=True)).values(), len(sizes)))
        done = map_in_threads(lambda share: program(share, fixed)(*share), shares, len(sizes))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *done)

    return shared


def _shares(count: int) -> list[int]:
    """Share members out among a processor's cores, to each two at least: one takes nearly as long as two.

    A step's products are too small to be shared out themselves: on two cores they take as long as on one.
    """
    shares = max(1, min(num_programs(), count // 2))
    return [len(part) for part in np.array_split(np.arange(count), shares)]


def _cut(kinds: str, arrays: Sequence[Any], start: int, size: int) -> list[Any]:
    """Cut some members out of what has an axis over them."""

    def cut(kind: str, array: Any) -> Any:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[start : start + size], array) if kind == "m" else array

    return list(map(cut, kinds, arrays))


def _descending(settings: Train, feed: Feed) -> tuple[Callable[..., Any], Callable[..., Any]]:
    optim, size = optimizer(settings), settings.batch_size
    assert size is not None  # as `Train.descending` gives it
    in_batches = size < feed.trains.shape[1] or feed.window is not None

    def step(
        weights: PyTree, state: PyTree, own: _Own, count: Array, i: Array, loss_at: Callable[..., Array]
    ) -> tuple[PyTree, PyTree, Array]:
        at, real = own.trains, None if in_batches else count
        if in_batches:
            key = jax.random.fold_in(jax.random.wrap_key_data(own.key), i)
            at = at[jax.random.randint(key, (size,), 0, count)]
        value, slope = jax.value_and_grad(loss_at)(weights, at, real)
        updates, state = optim.update(slope, state, weights)
        return optax.apply_updates(weights, updates), state, value

    return lambda weights, own, count, loss_at: optim.init(weights), step


def _averaged(
    kept: float, start: Callable[..., Any], step: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make weights the running average (Polyak & Juditsky 1992) of those that descend, which are a part of the state.

    What is looked at and kept is the average: much of what trainings differ by is the last batches that each has seen.
    """
    if not kept:
        return start, step

    def begin(weights: PyTree, own: _Own, count: Array, loss_at: Callable[..., Array]) -> PyTree:
        return weights, start(weights, own, count, loss_at)

    def go_on(
        weights: PyTree, state: PyTree, own: _Own, count: Array, i: Array, loss_at: Callable[..., Array]
    ) -> tuple[PyTree, PyTree, Array]:
        moved, state, value = step(*state, own, count, i, loss_at)
        share = jnp.minimum(kept, (1.0 + i) / (10.0 + i))  # what is far behind at first is soon forgotten
        mean = jax.tree.map(lambda old, new: old + (1.0 - share).astype(old.dtype) * (new - old), weights, moved)
        return mean, (moved, state), value

    return begin, go_on


def _newton() -> tuple[Callable[..., Any], Callable[..., Any]]:
    def init(weights: PyTree, own: _Own, count: Array, loss_at: Callable[..., Array]) -> newton.State:
        return newton.start(_slope(loss_at, own.trains, count), weights)

    def step(
        weights: PyTree, state: newton.State, own: _Own, count: Array, i: Array, loss_at: Callable[..., Array]
    ) -> tuple[PyTree, newton.State, Array]:
        weights, state = newton.step(_slope(loss_at, own.trains, count), weights, state, i)
        return weights, state, state.value

    return init, step


def _slope(loss_at: Callable[..., Array], trains: Int[Array, " n"], count: Array) -> newton.Slope:
    """Return loss and slope over the member's rows that count, some at a time: as many in each part, but for the last.

    How many parts there are is known when it runs, so that rows which only fill up cost nothing.
    """
    parts = -(-count // _ROWS)
    size = -(-count // parts)
    trains = jnp.pad(trains, (0, _ROWS))

    def slope(weights: PyTree) -> tuple[Array, PyTree]:
        def part(i: Array) -> tuple[Array, PyTree]:
            at, real = jax.lax.dynamic_slice(trains, (i * size,), (_ROWS,)), jnp.minimum(size, count - i * size)
            found = jax.value_and_grad(loss_at)(weights, at, real)
            return jax.tree.map(lambda leaf: leaf * real.astype(leaf.dtype), found)

        add = lambda i, total: jax.tree.map(jnp.add, total, part(i))  # noqa: E731
        total = jax.lax.fori_loop(1, parts, add, part(jnp.asarray(0)))
        return jax.tree.map(lambda leaf: leaf / count.astype(leaf.dtype), total)

    return slope
