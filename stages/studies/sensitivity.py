"""Beside the chain: which parameter moves which output, over the prior, as the emulator has it.

Sobol's indices share an output's variance over the prior out among the parameters. So the emulator must be the one that
was trained over the prior, that of round 0: one that was refined is right near its data alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.stats import norm

from simfer.stages import plots
from simfer.stages.artifacts.netcdf import write_netcdf
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.errors import StageError
from simfer.stages.model.outputs import Status
from simfer.stages.progress import Progress
from simfer.stages.settings import Sensitivity, SensitivityConfig
from simfer.stages.simulate import design
from simfer.stages.studies.influence import Found, analyse, mean_scatter
from simfer.stages.studies.sobol import INDICES, Estimate
from simfer.stages.summary import Summary

SENSITIVITY = "sensitivity.nc"
_MOST_ERROR, _MOST_SAMPLING_SD, _MOST_FAILED = 0.1, 0.05, 0.01  # beyond which a warning is due


def run(config: SensitivityConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Estimate every output's Sobol indices, at each coordinate and of all together, and their bounds by gradients."""
    emulator = load_emulator(inputs["emulator"][0], config.architecture, config.candidates)
    settings = config.sensitivity
    if dependent := emulator.space.dependent:
        what = "shares of the variance are those of independent parameters; give it a prior of numbers"
        raise StageError(f"{', '.join(dependent)}: its prior depends on others, and {what}")
    if around := emulator.space.periodic:
        raise StageError(f"{', '.join(around)}: the share of what is periodic is not estimated; make it a fixed number")
    z = design.saltelli(settings.num_points, emulator.space.size, settings.seed)
    found = analyse(emulator, z, settings, progress)
    write_netcdf(_tree(emulator, found, settings), folder / SENSITIVITY)
    simulations = Simulations.load(inputs["simulations"][0])
    units = {str(dim): at.attrs.get("units", "") for dim, at in simulations.to_xarray().coords.items()}
    facts = {
        "over": "the prior, by the emulator of round 0 (a refined one knows its data's surroundings alone)",
        "emulator_evaluations": z.shape[0] * z.shape[1],
        "pm": f"half the width of a {100 * settings.level:g} % interval, for sampling and the emulator's error",
        "file": SENSITIVITY,
    }
    return {
        "facts": facts,
        "tables": {
            "share of the variance that is each parameter's": _rows(found, emulator, settings),
            "outputs": _outputs(found, emulator, z, settings),
        },
        "warnings": list(_warnings(emulator, found, simulations)),
        "pictures": _draw(folder, emulator, found, settings, units),
    }


def _rows(found: Mapping[str, Found], emulator: Emulator, settings: Sensitivity) -> list[dict[str, Any]]:
    """Tabulate the indices of whole outputs, the parameter that moves each most on top."""
    names, quantile = emulator.space.names, norm.ppf(0.5 + settings.level / 2)

    def row(output: str, i: int) -> dict[str, Any]:
        first, total, at_least, at_most = (found[output].together[index] for index in INDICES)
        return {
            "output": output,
            "parameter": names[i],
            "first": float(first.value[i, 0]),
            "first_pm": float(quantile * first.sd[i, 0]),
            "total": float(total.value[i, 0]),
            "total_pm": float(quantile * total.sd[i, 0]),
            "first_at_least": float(at_least.value[i, 0]),
            "total_at_most": float(at_most.value[i, 0]),
        }

    order = {name: np.argsort(-each.together["total"].value[:, 0], kind="stable") for name, each in found.items()}
    return [row(output, i) for output in found for i in order[output]]


def _outputs(
    found: Mapping[str, Found], emulator: Emulator, z: Float[np.ndarray, "n designs size"], settings: Sensitivity
) -> list[dict[str, Any]]:
    """Tabulate what is nobody's alone: interactions, the emulator's error, a random simulator's scatter."""
    rows = []
    for name, at in emulator.layout.slices.items():
        together, output = found[name].together, emulator.layout.outputs[name]
        row: dict[str, Any] = {
            "output": name,
            "scale": _scale(emulator, name, settings) or output.unit or "its own",
            "interactions": float(1.0 - together["first"].value.sum()),
            "emulator_error": found[name].error,
        }
        if emulator.random is not None and settings.scale == "transformed":
            scatter = mean_scatter(emulator, z)[at].sum()
            row["scatter"] = float(scatter / (scatter + found[name].variance))
        rows.append(row)
    return rows


