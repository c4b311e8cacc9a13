"""Whether a solver's answers can be believed: rows of the prior, solved twice before anything is built on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from simfer.stages.errors import Mistake
from simfer.stages.model.likelihood import read_likelihood
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import scaled_floor
from simfer.stages.settings import Problem
from simfer.stages.simulate import design
from simfer.stages.simulate.accuracy import ROWS, Again, Points, in_sigma, solve_again

_RELATIVE = 1e-3  # of an output's largest value in its row; or a hundred times what rtol promises, if that is more
_SIGMA = 0.5  # of the data: less hardly matters, wherever a row of the prior lies


class Gaps(NamedTuple):
    """Two solves of the same rows, at the data."""

    y: Float[np.ndarray, "rows n"]
    exact: Float[np.ndarray, "rows n"]
    relative: Float[np.ndarray, "rows n"]  # their difference, to the output's largest value in the row
    sigma: Float[np.ndarray, "rows n"]  # and to the data's sigma, or NaN

    def large(self, rtol: float) -> Bool[np.ndarray, "rows n"]:
        """Say which are beyond what a tolerance promises by far, and large enough to matter."""
        return (self.relative > max(_RELATIVE, 100.0 * rtol)) & ~(np.abs(self.sigma) <= _SIGMA)


def numerical_mistakes(config: Problem) -> list[Mistake]:
    """List where the simulator's own solver errs by far more than it promises; nothing where no solver has a part.

    The first rows of the design are solved as the config says, and again at tolerances a hundred times tighter, in
    steps of an eighth of the save interval at most. Rows that either cannot solve say nothing.
    """
    space, settings = Space(config.parameters), config.simulate
    again = solve_again(settings, space)
    if again is None:
        return []
    total = settings.num_simulations or ROWS  # none beside a table, before later rounds
    z = design.rows(settings.design, 0, min(ROWS, total), total, space.size, settings.seed)
    points = Points(z, np.arange(len(z)), "simulate-0")
    as_set, exact = again.as_set(points), again.exactly(points)
    if not (ok := as_set.ok & exact.ok).any():
        return []
    index, gaps = _gaps(config, again, as_set.y[ok], exact.y[ok])
    large = gaps.large(settings.solver.rtol)
    if not large.any():
        return []
    tighter = again.in_long_steps(points)
    left, was = (np.abs(solved.y - exact.y)[ok].max() for solved in (tighter, as_set))
    enough = bool(tighter.ok[ok].all() and left < 0.1 * was)
    what = _largest(space, gaps, large, np.asarray(space.theta(z[ok])), lambda at: _place(again.layout, int(index[at])))
    return [Mistake("simulate.solver", f"{what} {_cure(config, again, enough, float(np.abs(gaps.exact).max()))}")]


def _largest(
    space: Space,
    gaps: Gaps,
    large: Bool[np.ndarray, "rows n"],
    theta: Float[np.ndarray, "rows size"],
    place: Callable[[int], str],
) -> str:
    """Say where the largest difference is, how large it is, and how many rows have one."""
    size = np.where(large, np.where(np.isnan(gaps.sigma), gaps.relative, np.abs(gaps.sigma)), 0.0)
    row, at = np.unravel_index(size.argmax(), size.shape)
    named = zip(space.names, theta[row], strict=True)
    where = ", ".join(f"{name} = {value:.4g}" for name, value in named)
    sigma = gaps.sigma[row, at]
    in_sigma = "" if np.isnan(sigma) else f" ({abs(sigma):.3g} times the data's sigma)"
    return (
        f"{place(int(at))} is {gaps.y[row, at]:.6g} as it is solved, and "
        f"{gaps.exact[row, at]:.6g} if solved far more exactly{in_sigma}, where {where}; "
        f"{large.any(axis=1).sum()} of {len(large)} rows of the prior are as far off."
    )


def _floor(config: Problem, again: Again, y: Float[np.ndarray, "rows outputs"]) -> float:
    sizes = {name: float(np.abs(y[:, at]).max(initial=0.0)) for name, at in again.layout.slices.items()}
    return scaled_floor(config.dataset.floor, config.dataset.transform, sizes)


def _gaps(config: Problem, again: Again, y: np.ndarray, exact: np.ndarray) -> tuple[Int[np.ndarray, " n"], Gaps]:
    """Return which outputs are compared, those with data, and how far they are apart.

    Nobody knows those, nor the data's sigma, where a model of one's own says what is observed: then it is all of them.
    """
    layout, largest = again.layout, np.zeros_like(exact)
    for part in layout.slices.values():
        largest[:, part] = np.abs(exact[:, part]).max(axis=1, keepdims=True)
    relative = np.abs(y - exact) / np.maximum(largest, np.finfo(float).tiny)
    if config.infer.model:
        return np.arange(layout.size), Gaps(y, exact, relative, np.full_like(y, np.nan))
    likelihood = read_likelihood(config, layout, config.dataset.transform)
    noise = np.zeros((len(y), likelihood.noise_space.size))  # at its priors' medians
    sigma, index = in_sigma(likelihood, y, exact, noise, _floor(config, again, exact)), likelihood.index
    return index, Gaps(y[:, index], exact[:, index], relative[:, index], sigma)


def _place(layout: Layout, flat: int) -> str:
    """Name an output and the coordinates of one of its values, by its place in the flat vector of all outputs."""
    name = next(name for name, at in layout.slices.items() if at.start <= flat < at.stop)
    output = layout.outputs[name]
    places = np.unravel_index(flat - layout.slices[name].start, output.shape) if output.shape else ()
    coordinates = [f"{dim} = {output.coords[dim][i]:g}" for dim, i in zip(output.dims, places, strict=True)]
    return f"output {name}" + (f" at {', '.join(coordinates)}" if coordinates else "")


def _cure(config: Problem, again: Again, tolerances: bool, largest: float) -> str:
    """Say what to do about it."""
    solver, say = config.simulate.solver, "let the simulator say when (its methods jumps and doses)"
    if solver.fixed_step:
        return (
            f"Steps of dt0 = {solver.dt0:g} are too long for it, or go across a jump: {say}, shorten dt0, or leave "
            "fixed_step out"
        )
    if solver.atol > 1e-3 * largest:
        return f"atol = {solver.atol:g} is not small beside it: give one that is, {1e-6 * largest:.0e} say"
    if tolerances:
        return f"The tolerances are too loose for it: lower rtol ({solver.rtol:g}) and atol ({solver.atol:g})"
    return (
        f"Long steps leap over something short, a pulse or a dose: {say}, or give simulate.solver.max_step "
        f"({again.longest:.3g} finds it here)"
    )
