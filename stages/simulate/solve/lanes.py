"""Many ODE solves in few lanes: a lane takes the next row as soon as its own solve has ended.

A vmapped adaptive solve costs its slowest row; here an ensemble costs the mean number of steps. What a step is comes
from `stages.steppers`, how long the next one is from Diffrax's controllers. The loop is `diffrax.diffeqsolve`'s: the
same steps are tried and the same times are interpolated, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from simfer.stages.devices import platform
from simfer.stages.model.outputs import Status
from simfer.stages.settings import Solver
from simfer.stages.simulate.solve.breaks import Breaks, Piece, Within, cross, ends_at_break, first_piece, margin
from simfer.stages.simulate.solve.solvers import (
    Limits,
    build_controller,
    can_shrink,
    first_step,
    scaled_atol,
    to_status,
)
from simfer.stages.simulate.solve.steppers import Step, Stepper


class Lanes(NamedTuple):
    """Where each lane stands. A lane whose row is negative is idle."""

    row: Int[Array, " lanes"]
    status: Int[Array, " lanes"]
    t0: Float[Array, " lanes"]  # from here
    t1: Float[Array, " lanes"]  # to there goes the next step
    y: Float[Array, "size lanes"]
    args: PyTree  # of the vector field
    solver_state: PyTree
    controller_state: PyTree
    next_save: Int[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    atol: Float[Array, " lanes"]
    piece: Piece | None  # among the breaks of the equation, where it has any


class Record(NamedTuple):
    """What has come out so far; a row that is not solved holds inf."""

    outputs: Float[Array, "rows*places outputs"]  # what is recorded at one time lies together in memory
    status: Int[Array, " rows"]
    num_steps: Int[Array, " rows"]
    steps_done: Int[Array, ""]  # by all lanes, idle ones too


@dataclass(frozen=True)
class Engine:
    """The solves of one ODE: `fresh` rows wait for a lane, lanes step, and what they pass is recorded."""

    settings: Solver
    solver: diffrax.AbstractSolver[Any]
    limits: Limits
    terms: Callable[[PyTree], Any]  # args of one row -> its Diffrax terms
    stepper: Stepper
    observe: Callable[..., Float[Array, " outputs"]]  # (t, y, args) of one row -> its flat outputs
    event: Callable[..., Array] | None  # (t, y, args) of one row -> true, or of another sign, where its solve ends
    event_direction: bool | None
    times: Float[np.ndarray, " times"]
    start: float
    stop: float
    width: int  # the number of lanes

    def begin(
        self,
        row: Int[Array, ""],
        y: Float[Array, " size"],
        args: PyTree,
        breaks: Breaks | None = None,
        has_time: Bool[Array, ""] | bool = True,
    ) -> Lanes:
        """Return one row before its first step, as `Lanes` without an axis; what is dosed at the start is in `y`.

        `has_time` says whether all breaks have a time at which they can happen.
        """
        start = jnp.asarray(self.start, y.dtype)
        piece = None if breaks is None else first_piece(breaks, start, start)
        given = self._given(args, piece)
        term, held = self.terms(given), jax.lax.stop_gradient((y, given))
        slope = term.vf(start, *held)
        doses = jnp.zeros(()) if breaks is None else breaks.amounts
        atol = jnp.asarray(scaled_atol(self.settings, self.limits.atol, y, slope, self.stop - self.start, doses))
        controller = self._controller(self.limits.atol)
        dt0 = first_step(self.settings, controller, term, self.start, self.stop, *held).astype(y.dtype)
        if can_shrink(self.settings):  # else, and wherever it has not, the first step is that of the plain tolerance
            shrunk = first_step(self.settings, self._controller(atol), term, self.start, self.stop, *held)
            dt0 = jnp.where(atol < self.limits.atol, shrunk.astype(y.dtype), dt0)
        order = self.solver.error_order(term)
        t1, controller_state = controller.init(term, start, self.stop, held[0], dt0, held[1], self.solver.func, order)
        t1 = jnp.minimum(t1, self.stop)
        finite = jnp.isfinite(t1) & jnp.isfinite(y).all()
        if piece is not None:
            piece = piece._replace(planned=t1)
            t1 = ends_at_break(piece, t1, self.margin)
        solver_state = self.stepper.init(start, t1, y, given, atol)
        status = jnp.where(finite, jnp.int8(Status.OK), jnp.int8(Status.NOT_FINITE))
        status = status if has_time is True else jnp.where(has_time, status, jnp.int8(Status.OTHER))
        zero = jnp.asarray(0, jnp.int32)
        return Lanes(row, status, start, t1, y, args, solver_state, controller_state, zero, zero, atol, piece)

    @property
    def margin(self) -> float:
        """How near to a break is at the break."""
        return margin(self.start, self.stop)

    def _controller(self, atol: Any) -> diffrax.AbstractStepSizeController[Any, Any]:
        return build_controller(self.settings, self.limits._replace(atol=atol))

    def _given(self, args: PyTree, piece: Piece | None) -> PyTree:
        """Return what the vector field is given: the row's parameters, and the piece that a step is in."""
        if piece is None:
            return args
        low, high = jax.lax.stop_gradient((piece.since + self.margin, piece.until - self.margin))
        return Within(args, low, high)

    def solve(self, fresh: Lanes, count: Int[Array, ""], first: Float[Array, "outputs rows"] | None = None) -> Record:
        """Solve the first `count` of the fresh rows, which are `Lanes` with the rows in the place of lanes.

        `first` are the outputs at the first save time, where they are known: those before a dose at the start.
        """
        rows = len(fresh.row)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype), fresh)
        size = jax.eval_shape(self.observe, one.t0, one.y, one.args).size
        record = Record(  # with a place more than there are, for what belongs nowhere
            jnp.full((rows * self.places + self.saves_per_step, size), jnp.inf, fresh.y.dtype),
            jnp.full(rows + 1, int(Status.PENDING), jnp.int8),
            jnp.zeros(rows + 1, jnp.int32),
            jnp.asarray(0),
        )
        if first is not None:
            here = np.arange(rows) * self.places
            record = record._replace(outputs=record.outputs.at[here].set(first.T))
            fresh = fresh._replace(next_save=jnp.ones_like(fresh.next_save))
        waiting, next_row = _Waiting(fresh, count), jnp.asarray(0, jnp.int32)
        lanes = jax.tree.map(lambda leaf: leaf[..., np.zeros(self.width, int)], fresh)
        lanes = lanes._replace(row=jnp.full(self.width, -1, fresh.row.dtype))
        # The last rows go on in fewer lanes: one hard row at the end must not drag all of them along. A loop of another
        # width is compiled for it, which takes longer than a thousand rows do.
        narrow = max(self.width // 16, 8) if self.width >= 64 and rows >= 1024 else 0
        lanes, next_row, record = self._drain(lanes, next_row, record, waiting, narrow)
        if narrow:
            busy_first = jnp.argsort(lanes.row < 0, stable=True)[:narrow]
            lanes = jax.tree.map(lambda leaf: leaf[..., busy_first], lanes)
            record = self._drain(lanes, next_row, record, waiting, 0)[2]
        outputs = record.outputs[: rows * self.places].reshape(rows, self.places, size)[:, : len(self.times)]
        return Record(outputs.reshape(-1, size), record.status[:-1], record.num_steps[:-1], record.steps_done)

    def _drain(
        self, lanes: Lanes, next_row: Array, record: Record, waiting: _Waiting, until: int
    ) -> tuple[Lanes, Array, Record]:
        """Go on until no more than `until` rows are left, and the others are recorded."""
        width = len(lanes.row)

        def left(state: tuple[Lanes, Array, Record]) -> Array:
            lanes, next_row, _ = state
            return (lanes.row >= 0).sum(dtype=jnp.int32) + (waiting.num - next_row) > until

        def turn(state: tuple[Lanes, Array, Record]) -> tuple[Lanes, Array, Record]:
            lanes, next_row, record = state
            # Refilling costs about a step: it waits until a few lanes are idle.
            enough = jnp.where(next_row < waiting.num, width - max(width // 32, 1), until)
            lanes, record = self._go(lanes, record, enough)
            return self._refill(lanes, next_row, record, waiting)

        return jax.lax.while_loop(left, turn, (lanes, next_row, record))

    def _go(self, lanes: Lanes, record: Record, enough: Array) -> tuple[Lanes, Record]:
        """Step until no more than `enough` lanes run."""

        def busy(state: tuple[Lanes, Record, Array]) -> Array:
            return state[2] > enough

        def step(state: tuple[Lanes, Record, Array]) -> tuple[Lanes, Record, Array]:
            lanes, record = self.advance(*state[:2])
            return lanes, record, self.running(lanes).sum(dtype=jnp.int32)

        state = (lanes, record, self.running(lanes).sum(dtype=jnp.int32))
        return jax.lax.while_loop(busy, step, state)[:2]

    def running(self, lanes: Lanes) -> Bool[Array, " lanes"]:
        """Say which lanes have a row that is not done."""
        going = (lanes.t0 < self.stop) & (lanes.status == Status.OK) & (lanes.num_steps < self.settings.max_steps)
        return (lanes.row >= 0) & going

    def _refill(self, lanes: Lanes, next_row: Array, record: Record, waiting: _Waiting) -> tuple[Lanes, Array, Record]:
        """Record the rows that have ended, and give their lanes the next ones."""
        free = ~self.running(lanes)
        ended = jnp.where(free, lanes.row, -1)  # negative, too, where it was idle
        unfinished = (lanes.status == Status.OK) & (lanes.t0 < self.stop)
        status = jnp.where(unfinished, jnp.int8(Status.MAX_STEPS), lanes.status)
        record = record._replace(
            status=_put(record.status, [status], ended),
            num_steps=_put(record.num_steps, [lanes.num_steps], ended),
        )
        place = next_row + jnp.cumsum(free, dtype=jnp.int32) - 1
        take = free & (place < waiting.num)
        at = jnp.clip(place, 0, len(waiting.fresh.row) - 1)
        lanes = lanes._replace(row=jnp.where(free, -1, lanes.row))
        lanes = jax.tree.map(lambda old, new: jnp.where(take, new[..., at], old), lanes, waiting.fresh)
        return lanes, next_row + take.sum(dtype=jnp.int32), record

    def advance(self, lanes: Lanes, record: Record) -> tuple[Lanes, Record]:
        """Try one step in every lane; record the save points that it passes."""
        given = self._given(lanes.args, lanes.piece)
        step = self.stepper.step(lanes.t0, lanes.t1, lanes.y, given, lanes.solver_state, lanes.atol)
        keep, t0, t1, controller_state, status = self._adapt(lanes, step)
        running = self.running(lanes)
        ends = self._event_time(lanes, step, keep & running)
        over = ends < jnp.inf
        next_save, record = self._save(lanes, step, keep & running, ends, record)
        # Where more save points were passed than one step records, the step is taken once more for the next ones.
        go = running & ~(keep & self._is_due(lanes, next_save, over))
        there, t0 = go & keep, jnp.where(over, self.stop, t0)
        moved = lanes._replace(
            status=jnp.where(go, status, lanes.status),
            t0=jnp.where(go, t0, lanes.t0),
            t1=jnp.where(go, t1, lanes.t1),
            y=jnp.where(there, step.y, lanes.y),
            solver_state=_where(there, step.solver_state, lanes.solver_state),
            controller_state=_where(go, controller_state, lanes.controller_state),
            next_save=next_save,
            num_steps=lanes.num_steps + go.astype(jnp.int32),
        )
        if lanes.piece is not None:
            moved = self._past_break(moved, lanes, go, keep & ~over)
        return moved, record._replace(steps_done=record.steps_done + len(lanes.row))

    def _past_break(self, moved: Lanes, lanes: Lanes, go: Array, goes_on: Array) -> Lanes:
        """Let lanes that have arrived at a break begin anew behind it, and end the next steps at the next ones.

        `go` says who has done with a step, `goes_on` where it was taken and no event ends the solve.
        """
        assert lanes.piece is not None
        here = go & goes_on & (lanes.t1 >= lanes.piece.until)
        cut = here & (lanes.piece.planned > lanes.piece.until + self.margin)
        # Steps of one length go on where they would have ended; the length of others follows from the step's error.
        again = cut if self.settings.fixed_step else jnp.zeros_like(cut)
        # A rejected step begins again where it did, also if that moves with a parameter.
        begins = jnp.where(moved.t0 > lanes.t0, moved.t0, lanes.t0)
        t0 = jnp.where(here, lanes.piece.until, begins)
        planned = jnp.where(again | ~go, lanes.piece.planned, moved.t1)
        state = _where(again, lanes.controller_state, moved.controller_state)
        moved, stay = moved._replace(t0=t0, controller_state=state), lanes.piece._replace(planned=planned)

        def arrive() -> tuple[Piece, Array, PyTree]:
            piece, y = cross(stay, here, moved.y)
            begun = jax.vmap(self.stepper.init, in_axes=-1, out_axes=-1)
            state = begun(t0, planned, y, self._given(lanes.args, piece), lanes.atol)
            return piece, y, _where(here, state, moved.solver_state)

        piece, y, state = jax.lax.cond(here.any(), arrive, lambda: (stay, moved.y, moved.solver_state))
        end = ends_at_break(piece, planned, self.margin)
        return moved._replace(t1=end, y=y, solver_state=state, piece=piece)

    def _adapt(self, lanes: Lanes, step: Step) -> tuple[Array, Array, Array, PyTree, Array]:
        """Accept or reject a step, and choose the next one; as `diffeqsolve` does after its step."""
        one_row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[:-1], leaf.dtype), lanes.args)
        order: Any = self.solver.error_order(self.terms(one_row))

        def one(t0: Any, t1: Any, y0: Any, y1: Any, error: Any, state: Any, atol: Any) -> tuple[Any, ...]:
            if error is not None:
                error = jnp.where(jnp.isnan(error), jnp.inf, error)
            keep, next_t0, next_t1, _, state, result = self._controller(atol).adapt_step_size(
                t0, t1, y0, y1, None, error, order, state
            )
            keep, next_t0 = jnp.asarray(keep), jnp.minimum(next_t0, self.stop)
            to_end = jnp.where(keep, self.stop, next_t0 + 0.5 * (t1 - next_t0))
            next_t1 = jnp.where(next_t1 > _just_before(self.stop), to_end, next_t1)
            return keep, next_t0, next_t1, state, to_status(result)

        given = (lanes.t0, lanes.t1, lanes.y, step.y, step.error, lanes.controller_state, lanes.atol)
        # A derivative is that of the solution by these steps (stages.derivatives).
        keep, t0, t1, state, status = jax.vmap(one, in_axes=-1, out_axes=-1)(*jax.lax.stop_gradient(given))
        return keep, t0, t1, state, jnp.where(keep & (step.status != Status.OK), step.status, status)

    def _save(
        self, lanes: Lanes, step: Step, kept: Bool[Array, " lanes"], ends: Float[Array, " lanes"], record: Record
    ) -> tuple[Array, Record]:
        """Record up to `saves_per_step` of the save points that a step has passed; after an event, its state."""
        saves, passed = [], jnp.zeros_like(lanes.next_save)
        for save in (lanes.next_save + k for k in range(self.saves_per_step)):
            due = kept & self._is_due(lanes, save, ends < jnp.inf)
            t = jnp.minimum(self._time(save), ends)
            y = self.stepper.interpolate(lanes.t0, lanes.t1, step.dense, t)
            seen = jax.vmap(self.observe, in_axes=-1, out_axes=-1)(t, y, lanes.args)
            saves.append(jnp.where(due, seen, jnp.inf))  # what is not passed yet a later step writes again
            passed += due
        at = jnp.where(passed > 0, lanes.row * self.places + lanes.next_save, -1)
        outputs = _put(record.outputs, saves, at)
        return lanes.next_save + passed, record._replace(outputs=outputs)

    def _is_due(self, lanes: Lanes, save: Int[Array, " lanes"], over: Bool[Array, " lanes"]) -> Bool[Array, " lanes"]:
        return (self._time(save) <= lanes.t1) | (over & (save < len(self.times)))

    def _event_time(self, lanes: Lanes, step: Step, kept: Bool[Array, " lanes"]) -> Float[Array, " lanes"]:
        """Return when a step's event ends the solve, infinity where none does."""
        never = jnp.full_like(lanes.t0, jnp.inf)
        if self.event is None:
            return never
        value = jax.vmap(self.event, in_axes=-1, out_axes=-1)
        before, after = value(lanes.t0, lanes.y, lanes.args), value(lanes.t1, step.y, lanes.args)
        if before.dtype == bool:  # known at the ends of steps alone
            return jnp.where(kept & (before | after), jnp.where(before, lanes.t0, lanes.t1), never)
        happened = kept & has_crossed(before, after, self.event_direction)

        def at(t: Float[Array, " lanes"]) -> Array:
            return value(t, self.stepper.interpolate(lanes.t0, lanes.t1, step.dense, t), lanes.args)

        def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            passed = has_crossed(before, at(middle), self.event_direction)
            return jnp.where(passed, low, middle), jnp.where(passed, middle, high)

        def locate() -> Array:
            t = jax.lax.fori_loop(0, 50, halve, (lanes.t0, lanes.t1))[1]
            there, speed = jax.jvp(at, (t,), (jnp.ones_like(t),))
            # Nothing is added to the time but its derivative: an event moves by - dg/dtheta / (dg/dt).
            held, speed = jax.lax.stop_gradient((there, jnp.where(speed == 0.0, 1.0, speed)))
            return t - (there - held) / speed

        return jnp.where(happened, jax.lax.cond(happened.any(), locate, lambda: never), never)

    @property
    def saves_per_step(self) -> int:
        """How many save points one step records: with hundreds of them, a step passes several."""
        return int(np.clip(len(self.times) // 64, 1, 8))

    @property
    def places(self) -> int:
        """How many places for outputs a row has: what one step records from its last save time on fits into them."""
        return len(self.times) + self.saves_per_step - 1

    def _time(self, index: Int[Array, " lanes"]) -> Float[Array, " lanes"]:
        return jnp.append(jnp.asarray(self.times), jnp.inf)[index]


def has_crossed(before: Array, after: Array, direction: bool | None) -> Bool[Array, "..."]:
    """Say whether a value has changed its sign, upwards or downwards where a direction is given, as in Diffrax."""
    if direction is None:
        return jnp.sign(before) != jnp.sign(after)
    return (before <= 0) & (after > 0) if direction else (before > 0) & (after <= 0)


class _Waiting(NamedTuple):
    fresh: Lanes
    num: Int[Array, ""]


def _put(into: Shaped[Array, "places *n"], new: Sequence[Shaped[Array, "*n lanes"]], at: Int[Array, " lanes"]) -> Array:
    """Put what is new from its place on; at a negative place, to the end, which is for what belongs nowhere."""
    end = into.shape[0] - len(new)
    if platform() == "cpu":
        # One after the other: XLA makes one piece of machine code of a loop, but of none that has a scatter in it.
        def put(lane: Any, into: Array) -> Array:
            each = jnp.stack([jax.lax.dynamic_index_in_dim(one, lane, axis=-1, keepdims=False) for one in new])
            return jax.lax.dynamic_update_slice_in_dim(into, each, place[lane], 0)

        place = jnp.where(at < 0, end, at)
        return jax.lax.fori_loop(0, len(at), put, into)
    # No place twice, or a derivative costs a look at all of them; those beyond the end are dropped.
    nowhere = into.shape[0] + len(new) * jnp.arange(len(at), dtype=jnp.int32)
    places = jnp.where(at < 0, nowhere, at)[:, None] + jnp.arange(len(new), dtype=jnp.int32)
    return into.at[places].set(jnp.moveaxis(jnp.stack(new), -1, 0), mode="drop", unique_indices=True)


def _where(choose: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(choose, a, b), new, old)


def _just_before(t: float) -> float:
    """Return a time a hundred units of rounding earlier: a step that ends after it is made to end at `t`."""
    return float(t - 100 * np.spacing(t))
