"""Which series of outputs over several dimensions a page shows, and an emulator that knows those alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.model.likelihood import read_data
from simfer.stages.model.outputs import Layout
from simfer.stages.settings import Problem

_SERIES = 6  # of an output, along its last dimension
Kept = Mapping[str, Sequence[Int[np.ndarray, " n"]]]  # along each dimension of an output


def kept(emulator: Emulator, problem: Problem) -> Kept:
    """Return which of an output's series are shown, where components would take room for each of its values.

    Those with data, along the last dimension.
    """
    shown = {}
    series = {} if problem.infer.model else read_data(problem, emulator.layout).series
    for name in emulator.bases:
        output = emulator.layout.outputs[name]
        if len(output.dims) < 2:
            continue
        at = np.unravel_index(series[name].index if name in series else np.arange(output.size), output.shape)
        some = [np.unique(each) for each in at[:-1]]
        few = [each[np.unique(np.linspace(0, len(each) - 1, _SERIES).astype(int))] for each in some]
        shown[name] = [*few, np.arange(output.shape[-1])]
    return shown


def narrowed(emulator: Emulator, shown: Kept) -> Emulator:
    """Return an emulator that knows outputs with components at some of their places alone, and costs less there."""
    if not shown or emulator.random is not None:
        return emulator
    outputs, index, bases = dict(emulator.layout.outputs), [], dict(emulator.bases)
    for name, at in emulator.layout.slices.items():
        places = np.arange(at.start, at.stop)
        if name in shown:
            output = outputs[name]
            coords = {dim: np.asarray(output.coords[dim])[i] for dim, i in zip(output.dims, shown[name], strict=True)}
            outputs[name] = replace(output, coords=coords)
            places = places.reshape(output.shape)[np.ix_(*shown[name])].ravel()
            bases[name] = emulator.bases[name][:, places - at.start]
        index.append(places)
    flat = np.concatenate(index)
    header = replace(emulator.header, layout=Layout(outputs))
    location, variance = emulator.location[flat], emulator.base_variance[flat]
    return replace(emulator, location=location, base_variance=variance, bases=bases, header=header)
