"""The emulator: whiten the parameters, evaluate an ensemble of networks, undo scaling and transform, know the error."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from stages import basis
from stages.architectures import ARCHITECTURES
from stages.architectures.base import ClosedForm
from stages.artifacts import Layout
from stages.errors import SimferError
from stages.parameters import Space
from stages.plugins import resolve
from stages.scatter import Scatter, make_scatter, num_entries
from stages.settings import Train
from stages.transforms import TRANSFORMS

FORMAT = 2
HEADER, LEAVES = "emulator.json", "emulator.eqx"
_KEYS = {
    "architecture",
    "options",
    "num_members",
    "num_rows",
    "dtype",
    "space",
    "layout",
    "transform",
    "floor",
    "families",
}
_NUM_ROWS = 4096  # training rows kept: where chains may start, the domain's edge, and the error near given data
_ROW_BYTES = 2**25  # or as many of them as this allows


class Emulator(eqx.Module):
    """A trained ensemble of networks, or a model with an error of its own: named parameters in, named outputs out.

    Everything between is flat: `y` is the vector of all outputs in the order of `layout`, in their transformed scale.
    """

    networks: PyTree  # every leaf with a leading axis over the members; or one ClosedForm
    center: Float[Array, " size"]
    whitening: Float[Array, "size size"]
    location: Float[Array, " outputs"]
    scale: Float[Array, " predicted"]  # of what a network predicts: values, or coefficients of components
    base_variance: Float[Array, " outputs"]  # of the error, beyond the members' spread
    training_z: Float[Array, "rows size"]
    training_y: Float[Array, "rows outputs"]
    residuals: Float[Array, "rows outputs"]  # of the members that did not see the row
    spread: Float[Array, "rows outputs"]  # the members' variance about their mean there
    header_json: str = eqx.field(static=True)  # text, since what is static under jit must be hashable
    bases: dict[str, Float[Array, "components size"]]  # float64; of outputs that are predicted by components
    random: Scatter | None = None  # of a simulator that is

    @property
    def header(self) -> dict[str, Any]:
        """What the emulator was trained on and how, as plain data."""
        return _parsed(self.header_json).header

    @property
    def space(self) -> Space:
        """The parameters, their priors, and the map to whitened points."""
        return _parsed(self.header_json).space

    @property
    def layout(self) -> Layout:
        """How named outputs lie in the flat vector."""
        return _parsed(self.header_json).layout

    @property
    def transform(self) -> dict[str, Any]:
        """Each output's transform by name."""
        return self.header["transform"]

    def members(self, z: Float[Array, " size"]) -> Float[Array, "members outputs"]:
        """Return what each member predicts at a whitened point, in the transformed scale."""
        return self.location + basis.expand(self._short(z), self.layout.slices, self.bases)

    def _short(self, z: Float[Array, " size"]) -> Float[Array, "members predicted"]:
        x = self._input(z)
        if isinstance(self.networks, ClosedForm):
            return self.scale * self.networks.sigma_points(x)
        scaled = eqx.filter_vmap(lambda network: network(x))(self.networks)
        return self.scale * scaled.astype(self.location.dtype)

    def at(self, index: Int[np.ndarray, " n"]) -> Callable[[Float[Array, " size"]], Float[Array, "members n"]]:
        """Return `members` at some places of the flat vector; of outputs with components no others are computed."""
        if not self.bases:
            return lambda z: self.members(z)[:, jnp.asarray(index)]
        location, columns = self.location[index], jnp.asarray(basis.columns(index, self.layout.slices, self.bases))
        return lambda z: location + self._short(z) @ columns

    def _input(self, z: Float[Array, " size"]) -> Float[Array, " size"]:
        return (self.whitening @ (self.space.inputs(z) - self.center)).astype(self.header["dtype"])

    def scatter_factor(self, z: Float[Array, " size"]) -> Float[Array, "factors outputs"]:
        """Return F with F^T F the covariance of a random simulator's scatter, in the transformed scale."""
        return jnp.zeros((0, len(self.location))) if self.random is None else self.random.factor(self._input(z))

    def natural(self, y: Float[Array, "... outputs"]) -> dict[str, Float[Array, "..."]]:
        """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""
        return natural_outputs(y, self.layout, self.transform)

    def __call__(self, parameters: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Predict every output for one set of named parameters, in their own units. Differentiable; `vmap` for many.

        A random simulator's outputs are predicted by their mean in the transformed scale (under a log, the median).
        """
        return self.natural(self.members(self._point(parameters)).mean(axis=0))

    def error(self, parameters: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Estimate the standard deviation of the prediction's error, in the outputs' own units (first order)."""
        z = self._point(parameters)
        members = self.members(z)
        variance = self.variance(members)
        if self.random is not None:
            variance += self.random.excess @ self.scatter_factor(z) ** 2
        return self._natural_sd(members.mean(axis=0), variance)

    def scatter(self, parameters: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Return the standard deviation of a random simulator's outputs, in their own units (first order)."""
        z = self._point(parameters)
        return self._natural_sd(self.members(z).mean(axis=0), (self.scatter_factor(z) ** 2).sum(axis=0))

    def sample(self, parameters: Mapping[str, Any], key: PRNGKeyArray) -> dict[str, Float[Array, "..."]]:
        """Draw what a random simulator may return; without its error, and of any other simulator its outputs."""
        z = self._point(parameters)
        factor = self.scatter_factor(z)
        return self.natural(self.members(z).mean(axis=0) + jax.random.normal(key, (len(factor),)) @ factor)

    def _natural_sd(
        self, mean: Float[Array, " outputs"], variance: Float[Array, " outputs"]
    ) -> dict[str, Float[Array, "..."]]:
        sd, shapes = jnp.sqrt(variance), self.layout.outputs
        return {
            name: (sd[at] * jnp.abs(TRANSFORMS[self.transform[name]].slope(mean[at]))).reshape(shapes[name].shape)
            for name, at in self.layout.slices.items()
        }

    def variance(self, members: Float[Array, "members outputs"]) -> Float[Array, " outputs"]:
        """Return the error's variance in the transformed scale: the members' spread, and what goes beyond it."""
        return (spread_factor(members) ** 2).sum(axis=0) + self.base_variance

    def _point(self, parameters: Mapping[str, Any]) -> Float[Array, " size"]:
        unknown = set(parameters) - set(self.space.names) - set(self.space.fixed)
        missing = set(self.space.names) - set(parameters)
        if unknown or missing:
            raise SimferError(
                f"got parameters {sorted(parameters)}, expected {self.space.names}"
                + (f" and, fixed when it was trained, {sorted(self.space.fixed)}" if self.space.fixed else "")
            )
        return self.space.whiten(parameters)


def spread_factor(members: Float[Array, "members outputs"]) -> Float[Array, "members outputs"]:
    """Return S with S^T S the covariance of the members about their mean (zero for a single member)."""
    return (members - members.mean(axis=0)) / np.sqrt(max(len(members) - 1, 1))


def natural_outputs(
    y: Float[Array, "... outputs"], layout: Layout, transform: Mapping[str, Any]
) -> dict[str, Float[Array, "..."]]:
    """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""
    return {
        name: TRANSFORMS[transform[name]].inverse(y[..., at]).reshape(*y.shape[:-1], *layout.outputs[name].shape)
        for name, at in layout.slices.items()
    }


class _Parsed(NamedTuple):
    header: dict[str, Any]
    space: Space
    layout: Layout


@lru_cache(maxsize=64)
def _parsed(text: str) -> _Parsed:
    header = json.loads(text)
    return _Parsed(header, Space.from_json(header["space"]), Layout.from_json(header["layout"]))


def predict(
    emulator: Emulator, z: Float[np.ndarray, "n size"], index: Int[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "n members outputs"]:
    """Evaluate every member at many whitened points, at all places of the flat vector or at some."""
    if index is not None and emulator.bases:
        members = emulator.at(index)
        return np.asarray(jax.jit(lambda z: jax.lax.map(members, z, batch_size=256))(jnp.asarray(z)))
    everywhere = np.asarray(_members(emulator, jnp.asarray(z)))
    return everywhere if index is None else everywhere[:, :, index]


@eqx.filter_jit
def _members(emulator: Emulator, z: Float[Array, "n size"]) -> Float[Array, "n members outputs"]:
    return jax.lax.map(emulator.members, z, batch_size=256)


def unexplained(
    residuals: Float[np.ndarray, "rows outputs"],
    spread: Float[np.ndarray, "rows outputs"],
    weights: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " outputs"]:
    """Return which fraction of the cross-validated variance goes beyond the members' own spread (weighted means).

    Where NUTS stands, the spread there is added to this rest: the sum is the cross-validated error on average, and
    grows away from the training rows.
    """
    return unexplained_share(weights @ residuals**2, weights @ spread)


def unexplained_share(
    squared: Float[np.ndarray, " outputs"], spread: Float[np.ndarray, " outputs"]
) -> Float[np.ndarray, " outputs"]:
    """Return which fraction of the mean squared residual goes beyond the members' mean variance."""
    return np.clip(1.0 - spread / np.maximum(squared, 1e-300), 0.0, 1.0)


def member_variance(members: Float[np.ndarray, "rows members outputs"]) -> Float[np.ndarray, "rows outputs"]:
    """Return the members' variance about their mean (zero for a single member)."""
    return members.var(axis=1, ddof=min(members.shape[1] - 1, 1))


def build_networks(
    architecture: str,
    options: Mapping[str, Any],
    sizes: tuple[int, int],
    keys: Array,
    dtype: str,
    given: Mapping[str, Any] | None = None,
) -> PyTree:
    """Build an ensemble: one network of the named architecture for each key, their leaves stacked; or one ClosedForm.

    `given` holds the `layout` and the `families`, for constructors that take them.
    """
    make = resolve(architecture, ARCHITECTURES)
    asked = {name: value for name, value in (given or {}).items() if name in inspect.signature(make).parameters}
    if issubclass(make, ClosedForm):
        return make(*sizes, key=keys[0], **asked, **options)
    networks = eqx.filter_vmap(lambda key: make(*sizes, key=key, **asked, **options))(keys)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, networks)


