"""What is told of failures: how rows ended and where, and which posterior draws lie there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.ensemble import build_simulator
from simfer.stages.simulate.regions import FEWEST, best_region, by_parameter
from simfer.stages.simulate.simulators.base import (
    DifferentialSimulator,
    FunctionSimulator,
    ODESimulator,
    RandomODESimulator,
    StochasticSimulator,
)

_NEIGHBOURS = 5
_HANDFUL = 10  # rows of a kind below which a region is drawn by chance as much as by them


class Drawn(NamedTuple):
    """What a picture of failures shows: the plane of one or two parameters, and what the failure rate follows."""

    plane: dict[str, Float[np.ndarray, " rows"]]  # the most telling first
    along: tuple[str, Float[np.ndarray, " rows"]]
    cuts: list[float]  # on what the rate follows
    boundary: tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]] | None  # in the plane, where two share the cut


def drawn(z: Float[np.ndarray, "rows size"], failed: Bool[np.ndarray, " rows"], space: Space) -> Drawn:
    """Choose what to draw: the most telling parameters, or the first ones where nothing can be told."""
    mixed = bool(failed.any() and not failed.all())
    names, region = list(by_parameter(z, failed, space) if mixed else space.names), best_region(z, failed, space)
    theta = dict(zip(space.names, np.asarray(space.theta(z)).T, strict=True))
    if region is None or len(region.weights) == 1:
        cuts = [] if region is None else region.cuts(space)
        return Drawn({name: theta[name] for name in names[:2]}, (names[0], theta[names[0]]), cuts, None)
    (a, u), (b, v) = region.weights.items()
    ends = np.zeros((200, len(space.names)))
    x, y = (space.names.index(name) for name in (a, b))
    scores = np.asarray(space.scores(z))
    ends[:, x] = np.linspace(scores[:, x].min(), scores[:, x].max(), len(ends))
    ends[:, y] = (region.low - u * ends[:, x]) / v
    line = np.asarray(space.from_scores(ends))
    plane = {name: theta[name] for name in (a, b)}
    along = (f"{region.label}, in standard normal units", region.along(z, space))
    return Drawn(plane, along, region.cuts(space), (line[:, x], line[:, y]))


def where_it_fails(
    z: Float[np.ndarray, "rows size"], failed: Bool[np.ndarray, " rows"], space: Space, what: str = "row"
) -> str:
    """Say in a sentence where failures lie; "" if there are none."""
    count = int(failed.sum())
    if failed.all() or not count:
        return f"Every {what} failed." if count else ""
    if count < FEWEST:
        points = [", ".join(f"{name} = {value:.4g}" for name, value in zip(space.names, theta, strict=True))
                  for theta in np.asarray(space.theta(z[failed]))]  # fmt: skip
        return f"{count} {what}{'s' * (count > 1)} failed, at {'; at '.join(points)}."
    region = best_region(z, failed, space)
    if region is None:
        return f"No parameter clearly tells the {count} failed {what}s from the others."
    held = region.holds(z, space)
    told = (
        f"The failures lie mostly where {region.words(space)}: {held[failed].mean():.0%} of the failed {what}s are "
        f"there, {held[~failed].mean():.0%} of the others."
    )
    fewest = min(count, len(z) - count)
    kind = "failed" if fewest == count else "did not fail"
    return told + (f" Only {fewest} {what}s {kind}: take this for a hint." if fewest < _HANDFUL else "")


def counts(status: Int[np.ndarray, " rows"]) -> str:
    """Write how many failed, by status."""
    return ", ".join(f"{(status == s).sum():,} {name_of(s)}" for s in Status if s != Status.OK and (status == s).any())


def name_of(status: int) -> str:
    """Return a status as a reader has it: max steps."""
    return Status(int(status)).name.lower().replace("_", " ")


def tables(
    z: Float[np.ndarray, "rows size"],
    status: Int[np.ndarray, " rows"],
    attempt: Int[np.ndarray, " rows"],
    space: Space,
) -> dict[str, list[dict[str, Any]]]:
    """Tabulate how rows ended, and how well each parameter tells the failed ones; nothing if none was ever in doubt."""
    failed = status != Status.OK
    if not failed.any() and (attempt == 1).all():
        return {}
    ended = []
    for s in Status:
        if (here := status == s).any():
            row: dict[str, Any] = {"status": name_of(s), "rows": int(here.sum()), "share": float(here.mean())}
            if (attempt > 1).any():
                row |= {"after_attempt_1": int((here & (attempt == 1)).sum())}
                row |= {"after_attempt_2": int((here & (attempt == 2)).sum())}
            ended.append(row)
    found = {"simulations by status": ended}
    if failed.all() or not failed.any():
        return found
    told = []
    for name, region in by_parameter(z, failed, space).items():
        held = region.holds(z, space)
        told.append({"parameter": name, "fails_where": region.words(space), "failed_there": float(held[failed].mean()),
                     "others_there": float(held[~failed].mean()), "separation": region.separation})  # fmt: skip
    return found | {"where it fails, by each parameter alone (separation: 0 none, 1 perfect)": told}


def cure(settings: Simulate, status: Int[np.ndarray, " rows"]) -> str:
    """Say what helps rows that ended like this, by the kind of simulator: a function has no solver to be set."""
    if settings.kind != "jax":
        return "; or ".join(_whatever_the_kind(settings))
    simulator, stopped = build_simulator(settings), bool((status == Status.MAX_STEPS).any())
    tables = "[simulate.solver]" if settings.retry else "[simulate.solver], or for failed rows alone [simulate.retry]"
    if isinstance(simulator, (ODESimulator, RandomODESimulator)):
        helps = [f"{'more max_steps, or ' * stopped}a stiff solver (Rodas5P), in {tables}"]
    elif stopped and not isinstance(simulator, (FunctionSimulator, StochasticSimulator)):  # it counts steps, then
        helps = [f"more max_steps, in {tables}"]
    else:
        helps = ["a smaller step, in [simulate.solver]"] * isinstance(simulator, DifferentialSimulator)
    return "; or ".join([*helps, *_whatever_the_kind(settings)])


def _whatever_the_kind(settings: Simulate) -> list[str]:
    impossible = 'simulate.failures = "impossible", if parameters that cannot be solved are to have probability zero'
    return ["priors that leave those parameters out", *[impossible] * (settings.failures == "excluded")]


class UnsolvedDraws(NamedTuple):
    """What a check has to say of failures: a sentence on draws that failed, all warnings, and a table of draws."""

    sentence: str
    warnings: list[str]
    share_uncertain: float  # of draws where simulations failed
    table: list[dict[str, Any]]


def unsolved_draws(
    z: Float[np.ndarray, "draws size"],
    status: Int[np.ndarray, " draws"],
    training: Sequence[Simulations],
    space: Space,
) -> UnsolvedDraws:
    """Name the posterior draws that the simulator cannot solve, and those where it failed in training."""
    endings = [rows.endings() for rows in training]
    ended = np.concatenate([status for _, status, _ in endings])
    uncertain = float(among_failed(z, np.concatenate([z for z, _, _ in endings]), ended != Status.OK).mean())
    failed, sentence, warnings = status != Status.OK, "", []
    if failed.any():
        sentence = f"the simulator cannot solve {failed.sum()} of {len(z)} posterior draws ({counts(status)}). "
        sentence += where_it_fails(z, failed, space, "draw")
        warnings.append(sentence)
    if uncertain > 0:
        warnings.append(
            f"{uncertain:.1%} of the posterior draws lie where most of the nearest simulations failed: the emulator "
            "was not trained there, and extrapolates"
        )
    return UnsolvedDraws(sentence, warnings, uncertain, first_failed(z, status, space))


def among_failed(
    draws: Float[np.ndarray, "draws size"], z: Float[np.ndarray, "rows size"], failed: Bool[np.ndarray, " rows"]
) -> Bool[np.ndarray, " draws"]:
    """Say which points lie where more than half of the nearest simulations failed, so that an emulator saw nothing."""
    near = min(_NEIGHBOURS, len(z))
    if not failed.any():
        return np.zeros(len(draws), bool)
    at = KDTree(z).query(draws, near)[1].reshape(len(draws), near)
    return failed[at].mean(axis=1) > 0.5


def first_failed(
    z: Float[np.ndarray, "draws size"], status: Int[np.ndarray, " draws"], space: Space, most: int = 5
) -> list[dict[str, Any]]:
    """List the first draws that could not be solved, each with its number among those simulated."""
    failed = np.flatnonzero(status != Status.OK)[:most]
    theta = space.table(z[failed])
    return [
        {"draw": int(i), "status": name_of(status[i])} | dict(zip(space.names, values.tolist(), strict=True))
        for i, values in zip(failed, theta, strict=True)
    ]
