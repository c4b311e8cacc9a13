"""An emulator on disk: a JSON header and the leaves of an Equinox module, each held to its digest. No pickle.

Formats, every one of which loads for ever: 1, the first; 2, with the members' spread at the training rows, and flat
priors seen by their position; 3, with the domain of all training rows, and digests; 4, with all options of the
networks, those left to their defaults too, so that a default may change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.emulator import OUTSIDE, Emulator, Outside, member_variance, predict
from simfer.stages.emulator.networks import build_networks, default_options
from simfer.stages.emulator.scatter import Scatter, make_scatter, num_entries
from simfer.stages.errors import SimferError
from simfer.stages.model import pca as basis
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.settings import short_name
from simfer.stages.settings.names import ARCHITECTURES, AUTO

FORMAT = 4
HEADER, LEAVES = "emulator.json", "emulator.eqx"
_KEYS = {"architecture", "options", "num_members", "num_rows", "dtype", "space", "layout", "transform", "floor"}
_KEYS_SINCE = {2: {"families"}, 3: {"digests"}}
_STORED_SINCE = {"spread": 2, "domain": 3}
_DEFAULTS_OF_3 = {"residual": {"activation": "silu"}}  # those that have changed since
_NUM_ROWS = 4096  # training rows kept: where chains may start, the domain's edge, and the error near given data
_ROW_BYTES = 2**25  # or as many of them as this allows


def save_emulator(emulator: Emulator, folder: Path) -> None:
    """Write an emulator into a folder: its header, and its arrays beside it."""
    leaves = BytesIO()
    eqx.tree_serialise_leaves(leaves, _arrays(emulator))
    header = emulator.header | {"format": FORMAT}
    digests = {LEAVES: _sha256(leaves.getvalue()), HEADER: _header_digest(header)}
    (folder / LEAVES).write_bytes(leaves.getvalue())
    (folder / HEADER).write_text(json.dumps(header | {"digests": digests}, indent=1))


def load_emulator(
    folder: Path | str, architecture: str | None = None, candidates: Sequence[str] = (), outside: Outside = "warn"
) -> Emulator:
    """Load an emulator without its config or its simulator.

    `outside` says what comes of a prediction outside its training domain: "warn", "error", "nan" or "ignore" (see
    `Emulator`). One of a user's own architecture needs `architecture = "file.py:Name"` again: code is run only from
    a path that its user typed, never from one found in a file; where it was chosen ("auto"), `candidates` may hold that
    path. Raises SimferError where the file cannot be trusted
    (truncated, edited) or read (a newer format, or JAX without 64 bits).
    """
    if outside not in OUTSIDE:
        raise SimferError(f'got outside = "{outside}", expected one of {", ".join(OUTSIDE)}')
    folder = Path(folder)
    header = _read_header(folder)
    skeleton = _skeleton(_upgraded(header), _architecture(header["architecture"], architecture, candidates, folder))
    try:
        leaves = (folder / LEAVES).read_bytes()
        _hold(header, LEAVES, _sha256(leaves))
        arrays = _deserialised(leaves, _arrays(skeleton))
    except Exception as error:
        raise SimferError(f"{folder / LEAVES} does not fit its header ({error}); train again, or restore it") from error
    return _completed(eqx.combine(arrays, skeleton), outside)


def _upgraded(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return a header in today's words."""
    first = {"families": ["normal"] * len(header["space"]["order"]), "inputs": "whitened"}
    found = (first if header["format"] == 1 else {}) | {k: v for k, v in header.items() if k != "digests"}
    if header["format"] <= 3:
        found["options"] = _DEFAULTS_OF_3.get(header["architecture"], {}) | header["options"]
    return found


def _deserialised(leaves: bytes, like: PyTree) -> PyTree:
    file = BytesIO(leaves)
    arrays = eqx.tree_deserialise_leaves(file, like)
    if file.read(1):
        raise ValueError("it goes on after the last array")
    return arrays