def network_options(train: Train) -> dict[str, Any]:
    """Return the options of the network that `train` names."""
    return train.options_for(inspect.signature(resolve(train.architecture, ARCHITECTURES)).parameters)


def save_emulator(emulator: Emulator, folder: Path) -> None:
    """Write an emulator: a JSON header, and Equinox leaves beside it. Nothing is pickled."""
    (folder / HEADER).write_text(emulator.header_json)
    eqx.tree_serialise_leaves(folder / LEAVES, _arrays(emulator))


def load_emulator(folder: Path | str, architecture: str | None = None) -> Emulator:
    """Load an emulator without its config or its simulator.

    One of a user's own architecture needs `architecture = "file.py:Name"` again: code is run only from a path that
    its user typed, never from one found in a file. Raises SimferError where the file cannot be trusted or read.
    """
    folder = Path(folder)
    header = _read_header(folder)
    name = architecture or _table_name(header["architecture"], folder)
    skeleton = _skeleton(header, name)
    try:
        with (folder / LEAVES).open("rb") as file:
            arrays = eqx.tree_deserialise_leaves(file, _arrays(skeleton))
            if file.read(1):
                raise ValueError("it goes on after the last array")
    except Exception as error:
        raise SimferError(f"{folder / LEAVES} does not fit its header ({error}); train again, or restore it") from error
    return eqx.combine(arrays, skeleton)


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads((folder / HEADER).read_text())
    except (OSError, ValueError) as error:
        raise SimferError(f"{folder} holds no readable emulator: {error}") from error
    if header.get("format", 0) > FORMAT:
        raise SimferError(f"{folder} was written in format {header['format']}; this simfer reads up to {FORMAT}")
    if missing := _KEYS - set(header):
        raise SimferError(f"{folder / HEADER} lacks {', '.join(sorted(missing))}; train again, or restore it")
    if not jax.config.read("jax_enable_x64"):
        raise SimferError(
            f"{folder} scales its outputs in float64 and JAX runs in float32; "
            'call jax.config.update("jax_enable_x64", True) before anything else'
        )
    return header


