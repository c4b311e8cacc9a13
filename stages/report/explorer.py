"""The emulator to play with, in the page: sliders move its outputs, with their error, against the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from simfer.stages.artifacts.posterior import AT_DATA, POINTS, Posterior, scalars
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.labels import ERROR
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.model import pca as basis
from simfer.stages.model.likelihood import read_data
from simfer.stages.model.noise import in_outputs_unit
from simfer.stages.model.outputs import Output
from simfer.stages.report.elements import paragraph, section
from simfer.stages.report.material import Material
from simfer.stages.report.program import Program, Unknown, sizes
from simfer.stages.report.series import kept, narrowed

_HERE = Path(__file__).parent
_SCRIPTS = 90_000  # characters of what stands beside the numbers: scripts, sliders, data, draws
_NUMBERS = 1_200_000  # of an emulator: with more nothing is even traced
_OUTPUTS = 8  # of more, those alone that were measured are drawn
_RANGE = np.linspace(-3.0, 3.0, 121)  # of a prior, as a standard normal
_DRAWS = 60


def explorer(material: Material, room: int) -> str:
    """Return the section with the emulator in it, or words on why there is none.

    Args:
        material: What is there of the run.
        room: How many characters it may take.
    """
    if "train" not in material.latest:
        return ""
    title = "Explorer"
    try:
        emulator = load_emulator(material.latest["train"].folder, **material.loading, outside="ignore")
        shown = narrowed(emulator, kept(emulator, material.problem))
        program, note = _program(shown, room - _SCRIPTS)
    except Exception as error:  # the page is there all the same
        return section("explorer", title, paragraph(f"The emulator could not be put into this page: {error}", "note"))
    if program is None:
        return section("explorer", title, paragraph(note, "note"))
    infer = material.latest.get("infer")
    tree = Posterior.load(infer.folder).tree(but=AT_DATA) if infer else None
    data = {
        "program": program,
        "parameters": _parameters(emulator, material, tree),
        "outputs": _outputs(emulator, shown, material),
        "draws": _draws(emulator, tree),
        "error": ERROR if any(name.endswith(ERROR) for name in program["outputs"]) else "",
    }
    bar = "; the bar below it is where the posterior lies (90 %)" if tree is not None else ""
    said = (
        "The saved emulator, evaluated in this page. Each slider goes over its parameter's prior, from three standard "
        f"deviations below its median to three above{bar}. Bands are two standard deviations of the emulator's error "
        "to either side. Below each slider stands how far its parameter alone moves the outputs." + note
    )
    scripts = (_HERE / "program.js").read_text("utf-8") + (_HERE / "explorer.js").read_text("utf-8")
    # In a script "</" would end it, wherever it stands.
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return section(
        "explorer",
        title,
        paragraph(said),
        '<div id="play"></div><noscript><p class="note">It needs JavaScript.</p></noscript>',
        f'<script type="application/json" id="emulator">{text}</script><script>{scripts}</script>',
    )


def _program(emulator: Emulator, room: int) -> tuple[dict[str, Any] | None, str]:
    """Return the program of an emulator, with its error if there is room; or None, and why there is none."""
    reasons = []
    for function, note in (
        (_with_error, ""),
        (_mean, " The error is left out: it takes more numbers than a page has room for."),
    ):
        try:
            program = _traced(emulator, function, room)
        except Unknown as unknown:
            reasons.append(f"its architecture, {emulator.header.architecture}, does what the page cannot do: {unknown}")
            continue
        if program is not None:
            return program, note
        reasons.append("it holds more numbers than a page has room for")
    return None, f"The emulator cannot be asked in this page: {reasons[-1]}. Python can: `simfer.load(...).emulator`."


def _traced(
    emulator: Emulator, function: Callable[[Emulator, Any], Mapping[str, Any]], room: int
) -> dict[str, Any] | None:
    if sum(leaf.size for leaf in jax.tree.leaves(emulator.bases)) > _NUMBERS or emulator.layout.size > _NUMBERS:
        return None
    program = Program.of(lambda z: function(emulator, z), emulator.space.size)
    return program if sizes(program) <= room else None


def _with_error(emulator: Emulator, z: Any) -> Mapping[str, Any]:
    return emulator.everything_at(z)


def _mean(emulator: Emulator, z: Any) -> Mapping[str, Any]:
    if not isinstance(emulator.networks, ClosedForm):
        return emulator.mean_at(z)
    short = emulator.scale * emulator.networks(emulator.network_input(z))
    return emulator.natural(emulator.location + basis.expand(short, emulator.layout.slices, emulator.bases))


def _parameters(emulator: Emulator, material: Material, tree: xr.DataTree | None) -> list[dict[str, Any]]:
    """Return each parameter with its values along its slider, and where on it the posterior lies."""
    space, shown = emulator.space, []
    numbers = {} if tree is None or POINTS in tree else scalars(tree["posterior"].to_dataset())
    for at, (name, prior) in enumerate(space.priors.items()):
        steps = np.linspace(0.0, 1.0, 121) if prior.periodic else _RANGE
        points = np.zeros((len(steps), space.size))
        points[:, space.places[name]] = _components(steps, prior.periodic)
        values = space.table(points)[:, at]
        if prior.periodic:
            values = prior.arguments["low"] + steps * (prior.arguments["high"] - prior.arguments["low"])
        one = {
            "name": name,
            "unit": prior.unit,
            "at": [space.places[name].start, space.places[name].stop],
            "steps": steps.tolist(),
            "values": values.tolist(),
        }
        if name in numbers:
            drawn = np.asarray(numbers[name]).ravel()
            one["posterior"] = np.interp(np.quantile(drawn, [0.05, 0.5, 0.95]), values, steps).tolist()
        shown.append(one)
    return shown


def _components(steps: np.ndarray, periodic: bool) -> np.ndarray:
    if not periodic:
        return steps[:, None]
    return np.sqrt(2.0) * np.stack([np.cos(2 * np.pi * steps), np.sin(2 * np.pi * steps)], axis=1)


def _outputs(emulator: Emulator, shown_of: Emulator, material: Material) -> list[dict[str, Any]]:
    """Return each output with its coordinates and its data; those that were measured first."""
    own = bool(material.problem.infer.model)  # whose data are columns of its own
    noise, data = material.problem.noise, {} if own else read_data(material.problem, emulator.layout).series
    shown, series = [], {name: in_outputs_unit(noise[name], each) for name, each in data.items()}
    for name, output in shown_of.layout.outputs.items():
        one: dict[str, Any] = {
            "name": name,
            "unit": output.unit,
            "dims": [
                [dim.rpartition(".")[2], emulator.units.get(dim, ""), np.asarray(output.coords[dim], float).tolist()]
                for dim in output.dims
            ],
            "log": bool({name, name.rpartition(".")[2]} & set(material.problem.plots.log)),
            "series": int(np.prod(emulator.layout.outputs[name].shape[:-1])),
            "along": bool(output.dims) and output.dims[-1].rpartition(".")[2] in material.problem.plots.log,
            "offset": getattr(noise.get(name), "offset_scale", None) is not None,
        }
        if name in series:
            places = _places(emulator.layout.outputs[name], series[name].index)
            there = np.ones(len(series[name].values), bool)
            for dim, place in zip(output.dims[:-1], places, strict=False):
                there &= np.isin(place, np.asarray(output.coords[dim], float))
            values = series[name].values[there].tolist()
            one["data"] = {"at": [place[there].tolist() for place in places], "values": values}
        shown.append(one)
    measured = [one for one in shown if "data" in one]
    return measured + [one for one in shown if "data" not in one and (not measured or len(shown) <= _OUTPUTS)]


def _places(output: Output, index: Int[np.ndarray, " n"]) -> list[Float[np.ndarray, " n"]]:
    """Return where along each dimension data lie."""
    at = np.unravel_index(index, output.shape) if output.dims else ()
    return [np.asarray(output.coords[dim], float)[i] for dim, i in zip(output.dims, at, strict=True)]


def _draws(emulator: Emulator, tree: xr.DataTree | None) -> list[list[float]]:
    """Return some draws of the posterior, as the sliders' places."""
    if tree is None:
        return []
    group = POINTS if POINTS in tree else "unconstrained_posterior"
    z = np.asarray(tree[group].to_dataset()["z"])
    z = z.reshape(-1, z.shape[-1])[:, : emulator.space.size]
    return np.round(z[np.linspace(0, len(z) - 1, min(_DRAWS, len(z))).astype(int)], 5).tolist()