def _completed(emulator: Emulator, outside: Outside) -> Emulator:
    """Add what is not stored, or was not yet."""
    z, emulator = np.asarray(emulator.training_z), replace(emulator, outside=outside)
    if emulator.header["format"] < _STORED_SINCE["domain"]:
        emulator = replace(emulator, domain=Domain.of(z))
    if emulator.header["format"] < _STORED_SINCE["spread"]:
        emulator = replace(emulator, spread=jnp.asarray(member_variance(predict(emulator, z))))
    return emulator


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((folder / HEADER).read_text())
        number = int(header["format"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise SimferError(f"{folder} holds no readable emulator: {error}") from error
    if number > FORMAT:
        raise SimferError(f"{folder} was written in format {number}; this simfer reads up to {FORMAT}. Update it")
    needed = _KEYS.union(*(keys for since, keys in _KEYS_SINCE.items() if number >= since))
    if missing := needed - set(header):
        raise SimferError(f"{folder / HEADER} lacks {', '.join(sorted(missing))}; train again, or restore it")
    try:
        _hold(header, HEADER, _header_digest(header))
    except (ValueError, LookupError, TypeError) as error:
        raise SimferError(f"{folder / HEADER} was edited ({error}); train again, or restore it") from error
    if not jax.config.read("jax_enable_x64"):
        raise SimferError(
            f"{folder} scales its outputs in float64 and JAX runs in float32; "
            'call jax.config.update("jax_enable_x64", True) before anything else'
        )
    return header


def _hold(header: Mapping[str, Any], name: str, found: str) -> None:
    """Raise ValueError where a file is not what was saved; the first formats had no digests."""
    if "digests" in header and header["digests"][name] != found:
        raise ValueError(f"its digest is {found[:12]}..., and {header['digests'][name][:12]}... when it was saved")


def _header_digest(header: Mapping[str, Any]) -> str:
    """Return the digest of what a header says, however it is laid out."""
    said = {name: value for name, value in header.items() if name != "digests"}
    return _sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _architecture(name: str, given: str | None, candidates: Sequence[str], folder: Path) -> str:
    if name in ARCHITECTURES:
        return name
    if given in (None, AUTO):
        given = {short_name(each): each for each in candidates if ":" in each}.get(name)
    if given is None:
        raise SimferError(
            f"{folder} was trained with an architecture of your own, {name}; say where it is: "
            f'load_emulator(folder, architecture="file.py:{name.rpartition(":")[2]}")'
        )
    return given


def make_header(
    *,
    space: Space,
    layout: Layout,
    transform: Mapping[str, str],
    floor: float,
    families: Sequence[str],
    networks: PyTree,
    architecture: str,
    options: Mapping[str, Any],
    dtype: str,
    num_members: int,
    num_rows: int,
    seconds: float,
    components: Mapping[str, int],
    coordinate_units: Mapping[str, str],
) -> dict[str, Any]:
    """Gather what is needed to rebuild an emulator, and to know what it was trained on."""
    return {
        "format": FORMAT,
        "architecture": short_name(architecture),
        "options": default_options(architecture) | dict(options),
        "num_members": num_members,
        "num_rows": min(num_rows, _NUM_ROWS, max(_ROW_BYTES // (8 * layout.size), 64)),
        "dtype": dtype,
        "training_seconds": seconds,
        "space": space.to_json(),
        "layout": layout.to_json(),
        "transform": dict(transform),
        "floor": floor,
        "families": list(families),
        **({"leaves": _shapes(networks)} if isinstance(networks, ClosedForm) else {}),
        **({"pca": dict(components)} if components else {}),
        "coordinate_units": dict(coordinate_units),
        "versions": {name: version(name) for name in ("jax", "equinox")},
    }


def assemble(
    header: dict[str, Any],
    networks: PyTree,
    bases: Mapping[str, np.ndarray],
    *,
    domain: Domain,
    random: Scatter | None = None,
    **arrays: np.ndarray,
) -> Emulator:
    """Put an emulator together from its header, its networks and its arrays.

    Of rows beyond `num_rows` the last ones are kept: those of a later round lie near the data.
    """
    last = slice(-header["num_rows"], None)
    return Emulator(
        networks=networks,
        center=jnp.asarray(arrays["center"]),
        whitening=jnp.asarray(arrays["whitening"]),
        location=jnp.asarray(arrays["location"]),
        scale=jnp.asarray(arrays["scale"]),
        base_variance=jnp.asarray(arrays["base_variance"]),
        training_z=jnp.asarray(arrays["training_z"][last]),
        training_y=jnp.asarray(arrays["training_y"][last]),
        residuals=jnp.asarray(arrays["residuals"][last]),
        spread=jnp.asarray(arrays["spread"][last]),
        domain=domain,
        header_json=json.dumps(header, indent=1),
        bases={name: jnp.asarray(each) for name, each in bases.items()},
        random=random,
    )


def _skeleton(header: dict[str, Any], architecture: str) -> Emulator:
    space, layout = Space.from_json(header["space"]), Layout.from_json(header["layout"])
    counts = header.get("pca", {})
    predicted = list(basis.short_slices(layout.slices, counts).values())[-1].stop
    given = {"layout": layout, "families": tuple(header["families"])}
    networks = _blank_networks(header, architecture, (space.size, predicted), given)
    if isinstance(networks, ClosedForm):
        networks = _blank(networks, header["leaves"])
    blank = assemble(
        header,
        networks,
        {name: np.zeros((count, layout.outputs[name].size)) for name, count in counts.items()},
        domain=Domain(*map(jnp.zeros, ((space.size,), (space.size, space.size), (space.size,), (space.size,)))),
        random=_blank_scatter(header, architecture, given),
        center=np.zeros(space.size),
        whitening=np.zeros((space.size, space.size)),
        location=np.zeros(layout.size),
        scale=np.zeros(predicted),
        base_variance=np.zeros(layout.size),
        training_z=np.zeros((header["num_rows"], space.size)),
        training_y=np.zeros((header["num_rows"], layout.size)),
        residuals=np.zeros((header["num_rows"], layout.size)),
        spread=np.zeros((header["num_rows"], layout.size)),
    )
    later = [name for name, since in _STORED_SINCE.items() if header["format"] < since]
    return replace(blank, **dict[str, Any](dict.fromkeys(later)))


def _shapes(model: ClosedForm) -> list[tuple[list[int], str]]:
    return [(list(leaf.shape), leaf.dtype.name) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


def _blank_networks(
    header: dict[str, Any], architecture: str, sizes: tuple[int, int], given: Mapping[str, Any]
) -> PyTree:
    """Return networks of shapes alone: to draw weights would take longer than all else."""
    return eqx.filter_eval_shape(
        lambda: build_networks(
            architecture,
            header["options"],
            sizes,
            jax.random.split(jax.random.key(0), header["num_members"]),
            header["dtype"],
            given,
        )
    )


def _blank(model: ClosedForm, shapes: Sequence[tuple[Sequence[int], str]]) -> ClosedForm:
    """Return a model of the shapes that it had when it was fitted: some of its arrays are its training rows."""
    arrays, static = eqx.partition(model, _is_blank)
    blank = [jax.ShapeDtypeStruct(tuple(shape), dtype) for shape, dtype in shapes]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), blank), static)


def _blank_scatter(header: dict[str, Any], architecture: str, given: Mapping[str, Any]) -> Scatter | None:
    if "num_scattered" not in header:
        return None
    size, sizes = header["num_scattered"], (len(header["space"]["order"]), num_entries(header["num_scattered"]))
    networks = _blank_networks(header, architecture, sizes, given)
    outputs = Layout.from_json(header["layout"]).size
    return make_scatter(networks, np.zeros((outputs, size)), header["num_rows"])


def _is_blank(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _arrays(emulator: Emulator) -> PyTree:
    return eqx.filter(emulator, lambda leaf: eqx.is_array(leaf) or _is_blank(leaf))