def _table_name(name: str, folder: Path) -> str:
    if name not in ARCHITECTURES:
        raise SimferError(
            f"{folder} was trained with an architecture of your own, {name}; say where it is: "
            f'load_emulator(folder, architecture="file.py:{name.rpartition(":")[2]}")'
        )
    return name


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
) -> dict[str, Any]:
    """Gather what is needed to rebuild an emulator, and to know what it was trained on."""
    own = ":" in architecture
    return {
        "format": FORMAT,
        "architecture": f"{Path(architecture.rpartition(':')[0]).name}:{architecture.rpartition(':')[2]}"
        if own
        else architecture,
        "options": dict(options),
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
        "versions": {name: version(name) for name in ("jax", "equinox")},
    }


def assemble(
    header: dict[str, Any],
    networks: PyTree,
    bases: Mapping[str, np.ndarray],
    *,
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
        header_json=json.dumps(header, indent=1),
        bases={name: jnp.asarray(each) for name, each in bases.items()},
        random=random,
    )


def _skeleton(header: dict[str, Any], architecture: str) -> Emulator:
    space, layout = Space.from_json(header["space"]), Layout.from_json(header["layout"])
    keys = jax.random.split(jax.random.key(0), header["num_members"])
    counts = header.get("pca", {})
    predicted = list(basis.short_slices(layout.slices, counts).values())[-1].stop
    given = {"layout": layout, "families": tuple(header["families"])}
    networks = build_networks(architecture, header["options"], (space.size, predicted), keys, header["dtype"], given)
    if isinstance(networks, ClosedForm):
        networks = _blank(networks, header["leaves"])
    return assemble(
        header,
        networks,
        {name: np.zeros((count, layout.outputs[name].size)) for name, count in counts.items()},
        random=_blank_scatter(header, architecture, keys),
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


def _shapes(model: ClosedForm) -> list[tuple[list[int], str]]:
    return [(list(leaf.shape), leaf.dtype.name) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


def _blank(model: ClosedForm, shapes: Sequence[tuple[Sequence[int], str]]) -> ClosedForm:
    """Return a model with blank arrays of the shapes that it had when it was fitted: some are its training rows."""
    arrays, static = eqx.partition(model, eqx.is_array)
    blank = [jnp.zeros(shape, dtype) for shape, dtype in shapes]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), blank), static)


def _blank_scatter(header: dict[str, Any], architecture: str, keys: Array) -> Scatter | None:
    if "num_scattered" not in header:
        return None
    size, sizes = header["num_scattered"], (len(header["space"]["order"]), num_entries(header["num_scattered"]))
    networks = build_networks(architecture, header["options"], sizes, keys, header["dtype"])
    outputs = Layout.from_json(header["layout"]).size
    return make_scatter(networks, np.zeros((outputs, size)), header["num_rows"])


def _arrays(emulator: Emulator) -> PyTree:
    return eqx.filter(emulator, eqx.is_array)
