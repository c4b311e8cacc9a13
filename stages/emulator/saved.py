"""An emulator on disk: a JSON header and the leaves of an Equinox module, each held to its digest. No pickle.

Formats, every one of which loads for ever: 1, the first; 2, with the members' spread at the training rows, and flat
priors seen by their position; 3, with the domain of all training rows, and digests; 4, with all options of the
networks, those left to their defaults too, so that a default may change; 5, with the flow of a random simulator, and
written only where there is one; 6, with a domain that is an ellipsoid, and written only where it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from simfer.stages.emulator import trust
from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import OUTSIDE, Emulator, Outside, member_variance, predict
from simfer.stages.emulator.flow import Flow, blank_flow
from simfer.stages.emulator.header import Header, Leaf
from simfer.stages.emulator.networks import build_networks
from simfer.stages.emulator.scatter import Scatter, make_scatter, num_entries
from simfer.stages.errors import SimferError
from simfer.stages.model import pca as basis
from simfer.stages.settings import short_name
from simfer.stages.settings.names import ARCHITECTURES, AUTO

FORMAT = 6  # the newest
_WITH_FLOW, _WITHOUT_FLOW = 5, 4  # in a box
HEADER, LEAVES = "emulator.json", "emulator.eqx"
_KEYS = {"architecture", "options", "num_members", "num_rows", "dtype", "space", "layout", "transform", "floor"}
_KEYS_SINCE = {2: {"families"}, 3: {"digests"}}
_STORED_SINCE = {"spread": 2, "domain": 3}
_RESTORE = "train again, or restore it"
_DEFAULTS_OF_3 = {"residual": {"activation": "silu"}}  # those that have changed since


def save_emulator(emulator: Emulator, folder: Path) -> None:
    """Write an emulator into a folder: its header, and its arrays beside it."""
    leaves = BytesIO()
    eqx.tree_serialise_leaves(leaves, _arrays(emulator))
    in_a_box = _WITHOUT_FLOW if emulator.flow is None else _WITH_FLOW
    header = {"format": FORMAT if emulator.domain.is_ellipsoid else in_a_box} | emulator.header.to_json()
    digests = {LEAVES: _sha256(leaves.getvalue()), HEADER: _header_digest(header)}
    (folder / LEAVES).write_bytes(leaves.getvalue())
    (folder / HEADER).write_text(json.dumps(header | {"digests": digests}, indent=1))


def load_emulator(
    folder: Path | str, architecture: str | None = None, candidates: Sequence[str] = (), outside: Outside = "warn"
) -> Emulator:
    """Load an emulator without its config or its simulator.

    Args:
        folder: what holds its `emulator.json` and `emulator.eqx`; `simfer path CONFIG train` prints it.
        architecture: `"file.py:Name"` again, where it is one of your own: code is run only from a path that its user
            typed, never from one found in a file.
        candidates: architectures among which it was chosen (`"auto"`); those of your own by their path.
        outside: what comes of a prediction outside its training domain: "warn", "error", "nan" or "ignore" (see
            `Emulator`).

    Returns:
        The emulator, which gives the numbers that it gave when it was saved, by any later version of Simfer.

    Raises:
        SimferError: where the files cannot be trusted (truncated, edited) or read (a newer format, an architecture of
            your own that was not named, or JAX without 64 bits).

    Example:
        >>> import simfer
        >>> simfer.load_emulator("emulator")
        Emulator(3 x residual: alpha [1/time], beta [1/(predator time)], delta [1/(prey time)] -> ...)
    """
    if outside not in OUTSIDE:
        raise SimferError(f'got outside = "{outside}", expected one of {", ".join(OUTSIDE)}')
    folder = Path(folder)
    stored = _read_header(folder)
    header = _header(stored, folder)
    named = _architecture(header.architecture, architecture, candidates, folder)
    try:
        skeleton = _skeleton(header, named, stored["format"])
    except Exception as error:  # of a header that is well formed, and of no emulator
        raise SimferError(f"{folder / HEADER} describes no emulator ({_said(error)}); {_RESTORE}") from error
    try:
        leaves = (folder / LEAVES).read_bytes()
        _hold(stored, LEAVES, _sha256(leaves))
        arrays = _deserialised(leaves, _arrays(skeleton))
    except Exception as error:
        raise SimferError(f"{folder / LEAVES} does not fit its header ({error}); train again, or restore it") from error
    return _completed(eqx.combine(arrays, skeleton), stored["format"], outside)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def _header(stored: Mapping[str, Any], folder: Path) -> Header:
    """Return a header that may have been written by anyone."""
    try:
        upgraded = _upgraded(stored)
        if what := trust.wrong(upgraded, (folder / LEAVES).stat().st_size):
            raise ValueError(what)
        return Header.from_json(upgraded)
    except FileNotFoundError as error:
        raise SimferError(f"{folder / LEAVES} is missing; {_RESTORE}") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:  # a prior's among them
        raise SimferError(f"{folder / HEADER} is not what Simfer writes ({_said(error)}); {_RESTORE}") from error


def _upgraded(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a header of any format in the words of the newest."""
    header = dict(stored)
    if stored["format"] == 1:
        header |= {"families": ["normal"] * len(stored["space"]["order"]), "inputs": "whitened"}
    if stored["format"] <= 3:
        header["options"] = _DEFAULTS_OF_3.get(stored["architecture"], {}) | stored["options"]
    return header


