"""From a config's solver to Diffrax's, and from Diffrax's word on a solve to a status."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float, Int, PyTree

from simfer.stages.model.outputs import Status
from simfer.stages.settings import Solver
from simfer.stages.simulate.solve.rosenbrock import Rodas5P

_STATUS = {
    Status.OK: (diffrax.RESULTS.successful, diffrax.RESULTS.event_occurred),
    Status.MAX_STEPS: (diffrax.RESULTS.max_steps_reached, diffrax.RESULTS.max_steps_rejected),
    Status.STEP_TOO_SMALL: (diffrax.RESULTS.dt_min_reached,),
    Status.NONLINEAR_SOLVE: (diffrax.RESULTS.nonlinear_max_steps_reached, diffrax.RESULTS.nonlinear_divergence),
}


def solvers() -> dict[str, type[diffrax.AbstractSolver[Any]]]:
    """Return what can solve an ordinary differential equation by name: Diffrax's solvers, and ours for stiff ones."""
    found = {name: kind for name, kind in vars(diffrax).items() if _solves_odes(kind)}
    return found | {"Rodas5P": Rodas5P}


def _solves_odes(kind: Any) -> bool:
    if not inspect.isclass(kind) or not issubclass(kind, diffrax.AbstractSolver) or inspect.isabstract(kind):
        return False
    # Others take several terms, as of a stochastic equation or of one split in two.
    return inspect.isclass(getattr(kind, "term_structure", None)) and not kind.__name__.startswith("Abstract")


class Limits(NamedTuple):
    """How exact the steps of a solve must be, and how long they may be: numbers, or what is traced in their place."""

    rtol: Any
    atol: Any
    max_step: Any = None


def limits_of(settings: Solver) -> Limits:
    """Return the limits that a config gives."""
    return Limits(settings.rtol, settings.atol, settings.max_step)


_DEFAULT, _SMALL = Solver().atol, 1e-3  # the absolute tolerance, and the state below which it would be all but blind


def can_shrink(settings: Solver) -> bool:
    """Say whether the absolute tolerance is the default, which shrinks with a small state."""
    return settings.atol == _DEFAULT and not settings.fixed_step


def scaled_atol(settings: Solver, atol: Any, state: PyTree, slope: PyTree, span: float, doses: Any = 0.0) -> Any:
    """Return a row's absolute tolerance: as given, but the default shrinks with a state that is small as a whole.

    A state's size is its largest component at the start or, where all of them are zero, what the doses or the slope
    there would make of it. At 1e-3 or above the default stays as it is; below, it is a millionth of the state: an
    equation in mol/ml is solved as well as the same one in cells.
    """
    if not can_shrink(settings):
        return atol
    size = _largest(state)
    size = jnp.where(size > 0.0, size, jnp.maximum(_largest(slope) * span, _largest(doses)))
    is_small = (size > 0.0) & (size < _SMALL)
    return jax.lax.stop_gradient(jnp.where(is_small, atol * size, atol))


def _largest(tree: PyTree) -> Array:
    return jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(tree)]).max()


def build_solver(settings: Solver, limits: Limits | None = None) -> diffrax.AbstractSolver[Any]:
    """Build the solver of that name; an implicit one solves its own equations to the same tolerances."""
    limits = limits or limits_of(settings)
    solver = solvers()[settings.solver]()
    if hasattr(solver, "scan_kind"):  # of the loop over stages, as diffrax.ForwardMode() sets it
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda leaf: leaf is None)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        tolerances = (limits.rtol, limits.atol, optimistix.rms_norm)
        # By default these are placeholders, which only a solve with an adaptive step fills in.
        solver = eqx.tree_at(lambda s: (s.root_finder.rtol, s.root_finder.atol, s.root_finder.norm), solver, tolerances)
    return solver


class _Stopping(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """A PID controller that gives up where a rejected step cannot become shorter: time has no finer numbers there.

    Diffrax's own `dtmin` is one length for the whole solve, and what is lost at the end may be needed at the start.
    """

    rtol: Any
    atol: Any
    norm: Callable[[PyTree], Any] = optimistix.rms_norm
    max_step: Any = None

    @property
    def _pid(self) -> diffrax.PIDController:
        return diffrax.PIDController(rtol=self.rtol, atol=self.atol, norm=self.norm, dtmax=self.max_step)

    def wrap(self, direction: Any) -> _Stopping:
        """Return itself: time runs forward here."""
        return self

    def init(self, *given: Any) -> tuple[Any, Any]:
        """Choose the first step."""
        return self._pid.init(*given)

    def adapt_step_size(self, *given: Any) -> tuple[Any, ...]:
        """Accept or reject a step, and choose the next one."""
        keep, t0, t1, jump, state, result = self._pid.adapt_step_size(*given)
        # Nine tenths of five units of rounding are, rounded, five of them again.
        lost = ~keep & (t1 - t0 <= 8 * jnp.finfo(jnp.result_type(t0)).eps * jnp.abs(t0))
        return keep, t0, t1, jump, state, diffrax.RESULTS.where(lost, diffrax.RESULTS.dt_min_reached, result)


def build_controller(settings: Solver, limits: Limits | None = None) -> diffrax.AbstractStepSizeController[Any, Any]:
    """Build the step size controller."""
    if settings.fixed_step:
        return diffrax.ConstantStepSize()
    limits = limits or limits_of(settings)
    return _Stopping(limits.rtol, limits.atol, max_step=limits.max_step)


def first_step(
    settings: Solver, controller: Any, term: Any, start: float, stop: float, y: PyTree, args: PyTree
) -> Float[Array, ""]:
    """Return the length of the first step: as given, or by Hairer, Norsett & Wanner (1993), section II.4.

    Asked without one, `diffeqsolve` of Diffrax 0.7 always takes 0.01: it wraps its terms, and Diffrax chooses a step
    for plain ones only. That is none for times in nanoseconds, or in years.
    """
    if settings.dt0 is not None:
        return jnp.asarray(settings.dt0)
    solver = build_solver(settings)
    t1, _ = controller.init(term, start, stop, y, None, args, solver.func, solver.error_order(term))
    return jnp.clip(t1 - start, 0.0, stop - start)


def to_status(result: diffrax.RESULTS) -> Int[Array, "..."]:
    """Translate Diffrax's word on a solve into a `Status`."""
    status = jnp.asarray(int(Status.OTHER), jnp.int8)
    for value, results in _STATUS.items():
        for each in results:
            status = jnp.where(result == each, jnp.int8(value), status)
    return status
