"""Several experiments with one simulator, written out: outputs of each as `EXPERIMENT.OUTPUT`, parameters shared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from simfer.stages.settings.fields import Settings
from simfer.stages.settings.observation import Source

Table = dict[str, Any]


class Experiment(Settings):
    """One experiment: what the simulator is made with there, and its data."""

    options: Table = {}
    """Arguments of the simulator's constructor, on top of [simulate.options]."""
    observation: Source
    """The experiment's data, under the simulator's own names."""


def written_out(given: Mapping[str, Any]) -> Table:
    """Return a config whose experiments are outputs of one simulator, each with data, noise and parameters of its own.

    What is inferred of an output's noise is shared by all experiments; a parameter with `per = "experiment"` is not.
    """
    names = list(given["experiments"])
    if wrong := [name for name in names if not re.fullmatch(r"[^\W\d]\w*", name)]:
        raise ValueError(f"experiments.{wrong[0]}: expected a name of letters, digits and underscores")
    if wrong := [name for name in names if name in Source.model_fields]:
        raise ValueError(f"experiments.{wrong[0]}: the name is that of a key of [observation]; take another")
    parameters = dict(given.get("parameters", {}))
    each = [
        name for name, value in parameters.items() if isinstance(value, Mapping) and _is_per_experiment(name, value)
    ]
    noise, shared = _shared(given.get("noise", {}))
    out = dict(given)
    out["parameters"] = _parameters(parameters, each, names)
    out["noise"] = _by_experiment(noise, names)
    out["noise_parameters"] = dict(given.get("noise_parameters", {})) | shared
    options = {name: table.get("options", {}) for name, table in given["experiments"].items()}
    out["simulate"] = {**given.get("simulate", {}), "experiments": options, "each": each}
    sources = {name: {**table.get("observation", {}), "prefix": f"{name}."}
               for name, table in given["experiments"].items()}  # fmt: skip
    out["observation"] = {**given.get("observation", {}), **sources}
    if isinstance(dataset := given.get("dataset"), Mapping):
        out["dataset"] = {
            key: {f"{name}.{output}": value for name in names for output, value in inner.items()}
            if key in ("transform", "pca") and isinstance(inner, Mapping)
            else inner
            for key, inner in dataset.items()
        }
    return out


def _is_per_experiment(name: str, prior: Mapping[str, Any]) -> bool:
    if "per" not in prior:
        return False
    if prior["per"] != "experiment":
        raise ValueError(f'parameters.{name}.per: got {prior["per"]!r}, expected "experiment"')
    return True


def _parameters(parameters: Table, each: list[str], experiments: list[str]) -> Table:
    found: Table = {}
    for name, value in parameters.items():
        if name not in each:
            found[name] = value
            continue
        prior = {key: inner for key, inner in value.items() if key != "per"}
        for experiment in experiments:
            found[f"{name}.{experiment}"] = {
                key: _renamed(inner, each, lambda word, here=experiment: f"`{word}.{here}`")
                if key not in ("dist", "unit", "label")
                else inner
                for key, inner in prior.items()
            }
    return found


def _shared(noise: Mapping[str, Any]) -> tuple[Table, Table]:
    """Take the priors out of the noise, under the names that they have in the posterior."""
    kept, shared = {}, {}
    for output, table in noise.items():
        kept[output] = dict(table) if isinstance(table, Mapping) else table
        for key, value in kept[output].items() if isinstance(table, Mapping) else ():
            if isinstance(value, Mapping) and "dist" in value:
                shared[f"{output}_{key}"] = value
                kept[output][key] = f"`{output}_{key}`"
    return kept, shared


def _by_experiment(noise: Mapping[str, Any], experiments: list[str]) -> Table:
    own = {name: table for name, table in noise.items() if name.partition(".")[0] in experiments and "." in name}
    found: Table = {}
    for output, table in noise.items():
        for experiment in experiments if output not in own else ():
            found[f"{experiment}.{output}"] = _of_experiment(table, output, experiment)
    return found | own


def _of_experiment(table: Any, output: str, experiment: str) -> Any:
    """Return an output's noise with the output's name in formulas that of the experiment."""
    if not isinstance(table, Mapping):
        return table
    here = f"`{experiment}.{output}`"
    return {
        key: value if key in ("dist", "covariance") else _renamed(value, [output], lambda _: here)
        for key, value in table.items()
    }


def _renamed(value: Any, names: Iterable[str], rename: Any) -> Any:
    """Write other names into a formula."""
    if not isinstance(value, str):
        return value
    for name in names:
        value = re.sub(rf"(?<![\w.`]){re.escape(name)}(?![\w.\[`(])", lambda found: rename(found[0]), value)
    return value