def _deserialised(leaves: bytes, like: PyTree) -> PyTree:
    file = BytesIO(leaves)
    arrays = eqx.tree_deserialise_leaves(file, like, _read)
    if file.read(1):
        raise ValueError("it goes on after the last array")
    return arrays


def _read(file: Any, like: Any) -> Any:
    """Read one array, as Equinox would, which compiles a program for each shape."""
    if isinstance(like, (jax.Array, jax.ShapeDtypeStruct)):
        return jax.device_put(np.load(file, allow_pickle=False))
    return eqx.default_deserialise_filter_spec(file, like)


def _completed(emulator: Emulator, format: int, outside: Outside) -> Emulator:
    """Add what is not stored, or was not yet."""
    z, emulator = np.asarray(emulator.training_z), replace(emulator, outside=outside)
    if format < _STORED_SINCE["domain"]:
        emulator = replace(emulator, domain=Domain.of(z))
    if format < _STORED_SINCE["spread"]:
        emulator = replace(emulator, spread=jax.device_put(member_variance(predict(emulator, z))))
    return emulator


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = trust.read_json((folder / HEADER).read_bytes())
        if type(number := header["format"]) is not int or number < 1:
            raise ValueError(f"got format {str(number)[:60]!r}")
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise SimferError(f"{folder} holds no readable emulator: {error}") from error
    if number > FORMAT:
        raise SimferError(f"{folder} was written in format {number}; this simfer reads up to {FORMAT}. Update it")
    needed = _KEYS.union(*(keys for since, keys in _KEYS_SINCE.items() if number >= since))
    if missing := needed - set(header):
        raise SimferError(f"{folder / HEADER} lacks {', '.join(sorted(missing))}; train again, or restore it")
    try:
        _hold(header, HEADER, _header_digest(header))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SimferError(f"{folder / HEADER} was edited ({error}); train again, or restore it") from error
    if not jax.config.read("jax_enable_x64"):
        raise SimferError(
            f"{folder} scales its outputs in float64 and JAX runs in float32; "
            'call jax.config.update("jax_enable_x64", True) before anything else'
        )
    return header


def _hold(header: Mapping[str, Any], name: str, digest: str) -> None:
    """Raise ValueError where a file is not what was saved; the first formats had no digests."""
    if "digests" in header and header["digests"][name] != digest:
        raise ValueError(f"its digest is {digest[:12]}..., and {header['digests'][name][:12]}... when it was saved")