def _warnings(emulator: Emulator, found: Mapping[str, Found], simulations: Simulations) -> Iterator[str]:
    for name, each in found.items():
        if each.variance == 0:
            yield f"{name} does not vary over the prior: it has no indices"
        elif each.error > _MOST_ERROR:
            yield (
                f"{name}: the emulator's error is {100 * each.error:.0f} % of the variance that is shared out here, "
                "and the intervals are as wide; more runs (simulate.num_simulations) or longer training narrow them"
            )
        elif max(np.max(each.together[i].sampling_sd) for i in ("first", "total")) > _MOST_SAMPLING_SD:
            yield f"{name}: sampling alone makes the intervals wide; take more points (sensitivity.num_points)"
    if emulator.random is not None:
        yield "the simulator is random: these are shares of the variance of its mean; its scatter is no parameter's"
    failed = np.mean(simulations.endings()[1] != Status.OK)
    if failed > _MOST_FAILED:
        yield f"{100 * failed:.1f} % of the simulations over the prior failed: there the emulator extrapolates"


def _tree(emulator: Emulator, found: Mapping[str, Found], settings: Sensitivity) -> xr.DataTree:
    """Gather all indices: those of whole outputs at the root, those at each coordinate in a group for each output."""
    names, outputs = emulator.space.names, emulator.layout.outputs
    whole = {
        key: (
            ("output", "parameter"),
            np.stack([_columns(each.together, settings)[key][:, 0] for each in found.values()]),
        )
        for key in _columns(next(iter(found.values())).together, settings)
    }
    attributes = {"level": settings.level, "num_points": settings.num_points, "scale": settings.scale}
    root = xr.Dataset(whole, {"output": list(found), "parameter": names}, attributes)
    groups = {"/": root}
    for name, each in found.items():
        output = outputs[name]
        values = {
            key: (("parameter", *output.dims), value.reshape(len(names), *output.shape))
            for key, value in _columns(each.each, settings).items()
        }
        coords = {"parameter": names} | {dim: output.coords[dim] for dim in output.dims}
        groups[name] = xr.Dataset(values, coords, {"unit": output.unit, "transform": emulator.transform[name]})
    return xr.DataTree.from_dict(groups)


def _columns(indices: Mapping[str, Estimate], settings: Sensitivity) -> dict[str, Float[np.ndarray, "size n"]]:
    quantile = norm.ppf(0.5 + settings.level / 2)
    columns: dict[str, Float[np.ndarray, "size n"]] = {}
    for name, (value, sampling_sd, emulator_sd) in indices.items():
        half = quantile * np.hypot(sampling_sd, emulator_sd)
        columns |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
        columns |= {f"{name}_sampling_sd": sampling_sd, f"{name}_emulator_sd": emulator_sd}
    return columns


def _draw(
    folder: Path, emulator: Emulator, found: Mapping[str, Found], settings: Sensitivity, units: Mapping[str, str]
) -> list[str]:
    parameters = [f"${prior.label}$" if prior.label else name for name, prior in emulator.space.priors.items()]
    shown = [_influence(emulator, name, found[name], settings, units) for name in found]
    series = [one for one in shown if len(one.dims) == 1]
    fields = [one for one in shown if len(one.dims) == 2]
    plots.influences(folder / "sensitivity.png", shown, parameters, settings.level)
    pictures = ["sensitivity.png"]
    for draw, some in ((plots.influences_along, series), (plots.influences_over, fields)):
        if some:
            pictures.append(f"sensitivity_{'along' if some is series else 'maps'}.png")
            draw(folder / pictures[-1], some, parameters)
    return pictures


def _influence(
    emulator: Emulator, name: str, found: Found, settings: Sensitivity, units: Mapping[str, str]
) -> plots.Influence:
    output, quantile = emulator.layout.outputs[name], norm.ppf(0.5 + settings.level / 2)
    first, total = (found.together[index] for index in ("first", "total"))
    scale, dims = _scale(emulator, name, settings), [dim for dim in output.dims if len(output.coords[dim]) > 1]
    shape = tuple(len(output.coords[dim]) for dim in dims)
    return plots.Influence(
        output=f"{scale} of {name}" if scale else name,
        first=first.value[:, 0],
        first_pm=quantile * first.sd[:, 0],
        total=total.value[:, 0],
        total_pm=quantile * total.sd[:, 0],
        dims={f"{dim} [{units[dim]}]" if units.get(dim) else dim: np.asarray(output.coords[dim]) for dim in dims},
        first_each=found.each["first"].value.reshape(-1, *shape),
        total_each=found.each["total"].value.reshape(-1, *shape),
    )


def _scale(emulator: Emulator, name: str, settings: Sensitivity) -> str:
    transform = str(emulator.transform[name])
    return "" if settings.scale == "natural" or transform == "none" else transform
