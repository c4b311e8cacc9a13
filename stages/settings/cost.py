"""What a config leaves open, chosen by what a run of the simulator costs (`simulate.cost`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simfer.stages.settings.fields import seconds

DEAR = 1.0  # s, above which runs are what an answer costs: training takes about a minute
_ROUNDS = 6
_PER_PARAMETER = {True: 10, False: 20}  # runs of the first round; by whether they carry derivatives
_DRAWS = {True: 25, False: 40}  # of a check, which are rows of the next round
_BESIDE = {True: 2, False: 10}  # further runs of a round


def by_cost(given: Mapping[str, Any], least: int) -> Mapping[str, Any]:
    """Return a config with as few runs as it takes, where a run is dear and the config does not say how many.

    Args:
        given: The config as a table, vectors written out; what is wrong in it is said elsewhere.
        least: Rows that a training set is made of.
    """
    simulate = given.get("simulate")
    if not isinstance(simulate, Mapping) or "cost" not in simulate or "table" in simulate:
        return given
    try:
        dear = seconds(simulate["cost"]) >= DEAR
    except ValueError:
        return given
    if not dear:
        return given
    derivatives = simulate.get("derivatives") is True
    parameters = given.get("parameters")
    free = sum(isinstance(each, Mapping) for each in parameters.values()) if isinstance(parameters, Mapping) else 0
    first = max(_PER_PARAMETER[derivatives] * free, 2 * least)
    rounds = {"max_rounds": _ROUNDS, "simulations_per_round": _BESIDE[derivatives]}
    if "model" not in _table(given.get("infer")):  # whose data no row is near to
        rounds["keep"] = first  # in later rounds, of rows near the data: far ones spoil what so few teach
    chosen = {
        "simulate": {"num_simulations": first},
        "check": {"num_draws": _DRAWS[derivatives]},
        "refine": rounds,
    }
    return {**given, **{name: {**more, **_table(given.get(name))} for name, more in chosen.items()}}


def _table(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}