def _header_digest(header: Mapping[str, Any]) -> str:
    """Return the digest of what a header says, however it is laid out."""
    said = {name: value for name, value in header.items() if name != "digests"}
    return _sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _architecture(name: str, typed: str | None, candidates: Sequence[str], folder: Path) -> str:
    """Return the architecture's name in the table, or the path of its file as the user typed it."""
    if name in ARCHITECTURES:
        return name
    if typed in (None, AUTO):
        typed = {short_name(candidate): candidate for candidate in candidates if ":" in candidate}.get(name)
    if typed is None:
        raise SimferError(
            f"{folder} was trained with an architecture of your own, {name}; say where it is: "
            f'load_emulator(folder, architecture="file.py:{name.rpartition(":")[2]}")'
        )
    return typed


def assemble(
    header: Header,
    networks: PyTree,
    bases: Mapping[str, np.ndarray],
    *,
    domain: Domain,
    center: np.ndarray,
    whitening: np.ndarray,
    location: np.ndarray,
    scale: np.ndarray,
    random: Scatter | None = None,
    flow: Flow | None = None,
) -> Emulator:
    """Put an emulator together that predicts; the training rows and what they say of its error are still blank."""
    rows = _zeros(header.num_rows, header.layout.size)
    return Emulator(
        networks=networks,
        center=jax.device_put(center),
        whitening=jax.device_put(whitening),
        location=jax.device_put(location),
        scale=jax.device_put(scale),
        base_variance=_zeros(header.layout.size),
        training_z=_zeros(header.num_rows, header.space.size),
        training_y=rows,
        residuals=rows,
        spread=rows,
        domain=domain,
        header=header,
        bases={name: jax.device_put(basis) for name, basis in bases.items()},
        random=random,
        flow=flow,
    )


def _zeros(*shape: int) -> jax.Array:
    return jax.device_put(np.zeros(shape))  # of which nothing is compiled


def _skeleton(header: Header, architecture: str, format: int) -> Emulator:
    """Return an emulator whose arrays have their shapes, and are yet to be read."""
    size, layout = header.space.size, header.layout
    bounds = size if format < FORMAT else 1  # an ellipsoid's
    predicted = list(basis.short_slices(layout.slices, header.components).values())[-1].stop
    networks = _blank_networks(header, architecture, (size, predicted))
    if isinstance(networks, ClosedForm):
        assert header.leaves is not None
        networks = _blank(networks, header.leaves)
    blank = assemble(
        header,
        networks,
        {name: np.zeros((count, layout.outputs[name].size)) for name, count in header.components.items()},
        domain=Domain(_zeros(size), _zeros(size, size), _zeros(bounds), _zeros(bounds)),
        random=_blank_scatter(header, architecture),
        flow=None if header.flow is None else blank_flow(header.flow),
        center=np.zeros(size),
        whitening=np.zeros((size, size)),
        location=np.zeros(layout.size),
        scale=np.zeros(predicted),
    )
    later = [name for name, since in _STORED_SINCE.items() if format < since]
    return replace(blank, **dict[str, Any](dict.fromkeys(later)))


def _blank_networks(header: Header, architecture: str, sizes: tuple[int, int]) -> PyTree:
    """Return networks of shapes alone: to draw weights would take longer than all else."""
    context = {"layout": header.layout, "families": tuple(header.families)}
    return eqx.filter_eval_shape(
        lambda: build_networks(
            architecture,
            header.options,
            sizes,
            jax.random.split(jax.random.key(0), header.num_members),
            header.dtype,
            context,
        )
    )


def _blank(model: ClosedForm, leaves: Sequence[Leaf]) -> ClosedForm:
    """Return a model of the shapes that it had when it was fitted: some of its arrays are its training rows."""
    arrays, static = eqx.partition(model, _is_blank)
    blank = [jax.ShapeDtypeStruct(tuple(shape), dtype) for shape, dtype in leaves]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), blank), static)


def _blank_scatter(header: Header, architecture: str) -> Scatter | None:
    if header.num_scattered is None:
        return None
    size = header.num_scattered
    networks = _blank_networks(header, architecture, (header.space.size, num_entries(size)))
    return make_scatter(networks, np.zeros((header.layout.size, size)), header.num_rows)


def _is_blank(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _arrays(emulator: Emulator) -> PyTree:
    return eqx.filter(emulator, lambda leaf: eqx.is_array(leaf) or _is_blank(leaf))
