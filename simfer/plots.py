"""Pictures of a result, as Matplotlib figures: to look at, to change, to save for a paper.

Each takes what `simfer.run` or `simfer.load` returned, and draws what lies on disk; nothing is computed anew. `[plots]`
of the config says how they look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simfer.pipeline import chain, runtime
from simfer.pipeline.chain import SimferError
from simfer.pipeline.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["design", "posterior", "predictive", "prior_posterior", "trace", "verdict"]


def posterior(
    result: Result,
    *,
    names: Sequence[str] | None = None,
    truth: Mapping[str, float] | None = None,
    best: Mapping[str, float] | None = None,
) -> Figure:
    """Draw every marginal and every pair of parameters: the regions that hold 50 % and 90 % of the draws.

    Args:
        result: What `simfer.run` or `simfer.load` returned.
        names: The parameters to draw, at most ten; the first ten if left out.
        truth: Values to mark as the truth, by parameter, in its unit; some may lack.
        best: Values to mark as the best fit, likewise.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        SimferError: There is no posterior yet, or no such parameter.

    Example:
        >>> import simfer
        >>> figure = simfer.plots.posterior(simfer.load("line.toml"), truth={"speed": 1.2})
        >>> figure.savefig("posterior.pdf")
    """
    return _figure(result, "posterior", names=names, truth=truth, best=best)


def prior_posterior(
    result: Result, *, names: Sequence[str] | None = None, truth: Mapping[str, float] | None = None
) -> Figure:
    """Draw each parameter's posterior over its prior.

    Args:
        result: What `simfer.run` or `simfer.load` returned.
        names: The parameters to draw; all, up to 24, if left out.
        truth: Values to mark, by parameter, in its unit.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        SimferError: There is no posterior yet, or no such parameter.

    Example:
        >>> import simfer
        >>> len(simfer.plots.prior_posterior(simfer.load("line.toml")).axes)
        2
    """
    return _figure(result, "prior_posterior", names=names, truth=truth)


def trace(result: Result, *, names: Sequence[str] | None = None) -> Figure:
    """Draw each parameter chain by chain: its density and its trace.

    Args:
        result: What `simfer.run` or `simfer.load` returned.
        names: The parameters to draw; the first twenty if left out.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        SimferError: There is no posterior yet, or no such parameter.

    Example:
        >>> import simfer
        >>> len(simfer.plots.trace(simfer.load("line.toml"), names=["speed"]).axes)
        2
    """
    return _figure(result, "trace", names=names)


def predictive(result: Result, *, outputs: Sequence[str] | None = None) -> Figure:
    """Draw the data on the intervals in which the posterior expects data.

    Args:
        result: What `simfer.run` or `simfer.load` returned.
        outputs: The outputs to draw; all that were measured if left out.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        SimferError: There is no posterior yet, or no such output.

    Example:
        >>> import simfer
        >>> len(simfer.plots.predictive(simfer.load("line.toml")).axes)
        1
    """
    return _figure(result, "predictive", outputs=outputs)


def verdict(result: Result) -> Figure:
    """Draw how much of its limit each figure of the verdict uses up.

    Args:
        result: What `simfer.run` or `simfer.load` returned.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        SimferError: There is no verdict yet.

    Example:
        >>> import simfer
        >>> len(simfer.plots.verdict(simfer.load("line.toml")).axes)
        1
    """
    return _figure(result, "verdict")


def design(result: Result) -> Figure:
    """Draw where the simulator ran last, and how it ended there.

    Args:
        result: What `simfer.run` or `simfer.load` returned.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        SimferError: Nothing has been simulated yet.

    Example:
        >>> import simfer
        >>> len(simfer.plots.design(simfer.load("line.toml")).axes)  # two marginals and a pair
        3
    """
    return _figure(result, "design")


def _figure(result: Result, name: str, **options: Any) -> Figure:
    if result.asked is None:
        raise SimferError("got a Result of neither simfer.run nor simfer.load: it does not know its config")
    runtime.prepare()
    figure: Figure = chain.gallery(result.asked.problem, result.folders).figure(name, **options)
    return figure
